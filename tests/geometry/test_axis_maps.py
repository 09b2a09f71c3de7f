"""Taps and needs of axis maps, held against torch's own ops and against answers by hand.

Each of these tests kills mutants that survived the others (``make mutants``).
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom

from nptp_opt.geometry import (
    BOTTOM,
    EMPTY,
    LEFT,
    RIGHT,
    TOP,
    AxisMap,
    Tile,
    Window,
    need_ranges,
    need_tile,
)
from nptp_opt.geometry.axis_maps import (
    Adaptive,
    Bordered,
    BorderMode,
    Broadcast,
    Cubic,
    Hull,
    Linear,
    Nearest,
    Shuffled,
    TapMap,
    Transposed,
    Whole,
)

SIZES = [(5, 10), (10, 5), (4, 7), (7, 4), (6, 6), (3, 9), (9, 3), (1, 4)]


def matrix(axis: TapMap) -> torch.Tensor:
    """The weight of every input in every output."""
    made = torch.zeros(axis.n_out, axis.n_in, dtype=torch.float64)
    for o in range(axis.n_out):
        for i, weight in axis.taps(o):
            made[o, i] += weight
    return made


def assert_taps(axis: TapMap, made: torch.Tensor) -> None:
    """``made`` is torch's op on the identity, (inputs, outputs); needs are what the taps read."""
    torch.testing.assert_close(matrix(axis), made.T.double(), rtol=1e-6, atol=1e-6)
    for a in range(axis.n_out):
        assert len(axis.taps(a)) <= axis.n_taps
        assert axis.need(a, a) == (0, 0)
        for b in range(a + 1, axis.n_out + 1):
            used = [i for o in range(a, b) for i, _ in axis.taps(o)]
            lo, hi = axis.need(a, b)
            assert lo <= min(used) and max(used) < hi


def identity(n: int) -> torch.Tensor:
    return torch.eye(n, dtype=torch.float64)[:, None, :, None]


@pytest.mark.parametrize(("n_in", "n_out"), SIZES)
@pytest.mark.parametrize("exact", [False, True])
def test_nearest_takes_what_torch_takes(n_in: int, n_out: int, *, exact: bool) -> None:
    """Also where sizes are equal or doubled, which torch computes otherwise."""
    mode = "nearest-exact" if exact else "nearest"
    made = F.interpolate(identity(n_in), size=(n_out, 1), mode=mode)[:, 0, :, 0]
    scale = float(np.float32(n_in) / np.float32(n_out))
    assert_taps(Nearest(n_in, n_out, scale, exact), made)


@pytest.mark.parametrize("factor", [2.0, 2.1, 1.7])
def test_nearest_by_a_factor_doubles_sizes_whatever_the_factor_is(factor: float) -> None:
    """At twice the size torch takes every input twice, also by a factor that is not quite 2."""
    n_in, n_out = 3, int(3 * factor)
    made = F.interpolate(
        identity(n_in), scale_factor=(factor, 1.0), mode="nearest", recompute_scale_factor=False
    )[:, 0, :, 0]
    assert_taps(Nearest(n_in, n_out, float(np.float32(1.0 / factor))), made)


@pytest.mark.parametrize(("n_in", "n_out"), SIZES)
@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("cubic", [False, True])
def test_a_resize_weighs_inputs_as_torch_does(
    n_in: int, n_out: int, *, align: bool, cubic: bool
) -> None:
    scale = (n_in - 1) / (n_out - 1) if align else n_in / n_out
    axis: TapMap = (Cubic if cubic else Linear)(n_in, n_out, scale, align)
    made = F.interpolate(
        identity(n_in), size=(n_out, 1), mode="bicubic" if cubic else "bilinear",
        align_corners=align,
    )[:, 0, :, 0]  # fmt: skip
    assert_taps(axis, made)


