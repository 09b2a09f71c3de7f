"""Seconds of every layer shape of a network at several tile sizes, as this device computes them.

Without torch, so that a worker measures its own board for a launcher.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from nptp_opt.cost import layer_key, segment_needs
from nptp_opt.geometry import EMPTY, Tile
from nptp_opt.kernels.bitmask import compress, expand, mask_bytes
from nptp_opt.kernels.crops import Array
from nptp_opt.kernels.executors import Part, TileProgram, choose, tile_program
from nptp_opt.kernels.executors.choice import random_inputs
from nptp_opt.network.ir import Layer, Network

SHARES = (1.0, 0.5, 0.25, 0.125)
"""Shares of a map's rows that are measured."""

CODED = (1, 64, 56, 58)
"""The map that the bitmask codec is measured on; its first and last column are left out."""

Sample = tuple[float, float]
"""FLOP and seconds of one tile."""


@dataclass(frozen=True)
class Measured:
    """Tiles of every layer shape, by the executor that computed them; ``notes`` are for users."""

    executor: str
    notes: tuple[str, ...]
    samples: Mapping[str, Sequence[Sample]]


def measure_network(
    network: Network,
    weights: Mapping[str, Array],
    threads: int,
    repeats: int,
    tell: Callable[[str], None],
    executor: str | None = None,
) -> Measured:
    """FLOP and median seconds of several tiles of every layer shape, the head's layers whole, each
    tile as a program of its own; ``executor`` None takes the fastest that a self-test shows right.

    ``threads`` are what the engine is told; torch has its own setting. ``tell`` hears each shape.
    Raises InputError for an unknown executor, ExecutionError for one that is missing or wrong.
    """
    tiles = dict(_programs(network))
    programs = {key: program for key, (program, _) in tiles.items()}
    samples: dict[str, list[Sample]] = {}
    chosen = choose(executor, programs, weights, threads)
    for (key, number), (program, flop) in tiles.items():
        if key not in samples:
            tell(key)
        run = partial(chosen.prepared[key, number].run, random_inputs(program, weights))
        samples.setdefault(key, []).append((flop, _seconds(run, repeats)))
    return Measured(chosen.name, chosen.notes, samples)


def measure_codec(repeats: int, density: float = 0.5) -> tuple[float, float]:
    """MB/s of float32 elements that the bitmask codec encodes and decodes, by median seconds."""
    random = np.random.default_rng(0)
    values = random.random(CODED, dtype=np.float32)
    values[random.random(CODED) >= density] = 0.0
    bits = values.view(np.uint32)[..., 1:-1]
    mask = np.zeros(mask_bytes(bits.size), dtype=np.uint8)
    kept, out = np.zeros(bits.size, dtype=np.uint32), np.zeros(bits.shape, dtype=np.uint32)
    count = compress(bits, mask, kept)
    encode_s, decode_s = [], []
    for _ in range(repeats):
        start = time.perf_counter()
        compress(bits, mask, kept)
        encode_s.append(time.perf_counter() - start)
        start = time.perf_counter()
        expand(mask, kept[:count], out)
        decode_s.append(time.perf_counter() - start)
    size = bits.nbytes / 1e6
    return size / statistics.median(encode_s), size / statistics.median(decode_s)


def _programs(network: Network) -> Iterator[tuple[tuple[str, int], tuple[TileProgram, float]]]:
    """What to time: a layer shape and a number, a tile program of it and its FLOP."""
    seen: set[str] = set()
    for layer in network.layers:
        key = layer_key(layer)
        if key in seen or layer.kind == "global" or layer.flop == 0:
            continue
        seen.add(key)
        for number, (part, flop) in enumerate(_parts(layer)):
            yield (
                (key, number),
                (tile_program([part], network.shapes, [layer.name], network.exact), flop),
            )


def _parts(layer: Layer) -> Iterator[tuple[Part, float]]:
    if layer.kind == "gather":
        yield Part((layer,), EMPTY, {}, whole=True), layer.flop
        return
    shares = (1.0,) if layer.is_whole else SHARES
    for rows in dict.fromkeys(max(1, round(layer.height * share)) for share in shares):
        tile = Tile(0, rows, 0, layer.width)
        needs = {tensor: found[0] for tensor, found in segment_needs((layer,), {0: tile}).items()}
        yield Part((layer,), tile, needs), layer.flop_per_pixel * tile.area


def _seconds(call: Callable[[], object], repeats: int) -> float:
    times = []
    call()
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)
