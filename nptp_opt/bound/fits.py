"""Whether rectangles of limited areas can cover a map: small maps have no even partitions.

Five rows in three strips are two, two and one: no partition of 14 x 14 in three is more even than 5
rows, 5 rows and 4. So a level below 1.07 holds no partition at all.
"""

from __future__ import annotations

from functools import lru_cache

import numba
import numpy as np

LARGEST = 28
"""Longest side of the maps that are searched."""

MOST_NODES = 20_000
"""Tiles that are placed before the search gives up and says yes."""


@lru_cache(maxsize=4096)
def can_fit(height: int, width: int, caps: tuple[int, ...], counts: tuple[int, ...]) -> bool:
    """False only if no partition of the map has at most ``counts[c]`` tiles of at most ``caps[c]``
    pixels each, for every class c."""
    if max(height, width) > LARGEST:
        return True
    front = np.zeros(width, dtype=np.int64)
    left = np.array(counts, dtype=np.int64)
    spare = int(np.dot(caps, counts)) - height * width
    nodes = np.array([MOST_NODES])
    return spare >= 0 and bool(_fill(front, height, np.array(caps), left, spare, nodes))


@numba.njit(cache=True)
def _fill(front, height, caps, left, spare, nodes):  # type: ignore[no-untyped-def]
    """Can the map beyond ``front``, the first free row of every column, be covered?

    Its first free corner is the corner of some tile; ``spare`` pixels of the caps stay unused, and
    devices without a tile leave all of theirs.
    """
    x = np.argmin(front)
    top = front[x]
    if top == height:
        return True
    wide = x
    while wide < len(front) and front[wide] == top:
        wide += 1
    for cls in range(len(caps)):
        if left[cls] == 0:
            continue
        left[cls] -= 1
        for w in range(wide - x, 0, -1):
            for h in range(min(caps[cls] // w, height - top), 0, -1):
                lost = caps[cls] - w * h
                if lost > spare:
                    break
                nodes[0] -= 1
                if nodes[0] < 0:
                    return True
                front[x : x + w] = top + h
                found = _fill(front, height, caps, left, spare - lost, nodes)
                front[x : x + w] = top
                if found:
                    return True
        left[cls] += 1
    return False
