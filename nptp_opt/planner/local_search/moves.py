"""Small changes of a partition that keep it a partition: shifted cuts and swapped devices."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from nptp_opt.geometry import Tile

Partition = dict[int, Tile]

MOST_TOGETHER = 2
"""Rows and columns by which all cuts move together, at most: the halo of one or two layers."""

WAYS = [way for way in itertools.product((0, 1, -1), repeat=2) if any(way)]
"""Down or up, right or left."""

ALL_TOGETHER = 0.05
"""Share of random moves that move all cuts by a halo's width."""

ONE_CUT = 0.7
"""Share of the others that move one maximal cut; the rest move all on a line."""

Move = Callable[[], Partition]
"""A change, made when it is called: most of many moves are never made."""


def most_neighbours(n_devices: int) -> int:
    """How many alternatives of a partition are evaluated together: evaluating takes n^2 per
    pair."""
    return max(50, min(400, 6000 // n_devices))


def neighbours(
    tiles: Mapping[int, Tile], reach: int, kinds: Sequence[int] | None = None
) -> Iterator[Partition]:
    """Partitions one change away: what the ``moves`` make."""
    return (move() for move in moves(tiles, reach, kinds))


def moves(
    tiles: Mapping[int, Tile], reach: int, kinds: Sequence[int] | None = None
) -> Iterator[Move]:
    """A maximal cut moved by 1, 2, 4, ... ``reach``, or a swap.

    With ``kinds`` (a number per device) only devices of different kinds are swapped, and a device
    without a tile may take over that of another.
    """
    upright = _transpose(tiles)
    steps = [1 << k for k in range(max(1, reach).bit_length())]
    for shift in (sign * step for step in reversed(steps) for sign in (1, -1)):
        yield from _shifts(tiles, shift)
        yield from (partial(_transpose_back, move) for move in _shifts(upright, shift))
    for i, j in itertools.combinations(tiles, 2):
        if kinds is None or kinds[i] != kinds[j]:
            yield partial(_swap, tiles, i, j)
    yield from _handing_over(tiles, kinds or ())


def random_move(tiles: Mapping[int, Tile], reach: int, rng: random.Random) -> Partition | None:
    """Tiles after a random shift; None where another cut is in its way.

    Most move one maximal cut by 1, 2, 4, ... ``reach``, others all cuts on a line, some all cuts of
    the partition by a halo's width: where these move from one layer to the next, and back after it,
    every device has a halo on one side alone, as many bytes in half of the messages.
    """
    if rng.random() < ALL_TOGETHER:
        return _together(tiles, rng)
    turned = rng.random() < 0.5
    now = _transpose(tiles) if turned else tiles
    rows = sorted({tile.y0 for tile in now.values()} - {0})
    if not rows:
        return None
    row = rng.choice(rows)
    sides = [*_cuts(now, row)]
    if rng.random() < ONE_CUT:
        sides = [rng.choice(sides)]
    above, below = (list(itertools.chain(*side)) for side in zip(*sides, strict=True))
    at = row + rng.choice((1, -1)) * (1 << rng.randrange(max(1, reach).bit_length()))
    if not _passes(now, above, below, at):
        return None
    moved = _shift(now, above, below, at)
    return _transpose(moved) if turned else moved


def first_idle(tiles: Mapping[int, Tile], kinds: Sequence[int]) -> dict[int, int]:
    """By kind the first device without a tile."""
    idle: dict[int, int] = {}
    for device, kind in enumerate(kinds):
        if device not in tiles:
            idle.setdefault(kind, device)
    return idle


def _handing_over(tiles: Mapping[int, Tile], kinds: Sequence[int]) -> Iterator[Move]:
    """The tile of one device on the first idle device of every other kind."""
    for i, (kind, j) in itertools.product(tiles, first_idle(tiles, kinds).items()):
        if kinds[i] != kind:
            yield partial(_hand_over, tiles, i, j)


def _hand_over(tiles: Mapping[int, Tile], i: int, j: int) -> Partition:
    return {k: tile for k, tile in tiles.items() if k != i} | {j: tiles[i]}


def _swap(tiles: Mapping[int, Tile], i: int, j: int) -> Partition:
    return {**tiles, i: tiles[j], j: tiles[i]}


def shift_cuts(tiles: Mapping[int, Tile], shift: int) -> Iterator[Partition]:
    """Every partition with one maximal horizontal cut moved down by ``shift`` rows.

    A tile may shrink to nothing (its device is left out), but no cut moves past another.
    """
    return (move() for move in _shifts(tiles, shift))


def _shifts(tiles: Mapping[int, Tile], shift: int) -> Iterator[Move]:
    for row in sorted({tile.y0 for tile in tiles.values()} - {0}):
        for above, below in _cuts(tiles, row):
            if _passes(tiles, above, below, row + shift):
                yield partial(_shift, tiles, above, below, row + shift)


def _passes(tiles: Mapping[int, Tile], above: Sequence[int], below: Sequence[int], at: int) -> bool:
    """Does a cut that moves there stay within the tiles on either side?"""
    return all(tiles[i].y0 <= at for i in above) and all(at <= tiles[i].y1 for i in below)


def _together(tiles: Mapping[int, Tile], rng: random.Random) -> Partition | None:
    """All horizontal cuts, all vertical ones or both moved by a few rows and columns."""
    height, width = max(t.y1 for t in tiles.values()), max(t.x1 for t in tiles.values())
    shift = rng.randint(1, MOST_TOGETHER)
    down, right = rng.choice(WAYS)
    moved = {
        i: Tile(
            t.y0 + shift * down * (t.y0 > 0),
            t.y1 + shift * down * (t.y1 < height),
            t.x0 + shift * right * (t.x0 > 0),
            t.x1 + shift * right * (t.x1 < width),
        )
        for i, t in tiles.items()
    }
    stays = moved == tiles or any(tile.is_empty for tile in moved.values())
    return None if stays else moved


def _shift(
    tiles: Mapping[int, Tile], above: Sequence[int], below: Sequence[int], at: int
) -> Partition:
    moved = {
        **tiles,
        **{i: tiles[i].rows(tiles[i].y0, at) for i in above},
        **{i: tiles[i].rows(at, tiles[i].y1) for i in below},
    }
    return {i: tile for i, tile in moved.items() if not tile.is_empty}


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


def _transpose(tiles: Mapping[int, Tile]) -> Partition:
    return {i: Tile(t.x0, t.x1, t.y0, t.y1) for i, t in tiles.items()}


def _transpose_back(move: Move) -> Partition:
    return _transpose(move())


def absorbed(tiles: Mapping[int, Tile], lost: int) -> Iterator[Partition]:
    """Without device ``lost``: its tile shared out among those that together make up one side."""
    gap = tiles[lost]
    rest = {i: tile for i, tile in tiles.items() if i != lost}
    rows = {i: t for i, t in rest.items() if gap.y0 <= t.y0 and t.y1 <= gap.y1}
    columns = {i: t for i, t in rest.items() if gap.x0 <= t.x0 and t.x1 <= gap.x1}
    sides = (
        {i: Tile(t.y0, gap.y1, t.x0, t.x1) for i, t in columns.items() if t.y1 == gap.y0},
        {i: Tile(gap.y0, t.y1, t.x0, t.x1) for i, t in columns.items() if t.y0 == gap.y1},
        {i: Tile(t.y0, t.y1, t.x0, gap.x1) for i, t in rows.items() if t.x1 == gap.x0},
        {i: Tile(t.y0, t.y1, gap.x0, t.x1) for i, t in rows.items() if t.x0 == gap.x1},
    )
    for grown in sides:
        if _gained(grown, rest) == gap.area:
            yield rest | grown


def _gained(grown: Mapping[int, Tile], before: Mapping[int, Tile]) -> int:
    return sum(tile.area - before[i].area for i, tile in grown.items())
