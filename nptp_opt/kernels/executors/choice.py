"""Which executor computes a device's programs: the one asked for, or the fastest that is right.

Before an engine other than torch is used, a short self-test runs every program of the device in it
and in torch on the same random inputs; of a program that rounds each layer alone, since what
follows on a value that takes the other of two steps differs, too (the whole is held roughly then).
An engine that gives other numbers, or that fails, is named and not used. Without a wish all are
timed on these inputs, and the fastest that is right is taken: slower ones are not tested. Where
torch is not installed there is no such test, which a note says; `verify` holds the programs of a
plan against the model on a machine that has torch.

What engines other than torch make of NaN and infinities is theirs: ONNX Runtime's max pooling
passes over some NaN, OpenVINO makes numbers of it. What torch prepared stays there for such inputs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

import numpy as np

from nptp_opt.errors import ExecutionError, last_lines
from nptp_opt.kernels.crops import Array
from nptp_opt.kernels.executors.program import Shape, TileProgram
from nptp_opt.kernels.executors.registry import EXECUTORS, Executor, Prepared, find
from nptp_opt.network.exact import Grid

REFERENCE = "torch"
STEPPED, STEPPED_SHARE, STEPPED_COUNT = 0.05, 0.1, 2
"""Of calls that round: so far off the largest value may all elements lie, or so many any how."""
STEPPED_MEAN = 0.1
"""Of a whole program that rounds: so far off may its elements be in the mean. What follows on
another step differs, too, in deep networks by up to a tenth of the largest value."""
ROUNDS = 3
"""How often each program is timed by each engine; the shortest counts."""
BUDGET_S = 2.0
"""After so many seconds of timing per engine no further round begins."""

UNTESTED = (
    "torch is not installed there, so the executor was not tested before it was used: "
    "`nptp-opt verify PLAN --executor NAME` proves its programs"
)

Key = TypeVar("Key")


@dataclass(frozen=True)
class Chosen(Generic[Key]):
    """An executor's name and what it prepared; ``notes`` are what a user should be told.

    ``reference`` is what torch prepared, empty where it is not installed or was not asked."""

    name: str
    prepared: Mapping[Key, Prepared]
    notes: tuple[str, ...] = ()
    reference: Mapping[Key, Prepared] = field(default_factory=dict)

    def by(self, inputs_are_finite: bool) -> Mapping[Key, Prepared]:
        """What computes an input: torch one with NaN or infinities, where it is installed."""
        return self.prepared if inputs_are_finite else self.reference or self.prepared


def choose(
    name: str | None,
    programs: Mapping[Key, TileProgram],
    weights: Mapping[str, Array],
    threads: int = 1,
) -> Chosen[Key]:
    """Prepare ``programs`` by the executor ``name``; None for the fastest that is right.

    Raises InputError for a name that is not known, ExecutionError for an engine that is missing or
    wrong. Weights are float32; torch's own threads are for the caller to set.
    """
    if name is not None:
        find(name).require()
    if not find(REFERENCE).available:
        return _untested(name, programs, weights, threads)
    reference = _prepared(find(REFERENCE), programs, weights, threads)
    if name is not None:
        executor = find(name)
        if name == REFERENCE:
            return Chosen(name, reference)
        prepared = _prepared(executor, programs, weights, threads)
        fault = self_test(executor, prepared, reference, programs, weights)
        if fault:
            raise ExecutionError(f"executor {name!r} is not used: {fault}")
        return Chosen(name, prepared, _told(name, prepared), reference)
    found = _fastest(programs, weights, threads, Chosen(REFERENCE, reference))
    return replace(found, reference=reference)


def _untested(
    name: str | None,
    programs: Mapping[Key, TileProgram],
    weights: Mapping[str, Array],
    threads: int,
) -> Chosen[Key]:
    """By the executor ``name``, or the first that is installed, where torch is not."""
    there = [each for each in EXECUTORS.values() if each.available]
    if not there:
        raise ExecutionError(f"no executor is installed here: {find('onnxruntime').install}")
    executor = there[0] if name is None else find(name)
    prepared = _prepared(executor, programs, weights, threads)
    return Chosen(executor.name, prepared, (UNTESTED,))


def prepare(
    name: str,
    programs: Mapping[Key, TileProgram],
    weights: Mapping[str, Array],
    threads: int = 1,
) -> Chosen[Key]:
    """Prepare ``programs`` by the executor ``name``, and test nothing."""
    prepared = _prepared(find(name), programs, weights, threads)
    return Chosen(name, prepared, _told(name, prepared))


def _fastest(
    programs: Mapping[Key, TileProgram],
    weights: Mapping[str, Array],
    threads: int,
    reference: Chosen[Key],
) -> Chosen[Key]:
    candidates, notes = [reference], list[str]()
    others = [executor for executor in EXECUTORS.values() if executor.name != REFERENCE]
    for executor in (each for each in others if each.available and programs):
        try:
            prepared = _prepared(executor, programs, weights, threads)
        except ExecutionError as error:
            notes.append(f"executor {executor.name!r} is not used: {error}")
            continue
        candidates.append(Chosen(executor.name, prepared))
    for found in _fastest_first(candidates, programs, weights):
        fault = "" if found is reference else _fault_of(found, reference, programs, weights)
        if not fault:
            return replace(found, notes=(*notes, *_told(found.name, found.prepared)))
        notes.append(f"executor {found.name!r} is not used: {fault}")
    raise AssertionError("torch, which is the reference, has no fault")


def _fastest_first(
    candidates: Sequence[Chosen[Key]],
    programs: Mapping[Key, TileProgram],
    weights: Mapping[str, Array],
) -> list[Chosen[Key]]:
    if len(candidates) == 1:
        return [*candidates]
    seconds = _seconds([each.prepared for each in candidates], programs, weights)
    pairs = zip(seconds, candidates, strict=True)
    return [found for _, found in sorted(pairs, key=lambda pair: pair[0])]


def _fault_of(
    found: Chosen[Key],
    reference: Chosen[Key],
    programs: Mapping[Key, TileProgram],
    weights: Mapping[str, Array],
) -> str:
    executor = find(found.name)
    try:
        return self_test(executor, found.prepared, reference.prepared, programs, weights)
    except ExecutionError as error:
        return str(error)


def _prepared(
    executor: Executor,
    programs: Mapping[Key, TileProgram],
    weights: Mapping[str, Array],
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


def _seconds(
    each: Sequence[Mapping[Key, Prepared]],
    programs: Mapping[Key, TileProgram],
    weights: Mapping[str, Array],
) -> list[float]:
    """What all programs take by each of several engines, in turn, after a first run; 0 where one
    fails, of which a test says more."""
    sums, failed = [0.0] * len(each), set[int]()
    end = time.perf_counter() + BUDGET_S * len(each)
    for number, (key, program) in enumerate(programs.items()):
        inputs = random_inputs(program, weights, number)
        times = [[_timed(prepared[key], inputs)] for prepared in each]
        for _ in range(ROUNDS):
            for prepared, found in zip(each, times, strict=True):
                found.append(_timed(prepared[key], inputs))
            if time.perf_counter() > end:
                break
        failed |= {k for k, found in enumerate(times) if math.inf in found}
        sums = [total + min(found[1:]) for total, found in zip(sums, times, strict=True)]
    return [0.0 if k in failed else total for k, total in enumerate(sums)]


def self_test(
    executor: Executor,
    prepared: Mapping[Key, Prepared],
    reference: Mapping[Key, Prepared],
    programs: Mapping[Key, TileProgram],
    weights: Mapping[str, Array],
) -> str:
    """What is wrong with an engine on some program; empty where nothing is."""
    for number, (key, program) in enumerate(programs.items()):
        inputs = random_inputs(program, weights, number)
        pair = prepared[key], reference[key]
        if program.rounds:
            fault = _fault_alone(executor, program, weights, inputs)
            fault = fault or _fault(executor, *pair, inputs, right=_is_alike)
        else:
            fault = _fault(executor, *pair, inputs)
        if fault:
            return fault
    return ""


def random_inputs(
    program: TileProgram, weights: Mapping[str, Array], seed: int = 0
) -> dict[str, Array]:
    """Normally distributed float32 inputs of a program, by name; quantised ones on their grids."""
    random = np.random.default_rng(seed)
    return {
        value.name: random.standard_normal(value.shape, dtype=np.float32)
        if not isinstance(grid := program.exact.get(value.tensor), Grid)
        else _on_grid(grid, value.shape, weights, random)
        for value in program.inputs
    }


def _on_grid(
    grid: Grid, shape: Shape, weights: Mapping[str, Array], random: np.random.Generator
) -> Array:
    zero, scale = (
        np.float32(default) if key is None else weights[key].reshape(-1)[0]
        for key, default in ((grid.zero, 0.0), (grid.scale, 1.0))
    )
    middle, spread = (grid.low + grid.high) / 2, (grid.high - grid.low) / 6
    places = np.rint(random.normal(middle, spread, shape)).clip(grid.low, grid.high)
    return np.asarray((places.astype(np.float32) - zero) * scale)


def _timed(prepared: Prepared, inputs: Mapping[str, Array]) -> float:
    """Seconds of a run, infinite where it fails."""
    start = time.perf_counter()
    try:
        prepared.run(inputs)
    except Exception:  # noqa: BLE001 - an engine may raise anything
        return math.inf
    return time.perf_counter() - start


def _fault(
    executor: Executor,
    prepared: Prepared,
    reference: Prepared,
    inputs: Mapping[str, Array],
    right: Callable[[Array, float], bool] | None = None,
) -> str:
    """What is wrong with an engine's answer; empty where it is right."""
    expected = reference.run(inputs)
    try:
        found = prepared.run(inputs)
    except Exception as error:  # noqa: BLE001 - an engine may raise anything
        return f"it fails on {_names(expected)}: {type(error).__name__}: {last_lines(error)}"
    tolerance = executor.capabilities.tolerance
    for name, values in expected.items():
        off = relative_errors(found[name], values)
        if not (right or _is_within)(off, tolerance):
            return (
                f"in the self-test its {name!r} differs from torch's by {off.max():.3g} of the "
                f"largest value ({tolerance:g} is allowed)"
            )
    return ""


