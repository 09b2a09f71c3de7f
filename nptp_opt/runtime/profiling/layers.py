"""Seconds of tile programs of a network, as this device computes them.

Without torch, so that a worker measures its own board for a launcher.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain

import numpy as np

from nptp_opt.kernels.bitmask import compress, expand, mask_bytes
from nptp_opt.kernels.crops import Array
from nptp_opt.kernels.executors import choose, prepare
from nptp_opt.kernels.executors.choice import random_inputs
from nptp_opt.kernels.huffman import BLOCK, Elements, coded_first_bytes, drop_first_bytes
from nptp_opt.network.ir import Network
from nptp_opt.runtime.profiling.chains import Group, Work, chain_groups, single_groups

CODED = (1, 64, 56, 58)
"""The map that the bitmask codec is measured on; its first and last column are left out."""

Sample = tuple[float, float]
"""FLOP and seconds of one tile."""

ChainSample = tuple[Work, float]
"""What a program of several layers computes, and its seconds."""


@dataclass(frozen=True)
class Measured:
    """Tiles of every layer shape, and chains of layers, by the executor that computed them;
    ``notes`` are for users."""

    executor: str
    notes: tuple[str, ...]
    samples: Mapping[str, Sequence[Sample]]
    chains: Sequence[ChainSample]


def measure_network(
    network: Network,
    weights: Mapping[str, Array],
    threads: int,
    repeats: int,
    tell: Callable[[str], None],
    executor: str | None = None,
) -> Measured:
    """Median seconds of every layer shape alone and of chains of layers, on tiles of several sizes;
    ``executor`` None takes the fastest that a self-test of the whole maps shows right.

    ``threads`` are what the engine is told; torch has its own setting. ``tell`` hears of every
    program. Raises InputError for an unknown executor, ExecutionError for one that is missing or
    wrong.
    """
    alone, chained = [*single_groups(network)], [*chain_groups(network)]
    groups = [*alone, *chained] or [Group("", "", ())]
    chosen = choose(executor, groups[0].numbered, weights, threads)
    found: list[list[ChainSample]] = []
    for group in groups:
        prepared = chosen.prepared
        if group is not groups[0]:
            prepared = prepare(chosen.name, group.numbered, weights, threads).prepared
        found.append([])
        for number, timed in enumerate(group.programs):
            tell(group.text)
            run = partial(prepared[number].run, random_inputs(timed.program, weights))
            found[-1].append((timed.work, median_s(run, repeats)))
    samples: dict[str, list[Sample]] = {}
    for work, seconds in chain.from_iterable(found[: len(alone)]):
        ((key, (_, flop)),) = work.items()
        samples.setdefault(key, []).append((flop, seconds))
    chains = tuple(chain.from_iterable(found[len(alone) :]))
    return Measured(chosen.name, chosen.notes, samples, chains)


def measure_codec(repeats: int, density: float = 0.5) -> tuple[float, float, float, float]:
    """MB/s of the codecs, by median seconds: of float32 elements that become a bitmask and back, of
    first bytes of non-zeros that become Huffman codes and back."""
    random = np.random.default_rng(0)
    values = random.standard_normal(CODED, dtype=np.float32)
    np.abs(values, out=values)  # as behind a ReLU
    values[random.random(CODED) >= density] = 0.0
    bits = values.view(np.uint32)[..., 1:-1]
    mask = np.zeros(mask_bytes(bits.size), dtype=np.uint8)
    kept, out = np.zeros(bits.size, dtype=np.uint32), np.zeros(bits.shape, dtype=np.uint32)
    count = compress(bits, mask, kept)
    elements, coded = kept[:count], coded_first_bytes(kept[:count], count)
    assert coded is not None, "exponents of normal numbers are few"
    codes = np.frombuffer(coded, np.uint8)

    def code() -> None:
        coded_first_bytes(elements, count)
        drop_first_bytes(room[:count])

    def uncode() -> None:
        parts = Elements(planes, codes, count, 4)
        for at in range(0, count, BLOCK):
            parts.take(min(BLOCK, count - at))

    room = kept.copy()
    planes = room[:count].view(np.uint8)
    mb = bits.nbytes / 1e6
    return (
        mb / median_s(partial(compress, bits, mask, kept), repeats),
        mb / median_s(partial(expand, mask, elements, out), repeats),
        count / 1e6 / median_s(code, repeats),
        count / 1e6 / median_s(uncode, repeats),
    )


def median_s(call: Callable[[], object], repeats: int) -> float:
    """Median seconds of a call; the first one is not counted."""
    times = []
    call()
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)