@pytest.mark.parametrize(("n_in", "n_out"), SIZES)
def test_adaptive_pooling_averages_what_torch_averages(n_in: int, n_out: int) -> None:
    made = F.adaptive_avg_pool1d(torch.eye(n_in, dtype=torch.float64)[:, None], n_out)[:, 0]
    axis = Adaptive(n_in, n_out)
    assert_taps(axis, made)
    assert axis.n_taps == int((made > 0).sum(0).max())


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize("pad", [(0, 0), (2, 0), (0, 3), (3, 2)])
def test_a_border_repeats_what_torch_repeats(mode: BorderMode, pad: tuple[int, int]) -> None:
    n_in = 5
    made = F.pad(torch.eye(n_in, dtype=torch.float64)[:, None], pad, mode=mode)[:, 0]
    assert_taps(Bordered(n_in, n_in + sum(pad), pad[0], mode), made)


@pytest.mark.parametrize(
    ("axis", "needs"),
    [
        (Broadcast(7), {(0, 7): (0, 1), (3, 4): (0, 1), (3, 3): (0, 0)}),
        (Whole(9, 4), {(0, 1): (0, 9), (1, 4): (0, 9), (2, 2): (0, 0)}),
        (Shuffled(4, 12, 3), {(0, 3): (0, 1), (2, 4): (0, 2), (5, 12): (1, 4), (6, 6): (0, 0)}),
        (Transposed(4, 8, 2, 2), {(0, 1): (0, 1), (1, 3): (0, 2), (7, 8): (3, 4), (4, 4): (0, 0)}),
        (Window(5, 5), {(0, 5): (0, 5), (1, 3): (1, 3), (2, 2): (0, 0)}),
        (Hull((Window(6, 6), Window(6, 6, 3, pad_lo=1, pad_hi=1))),
         {(0, 2): (0, 3), (2, 4): (1, 5), (3, 3): (0, 0)}),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_needs_by_hand(axis: AxisMap, needs: dict[tuple[int, int], tuple[int, int]]) -> None:
    """A window's defaults are the identity; a hull reads what any of its parts reads."""
    for (a, b), need in needs.items():
        assert axis.need(a, b) == need


def test_a_hull_of_padding_alone_reads_nothing() -> None:
    part = Window(4, 12, 3, pad_lo=5, pad_hi=5)
    hull = Hull((part, part))
    assert (hull.n_in, hull.n_out) == (4, 12)
    assert hull.need(0, 2) == part.need(0, 2) == (0, 0)


WINDOWS = [
    Window(9, 9, 3, pad_lo=1, pad_hi=1),
    Window(9, 4, 3, 2),
    Window(9, 9, 3, 1, 2, 2, 2),
    Window(4, 12, 3, pad_lo=5, pad_hi=5),
    Shuffled(4, 12, 3),
]


@pytest.mark.parametrize("axis", WINDOWS, ids=str)
def test_needs_of_many_ranges_are_those_of_each(axis: AxisMap) -> None:
    ranges = np.array([(a, b) for a in range(axis.n_out + 1) for b in range(axis.n_out + 1)])
    found = need_ranges(axis, ranges)
    assert [tuple(each) for each in found.tolist()] == [
        axis.need(int(a), int(b)) if a < b else (0, 0) for a, b in ranges
    ]


def test_sides_on_the_border_are_bits_of_their_own() -> None:
    """A tile of 1 x 1 inside, one at each side, and the whole map."""
    assert (TOP, BOTTOM, LEFT, RIGHT) == (1, 2, 4, 8)
    assert Tile(1, 2, 1, 2).contacts(3, 4) == 0
    assert Tile(0, 2, 1, 2).contacts(3, 4) == TOP
    assert Tile(1, 3, 1, 2).contacts(3, 4) == BOTTOM
    assert Tile(1, 2, 0, 2).contacts(3, 4) == LEFT
    assert Tile(1, 2, 1, 4).contacts(3, 4) == RIGHT
    assert Tile(0, 3, 0, 4).contacts(3, 4) == 15


def test_a_tile_that_reads_padding_alone_on_one_axis_needs_nothing() -> None:
    window, padding = Window(4, 4), Window(4, 12, 3, pad_lo=5, pad_hi=5)
    assert need_tile(Tile(0, 2, 0, 2), window, padding) == EMPTY
    assert need_tile(Tile(0, 2, 0, 2), padding, window) == EMPTY
    assert need_tile(EMPTY, window, window) == EMPTY
