"""Compiled: a tile cut into pieces, for searches that do so thousands of times.

A tile is four integers (y0, y1, x0, x1); an empty one has y1 <= y0 or x1 <= x0.
"""

from __future__ import annotations

import numpy as np

from nptp_opt.compiling import compiled, inner
from nptp_opt.cost.rims import OUTGOING

MOST_PIECES = 9
"""Of one tile: the interior, four that need no halo but are wanted, four that need one."""

WORK = 11
"""Rectangles of working memory that ``cut_into`` wants."""


@compiled
def cut_pieces(tile, inside, wanted, rims):  # type: ignore[no-untyped-def]
    """Pieces (P, 4) of a tile whose part ``inside`` needs no halo and of which others want
    ``wanted`` (R, 4): first what is wanted and needs no halo, then the interior, then what needs a
    halo, wanted parts first."""
    found = np.zeros((MOST_PIECES, 4), dtype=np.int64)
    work = np.zeros((WORK, 4), dtype=np.int64)
    return found[: cut_into(tile, inside, wanted, len(wanted), rims, found, work)]


@inner
def cut_into(tile, inside, wanted, many, rims, found, work):  # type: ignore[no-untyped-def]
    """Writes into ``found`` (``MOST_PIECES``, 4) what ``cut_pieces`` returns, and returns how many
    these are; the first ``many`` are wanted. ``work`` (``WORK``, 4) is overwritten."""
    free, both, rest = work[0], work[1], work[2]
    set_tile(free, tile)
    if rims & OUTGOING:
        _leave(free, wanted, many, rest)
    _common(inside, free, both)
    count = 0
    _minus(inside, both, work, 3)
    for k in range(3, 7):
        count = _append(found, count, work[k])
    count = _append(found, count, both)
    _minus(tile, inside, work, 7)
    for first in range(2):
        for k in range(7, 11):
            _common(work[k], free, rest)
            if _differ(rest, work[k]) == (first == 0):
                count = _append(found, count, work[k])
    return count


@inner
def set_tile(tile, other):  # type: ignore[no-untyped-def]
    """Make a tile the other one."""
    for side in range(4):
        tile[side] = other[side]


@inner
def is_empty(tile):  # type: ignore[no-untyped-def]
    """Has it no pixel?"""
    return tile[1] <= tile[0] or tile[3] <= tile[2]


@inner
def _append(found, count, tile):  # type: ignore[no-untyped-def]
    """Keep a tile that is not empty; how many there are then."""
    if is_empty(tile):
        return count
    set_tile(found[count], tile)
    return count + 1


@inner
def _differ(one, other):  # type: ignore[no-untyped-def]
    for side in range(4):  # noqa: SIM110 (compiled)
        if one[side] != other[side]:
            return True
    return False


@inner
def _leave(free, wanted, many, part):  # type: ignore[no-untyped-def]
    """Leave of a tile a large part that meets nothing wanted: one side moved for each, the one that
    leaves most."""
    for k in range(many):
        _common(free, wanted[k], part)
        if is_empty(part):
            continue
        height, width = free[1] - free[0], free[3] - free[2]
        above, below = (part[0] - free[0]) * width, (free[1] - part[1]) * width
        left, right = (part[2] - free[2]) * height, (free[3] - part[3]) * height
        most = max(above, below, left, right)
        if above == most:
            free[1] = part[0]
        elif below == most:
            free[0] = part[1]
        elif left == most:
            free[3] = part[2]
        else:
            free[2] = part[3]
        if most == 0:
            break


@inner
def _common(one, other, found):  # type: ignore[no-untyped-def]
    """Write what two tiles have in common into ``found``, another one."""
    for side in range(0, 4, 2):
        found[side] = max(one[side], other[side])
        found[side + 1] = min(one[side + 1], other[side + 1])


@inner
def _minus(tile, inside, rest, at):  # type: ignore[no-untyped-def]
    """Write a tile without what is inside it as four rectangles, from row ``at`` of ``rest`` on."""
    for k in range(4):
        set_tile(rest[at + k], tile)
    if is_empty(inside):
        for k in range(1, 4):
            rest[at + k, 1] = rest[at + k, 0]
        return
    rest[at, 1] = rest[at + 2, 0] = rest[at + 3, 0] = inside[0]
    rest[at + 1, 0] = rest[at + 2, 1] = rest[at + 3, 1] = inside[1]
    rest[at + 2, 3] = inside[2]
    rest[at + 3, 2] = inside[3]