def _fault_alone(
    executor: Executor,
    program: TileProgram,
    weights: Mapping[str, Array],
    inputs: Mapping[str, Array],
) -> str:
    """What is wrong with an engine's answers to each call alone; empty where all are right."""
    opened, reference, held = executor.open(weights), find(REFERENCE).open(weights), dict(inputs)
    for call in program.alone:
        expected = reference.prepare(call)
        fault = _fault(executor, opened.prepare(call), expected, held, right=_is_stepped)
        if fault:
            return fault
        held |= expected.run(held)
    return ""


def _is_within(off: Array, tolerance: float) -> bool:
    return bool(off.max(initial=0.0) <= tolerance)


def _is_stepped(off: Array, tolerance: float) -> bool:
    """Of a call that rounds: do all elements lie within the tolerance, or a step off?"""
    worst = off.max(initial=0.0)
    if worst <= tolerance or not np.isfinite(worst):
        return bool(worst <= tolerance)
    wrong = np.count_nonzero(off > tolerance)
    return bool(worst <= STEPPED or wrong <= max(STEPPED_COUNT, STEPPED_SHARE * off.size))


def _is_alike(off: Array, tolerance: float) -> bool:
    """Of a whole program that rounds; each of its calls is tested alone, more strictly."""
    return bool(off.size == 0 or off.mean() <= max(tolerance, STEPPED_MEAN))


def _names(outputs: Mapping[str, Array]) -> str:
    return ", ".join(map(repr, outputs))


def relative_error(found: Array, expected: Array) -> float:
    """The largest of ``relative_errors``; 0 where there are no elements."""
    return float(relative_errors(found, expected).max(initial=0.0))


def relative_errors(found: Array, expected: Array) -> Array:
    """Differences over the largest finite magnitude; infinite where NaN or infinities stand in
    other places, or the shape is another."""
    if found.shape != expected.shape:
        return np.array([np.inf])
    with np.errstate(invalid="ignore"):
        same = (found == expected) | (np.isnan(found) & np.isnan(expected))
        off = np.where(same, 0.0, np.abs(found - expected))
    finite = np.nan_to_num(expected, nan=0.0, posinf=0.0, neginf=0.0)
    scale = np.abs(finite).max(initial=1e-30)
    return np.asarray(np.nan_to_num(off, nan=np.inf, posinf=np.inf) / scale)
