"""Tile programs that a profile times: every layer shape alone, and chains of layers, each on tiles
of several sizes.

In a chain an engine joins layers and keeps maps in its own layout and in the cache; a program of
one layer pays for a call of its own and for bringing maps into that layout and back. So layers
alone take up to twice as long as the same layers in a plan's programs, and chains are measured,
too. Their layers are consecutive in the network: all of it, and a few shorter lengths.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from nptp_opt.cost import layer_key, segment_needs
from nptp_opt.geometry import EMPTY, Tile
from nptp_opt.kernels.executors import Part, TileProgram, tile_program
from nptp_opt.network.ir import Layer, Network, regions

PARTS = (1, 4, 16)
"""Into so many chains of about equal length the layers that are cut are divided."""

GRIDS = ((1, 1), (2, 1), (2, 2), (4, 2), (4, 4))
"""Rows and columns of the equal grids of which a middle tile is measured."""

Work = Mapping[str, tuple[int, float]]
"""Calls and FLOP of a program by layer shape, as costs see them."""


@dataclass(frozen=True)
class Timed:
    """A program to time, and what it computes."""

    program: TileProgram
    work: Work


@dataclass(frozen=True)
class Group:
    """Programs that are prepared together, as those of one device are. Tiles of one layer are not:
    engines lay a weight out for its first reader, and others then take slower kernels."""

    kind: str
    size: str
    """Of the tiles, in words."""
    programs: Sequence[Timed]

    @property
    def text(self) -> str:
        return f"{self.kind}, {self.size}"

    @property
    def numbered(self) -> dict[int, TileProgram]:
        return {number: timed.program for number, timed in enumerate(self.programs)}


def single_groups(network: Network) -> Iterator[Group]:
    """Every layer shape alone, the largest tiles first; what is not divided is measured whole."""
    found: dict[str, Layer] = {}
    for layer in network.layers:
        if layer.kind != "global" and layer.flop > 0:
            found.setdefault(layer_key(layer), layer)
    for rows, columns in GRIDS:
        parts = [(layer, part) for layer in found.values()
                 if (part := _single(layer, rows, columns)) is not None]  # fmt: skip
        if parts:
            programs = [_timed(network, part, layer.name) for layer, part in parts]
            yield Group("layers alone", _size(rows, columns), programs)


def chain_groups(network: Network, counts: Sequence[int] = PARTS) -> Iterator[Group]:
    """Chains of all lengths, on all sizes of tiles; those of one group follow on one another."""
    runs = _runs(network)
    count = sum(map(len, runs))
    for length in dict.fromkeys(max(2, math.ceil(count / parts)) for parts in counts):
        chains = _chains(runs, length)
        for rows, columns in GRIDS:
            programs = [_timed(network, part, layers[-1].name) for layers in chains
                        if (part := _part(layers, rows, columns)) is not None]  # fmt: skip
            if programs:
                kind = f"{len(programs)} chains of layers"
                yield Group(kind, _size(rows, columns), programs)


def _size(rows: int, columns: int) -> str:
    return "whole maps" if rows * columns == 1 else f"tiles of 1/{rows * columns}"


def _single(layer: Layer, rows: int, columns: int) -> Part | None:
    if rows * columns > 1 and (layer.kind == "gather" or layer.is_whole):
        return None
    if layer.kind == "gather":
        return Part((layer,), EMPTY, {}, whole=True)
    return _part((layer,), rows, columns)


def _part(layers: Sequence[Layer], rows: int, columns: int) -> Part | None:
    """What a middle tile of the last layer takes; None where the map has too few pixels for it."""
    last = layers[-1]
    if last.height < rows or last.width < columns:
        return None
    tile = Tile(*_middle(last.height, rows), *_middle(last.width, columns))
    computed = regions(layers, tile)
    read = tuple(layer for layer in layers if not computed[layer.name].is_empty)
    needs = {tensor: found[0] for tensor, found in segment_needs(read, {0: tile}).items()}
    return Part(read, tile, needs)


def _middle(length: int, parts: int) -> tuple[int, int]:
    number = (parts - 1) // 2
    return length * number // parts, length * (number + 1) // parts


def _timed(network: Network, part: Part, made: str) -> Timed:
    program = tile_program([part], network.shapes, [made], network.exact, network.params)
    work: dict[str, tuple[int, float]] = {}
    for call in program.calls:
        key, layer = layer_key(call.layer), call.layer
        flop = layer.flop if part.whole else layer.flop_per_pixel * call.tile.area
        calls, sum_flop = work.get(key, (0, 0.0))
        work[key] = calls + 1, sum_flop + flop
    return Timed(program, work)


def _runs(network: Network) -> list[tuple[Layer, ...]]:
    """Consecutive layers that are cut, as many at a time as can be."""
    vectors = {layer.name for layer in network.vectors}

    def is_cut(layer: Layer) -> bool:
        return layer.kind == "spatial" and not layer.is_whole and layer.name not in vectors

    return [tuple(run) for cut, run in groupby(network.layers, is_cut) if cut]


def _chains(runs: Sequence[Sequence[Layer]], length: int) -> list[Sequence[Layer]]:
    """Parts of runs, of ``length`` layers or what is left over, two at least."""
    parts = [run[k : k + length] for run in runs for k in range(0, len(run), length)]
    return [part for part in parts if len(part) > 1]
