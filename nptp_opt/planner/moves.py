"""Small changes of a partition that keep it a partition: shifted cuts and swapped devices."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

from nptp_opt.geometry import Tile

Partition = dict[int, Tile]


def most_neighbours(n_devices: int) -> int:
    """How many alternatives of a partition are priced together: pricing takes n^2 per pair."""
    return max(50, min(400, 6000 // n_devices))


def neighbours(
    tiles: Mapping[int, Tile], reach: int, kinds: Sequence[int] | None = None
) -> Iterator[Partition]:
    """Partitions one change away: a maximal cut moved by 1, 2, 4, ... ``reach``, or a swap.

    With ``kinds`` (a number per device) only devices of different kinds are swapped, and a device
    without a tile may take over that of another.
    """
    upright = {i: _turned(tile) for i, tile in tiles.items()}
    steps = [1 << k for k in range(max(1, reach).bit_length())]
    for shift in (sign * step for step in reversed(steps) for sign in (1, -1)):
        yield from shifted(tiles, shift)
        for moved in shifted(upright, shift):
            yield {i: _turned(tile) for i, tile in moved.items()}
    for i, j in itertools.combinations(tiles, 2):
        if kinds is None or kinds[i] != kinds[j]:
            yield {**tiles, i: tiles[j], j: tiles[i]}
    yield from _handed_over(tiles, kinds or ())


def first_idle(tiles: Mapping[int, Tile], kinds: Sequence[int]) -> dict[int, int]:
    """By kind the first device without a tile."""
    idle: dict[int, int] = {}
    for device, kind in enumerate(kinds):
        if device not in tiles:
            idle.setdefault(kind, device)
    return idle


def _handed_over(tiles: Mapping[int, Tile], kinds: Sequence[int]) -> Iterator[Partition]:
    """The tile of one device on the first idle device of every other kind."""
    for i, (kind, j) in itertools.product(tiles, first_idle(tiles, kinds).items()):
        if kinds[i] != kind:
            yield {k: tile for k, tile in tiles.items() if k != i} | {j: tiles[i]}


def shifted(tiles: Mapping[int, Tile], shift: int) -> Iterator[Partition]:
    """Every partition with one maximal horizontal cut moved down by ``shift`` rows.

    A tile may shrink to nothing (its device is left out), but no cut moves past another.
    """
    for row in sorted({tile.y0 for tile in tiles.values()} - {0}):
        for above, below in _cuts(tiles, row):
            moved = {
                **tiles,
                **{i: tiles[i].rows(tiles[i].y0, row + shift) for i in above},
                **{i: tiles[i].rows(row + shift, tiles[i].y1) for i in below},
            }
            changed = [moved[i] for i in (*above, *below)]
            if all(tile.y0 <= tile.y1 for tile in changed):
                yield {i: tile for i, tile in moved.items() if not tile.is_empty}


def _cuts(tiles: Mapping[int, Tile], row: int) -> Iterator[tuple[list[int], list[int]]]:
    """Maximal cuts at a row, as the devices above and below each.

    Two tiles belong to one cut when their columns overlap; at a crossing the two halves are cuts of
    their own.
    """
    edge = sorted(
        (i for i, tile in tiles.items() if row in (tile.y0, tile.y1)), key=lambda i: tiles[i].x0
    )
    groups: list[list[int]] = []
    end = -1
    for i in edge:
        if not groups or tiles[i].x0 >= end:
            groups.append([])
        groups[-1].append(i)
        end = max(end, tiles[i].x1) if len(groups[-1]) > 1 else tiles[i].x1
    for group in groups:
        yield _sides(tiles, group, row)


def _sides(
    tiles: Mapping[int, Tile], group: Sequence[int], row: int
) -> tuple[list[int], list[int]]:
    return [i for i in group if tiles[i].y1 == row], [i for i in group if tiles[i].y0 == row]


def _turned(tile: Tile) -> Tile:
    return Tile(tile.x0, tile.x1, tile.y0, tile.y1)
