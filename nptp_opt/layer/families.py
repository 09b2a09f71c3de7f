"""Which family a partition belongs to: strip < grid, strip < column < guillotine < dissection."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nptp_opt.geometry import Tile, Tiles, transpose_tile

TileList = Sequence[Tile]


def _turn(tiles: TileList) -> list[Tile]:
    return [transpose_tile(tile) for tile in tiles]


def _either(test: Callable[[TileList], bool], tiles: TileList) -> bool:
    return test(tiles) or test(_turn(tiles))


def _columns(tiles: TileList) -> list[list[Tile]]:
    """Tiles grouped by horizontal range."""
    groups: dict[tuple[int, int], list[Tile]] = {}
    for tile in tiles:
        groups.setdefault((tile.x0, tile.x1), []).append(tile)
    return list(groups.values())


def _is_columns(tiles: TileList) -> bool:
    width = max(t.x1 for t in tiles)
    return sum(group[0].width for group in _columns(tiles)) == width


def _is_strips(tiles: TileList) -> bool:
    return len(_columns(tiles)) == 1


def _is_grid(tiles: TileList) -> bool:
    return len(_columns(tiles)) * len(_columns(_turn(tiles))) == len(tiles)


def _vertical_cut(tiles: TileList) -> int | None:
    """Position of a vertical cut that goes through no tile, if there is one."""
    through = (
        cut
        for cut in sorted({t.x0 for t in tiles})[1:]
        if not any(t.x0 < cut < t.x1 for t in tiles)
    )
    return next(through, None)


def split(tiles: Tiles) -> tuple[bool, tuple[dict[int, Tile], dict[int, Tile]]]:
    """Whether a cut through the whole piece is vertical, and the tiles before and after it.

    The second part is empty where there is no such cut.
    """
    for vertical in (True, False):
        seen = {i: t if vertical else transpose_tile(t) for i, t in tiles.items()}
        cut = _vertical_cut([*seen.values()])
        if cut is not None:
            first = {i: tiles[i] for i, t in seen.items() if t.x1 <= cut}
            return vertical, (first, {i: t for i, t in tiles.items() if i not in first})
    return True, (dict(tiles), {})


def _is_guillotine(tiles: TileList) -> bool:
    if len(tiles) == 1:
        return True
    _, parts = split(dict(enumerate(tiles)))
    return bool(parts[1]) and all(_is_guillotine([*part.values()]) for part in parts)


_TESTS: dict[str, Callable[[TileList], bool]] = {
    "strip": lambda tiles: _either(_is_strips, tiles),
    "grid": _is_grid,
    "column": lambda tiles: _either(_is_columns, tiles),
    "guillotine": _is_guillotine,
    "dissection": lambda _: True,
}


def belongs(family: str, tiles: Tiles) -> bool:
    """True when the partition ``tiles`` (which must cover its map) is of that family."""
    return _TESTS[family]([tile for tile in tiles.values() if not tile.is_empty])
