"""Which executor computes a device's programs: the one asked for, or the fastest that is right.

Before an engine other than torch is used, a short self-test runs every program of the device in it
and in torch on the same random inputs. An engine that gives other numbers, or that fails, is named
and not used. Without a wish the fastest of the right ones is taken, by its seconds in the test.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from nptp_opt.errors import ExecutionError, last_lines
from nptp_opt.kernels.executors.program import TileProgram
from nptp_opt.kernels.executors.registry import EXECUTORS, Executor, Prepared, find

REFERENCE = "torch"
ROUNDS = 3
"""How often each program is timed; the shortest counts."""
BUDGET_S = 2.0
"""After so many seconds of timing no further round begins."""

Key = TypeVar("Key")


@dataclass(frozen=True)
class Chosen(Generic[Key]):
    """An executor's name and what it prepared; ``notes`` are what a user should be told."""

    name: str
    prepared: Mapping[Key, Prepared]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tested:
    """What the self-test found of an engine: seconds for all programs; ``fault`` says what is
    wrong with it, and is empty where nothing is."""

    seconds: float
    reference_s: float
    fault: str = ""


def choose(
    name: str | None,
    programs: Mapping[Key, TileProgram],
    weights: Mapping[str, Tensor],
    threads: int = 1,
) -> Chosen[Key]:
    """Prepare ``programs`` by the executor ``name``; None for the fastest that is right.

    Raises InputError for a name that is not known, ExecutionError for an engine that is missing or
    wrong. Weights are float32; torch's own threads are for the caller to set.
    """
    reference = _prepared(find(REFERENCE), programs, weights, threads)
    if name is not None:
        executor = find(name)
        if name == REFERENCE:
            return Chosen(name, reference)
        prepared = _prepared(executor, programs, weights, threads)
        fault = self_test(executor, prepared, reference, programs, rounds=0).fault
        if fault:
            raise ExecutionError(f"executor {name!r} is not used: {fault}")
        return Chosen(name, prepared, _told(name, prepared))
    return _fastest(programs, weights, threads, Chosen(REFERENCE, reference))


def prepare(
    name: str, programs: Mapping[Key, TileProgram], weights: Mapping[str, Tensor]
) -> Chosen[Key]:
    """Prepare ``programs`` by the executor ``name`` with one thread, and test nothing."""
    prepared = _prepared(find(name), programs, weights, 1)
    return Chosen(name, prepared, _told(name, prepared))


def _fastest(
    programs: Mapping[Key, TileProgram],
    weights: Mapping[str, Tensor],
    threads: int,
    reference: Chosen[Key],
) -> Chosen[Key]:
    best, best_s, notes = reference, math.inf, list[str]()
    others = [executor for executor in EXECUTORS.values() if executor.name != REFERENCE]
    for executor in (each for each in others if each.available and programs):
        try:
            prepared = _prepared(executor, programs, weights, threads)
            found = self_test(executor, prepared, reference.prepared, programs)
        except ExecutionError as error:
            notes.append(f"executor {executor.name!r} is not used: {error}")
            continue
        if found.fault:
            notes.append(f"executor {executor.name!r} is not used: {found.fault}")
        elif found.seconds < min(best_s, found.reference_s):
            best, best_s = Chosen(executor.name, prepared), found.seconds
    return Chosen(best.name, best.prepared, (*notes, *_told(best.name, best.prepared)))


def _prepared(
    executor: Executor,
    programs: Mapping[Key, TileProgram],
    weights: Mapping[str, Tensor],
    threads: int,
) -> dict[Key, Prepared]:
    opened = executor.open(weights, threads)
    return {key: opened.prepare(program) for key, program in programs.items()}


def _told(name: str, prepared: Mapping[Key, Prepared]) -> tuple[str, ...]:
    """One line about layers that the engine leaves to torch; nothing where there are none."""
    left = {layer: why for each in prepared.values() for layer, why in each.fallbacks.items()}
    if not left:
        return ()
    reasons = "; ".join(sorted(set(left.values())))
    return (f"executor {name!r} leaves {len(left)} layers to torch: {reasons}",)


def self_test(
    executor: Executor,
    prepared: Mapping[Key, Prepared],
    reference: Mapping[Key, Prepared],
    programs: Mapping[Key, TileProgram],
    *,
    rounds: int = ROUNDS,
) -> Tested:
    """Run all programs in both; with ``rounds`` above 0 time them, too, each in turn."""
    seconds = reference_s = 0.0
    end = time.perf_counter() + BUDGET_S
    with torch.inference_mode():
        for number, (key, program) in enumerate(programs.items()):
            inputs = random_inputs(program, number)
            pair = prepared[key], reference[key]
            fault = _fault(executor, *pair, inputs)
            if fault:
                return Tested(math.inf, math.inf, fault)
            times = [[math.inf], [math.inf]]
            for _ in range(rounds):
                for each, found in zip(pair, times, strict=True):
                    found.append(_timed(each, inputs))
                if time.perf_counter() > end:
                    break
            seconds, reference_s = seconds + min(times[0]), reference_s + min(times[1])
    return Tested(seconds, reference_s)


def random_inputs(program: TileProgram, seed: int = 0) -> dict[str, Tensor]:
    """Normally distributed float32 inputs of a program, by name."""
    random = torch.Generator().manual_seed(seed)
    return {value.name: torch.randn(value.shape, generator=random) for value in program.inputs}


def _timed(prepared: Prepared, inputs: Mapping[str, Tensor]) -> float:
    start = time.perf_counter()
    prepared.run(inputs)
    return time.perf_counter() - start


def _fault(
    executor: Executor, prepared: Prepared, reference: Prepared, inputs: Mapping[str, Tensor]
) -> str:
    """What is wrong with an engine's answer; empty where it is right."""
    expected = reference.run(inputs)
    try:
        found = prepared.run(inputs)
    except Exception as error:  # noqa: BLE001 - an engine may raise anything
        return f"it fails on {_names(expected)}: {type(error).__name__}: {last_lines(error)}"
    for name, values in expected.items():
        off = relative_error(found[name], values)
        if not off <= executor.capabilities.tolerance:
            return (
                f"in the self-test its {name!r} differs from torch's by {off:.3g} of the largest "
                f"value ({executor.capabilities.tolerance:g} is allowed)"
            )
    return ""


def _names(outputs: Mapping[str, Tensor]) -> str:
    return ", ".join(map(repr, outputs))


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Largest difference over the largest finite magnitude; infinite where NaN or infinities stand
    in other places, or the shape is another."""
    if found.shape != expected.shape:
        return math.inf
    same = (found == expected) | (found.isnan() & expected.isnan())
    off = torch.where(same, 0.0, found - expected).abs().nan_to_num(math.inf, math.inf)
    scale = expected.nan_to_num(0.0, 0.0, 0.0).abs()
    return float(off.max() / scale.max().clamp_min(1e-30)) if found.numel() else 0.0
