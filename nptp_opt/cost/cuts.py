"""Compiled: a tile cut into pieces, for searches that do so thousands of times.

A tile is four integers (y0, y1, x0, x1); an empty one has y1 <= y0 or x1 <= x0.
"""

from __future__ import annotations

import numba
import numpy as np

from nptp_opt.cost.rims import OUTGOING


@numba.njit(cache=True, nogil=True)
def cut_pieces(tile, inside, wanted, rims):  # type: ignore[no-untyped-def]
    """Pieces (P, 4) of a tile whose part ``inside`` needs no halo and of which others want
    ``wanted`` (R, 4): first what is wanted and needs no halo, then the interior, then what needs a
    halo, wanted parts first."""
    free = _unwanted(tile, wanted) if rims & OUTGOING else tile
    both = _common(inside, free)
    found = np.zeros((9, 4), dtype=np.int64)
    count = 0
    for part in _minus(inside, both):
        if part[1] > part[0] and part[3] > part[2]:
            found[count] = part
            count += 1
    if both[1] > both[0] and both[3] > both[2]:
        found[count] = both
        count += 1
    late = _minus(tile, inside)
    for first in (True, False):
        for part in late:
            if part[1] > part[0] and part[3] > part[2]:
                rest = _common(part, free)
                leaves = (rest != part).any()
                if leaves == first:
                    found[count] = part
                    count += 1
    return found[:count]


@numba.njit(cache=True, nogil=True)
def _unwanted(tile, wanted):  # type: ignore[no-untyped-def]
    """A large part of a tile that meets nothing wanted: one side moved for each, the one that
    leaves most."""
    free = tile.copy()
    for want in wanted:
        part = _common(free, want)
        if part[1] <= part[0] or part[3] <= part[2]:
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
    return free


@numba.njit(cache=True, nogil=True)
def _common(one, other):  # type: ignore[no-untyped-def]
    found = one.copy()
    for side in range(0, 4, 2):
        found[side] = max(one[side], other[side])
        found[side + 1] = min(one[side + 1], other[side + 1])
    return found


@numba.njit(cache=True, nogil=True)
def _minus(tile, inside):  # type: ignore[no-untyped-def]
    """A tile without what is inside it, as four rectangles."""
    rest = np.zeros((4, 4), dtype=np.int64)
    if inside[1] <= inside[0] or inside[3] <= inside[2]:
        rest[0] = tile
        return rest
    rest[0] = tile[0], inside[0], tile[2], tile[3]
    rest[1] = inside[1], tile[1], tile[2], tile[3]
    rest[2] = inside[0], inside[1], tile[2], inside[2]
    rest[3] = inside[0], inside[1], inside[3], tile[3]
    return rest
