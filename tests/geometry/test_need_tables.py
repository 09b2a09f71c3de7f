"""Tables of axis maps say what the maps say, of every range."""

from __future__ import annotations

import pytest

from nptp_opt.geometry import AxisMap, Window
from nptp_opt.geometry.axis_maps import (
    Adaptive,
    Bordered,
    Broadcast,
    Cubic,
    Hull,
    Linear,
    Nearest,
    Shuffled,
    Transposed,
    Whole,
)
from nptp_opt.geometry.need_tables import need_table

MAPS: list[AxisMap] = [
    Window(9, 9),
    Window(9, 5, 3, 2, 1, 1, 1),
    Window(9, 7, 3, 1, 2, 1, 1),
    Window(3, 9, 1, 1, 1, 3, 3),  # outputs that read padding alone
    Transposed(5, 11, 3, 2, 1, 0),
    Transposed(5, 9, 3, 2, 1, 1),
    Transposed(4, 12, 2, 3),  # outputs that read nothing
    Whole(7, 9),
    Broadcast(9),
    Shuffled(4, 12, 3),
    Nearest(5, 9, 5 / 9),
    Linear(5, 9, 5 / 9),
    Cubic(5, 10, 0.5),
    Cubic(9, 3, 3.0),  # each output lies on an input
    Adaptive(9, 4),
    Adaptive(4, 9),
]


@pytest.mark.parametrize("axis", MAPS, ids=repr)
def test_a_table_gives_the_need_of_every_range(axis: AxisMap) -> None:
    table = need_table(axis)
    assert table is not None
    for a in range(axis.n_out):
        for b in range(a + 1, axis.n_out + 1):
            lo, hi = int(table[0, a]), int(table[1, b])
            assert ((lo, hi) if lo < hi else (0, 0)) == axis.need(a, b)


@pytest.mark.parametrize(
    "axis",
    [
        Bordered(5, 9, 2, "reflect"),
        Transposed(5, 17, 4, 2, 3, 0),  # output 3 reads input 0 again, after output 2 read 1
        Cubic(4, 7, 0.5, True),  # every other output lies on an input
        Hull((Window(4, 3, 1, 5, 1, 2, 8), Window(4, 3))),
    ],
    ids=repr,
)
def test_maps_that_turn_back_have_no_table(axis: AxisMap) -> None:
    assert need_table(axis) is None
