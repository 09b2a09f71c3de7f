"""What two neighbouring tiles read together, at least. Compiled, like ``bound.tiles``."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True)
def least_pair(rows, columns, area):  # type: ignore[no-untyped-def]
    """``[tensor]``: pixels that two tiles side by side, of ``area`` pixels together, read at least.

    ``rows`` and ``columns`` [tensor, length] rise. Of the two the first is as tall as the other or
    taller: it reads R1 rows and C1 columns, the other R2 rows, both together C columns, and in
    common at most R2 rows of what columns they share. So they read (R1 - R2) C1 + R2 C or more, or
    R1 C where a border leaves R1 the smaller one: with least lengths in place of all of these, the
    former bounds both.
    """
    tensors, height, width = len(rows), rows.shape[1] - 1, columns.shape[1] - 1
    found = np.full(tensors, np.inf)
    for h in range(1, height + 1):
        for w in range(1, width):
            rest = area - h * w
            for low in range(1, h + 1):
                more = max(1, -(-rest // low))
                if w + more > width:
                    continue
                for k in range(tensors):
                    common = rows[k, low]
                    read = (rows[k, h] - common) * columns[k, w] + common * columns[k, w + more]
                    found[k] = min(found[k], read)
                if more == 1:
                    break
    return found
