"""What is left of a tile when others want parts of it, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from nptp_opt.cost.cuts import cut_pieces
from nptp_opt.cost.rims import OUTGOING

TILE = (0, 10, 20, 24)


@pytest.mark.parametrize(
    ("wanted", "left"),
    [
        ((9, 10, 20, 24), (0, 9, 20, 24)),
        ((0, 1, 20, 24), (1, 10, 20, 24)),
        ((0, 10, 20, 21), (0, 10, 21, 24)),
        ((0, 10, 23, 24), (0, 10, 20, 23)),
        # Of a corner whichever side leaves more: 8 rows of 4 or 10 of 3, then 7 rows.
        ((0, 2, 20, 21), (2, 10, 20, 24)),
        ((0, 3, 20, 21), (0, 10, 21, 24)),
        ((0, 2, 23, 24), (2, 10, 20, 24)),
        ((0, 3, 23, 24), (0, 10, 20, 23)),
        ((8, 10, 20, 21), (0, 8, 20, 24)),
        ((7, 10, 20, 21), (0, 10, 21, 24)),
        ((30, 40, 20, 24), TILE),
    ],
)
def test_the_side_that_leaves_most_is_moved(wanted: tuple[int, ...], left: tuple[int, ...]) -> None:
    """All of the tile needs no halo: first what is wanted, then what is left."""
    tile = np.array(TILE)
    *sent, rest = cut_pieces(tile, tile, np.array([wanted]), OUTGOING).tolist()
    assert tuple(rest) == left
    assert sum((y1 - y0) * (x1 - x0) for y0, y1, x0, x1 in [*sent, rest]) == 40
