"""Tiles, windows and covers; every window is held against the real torch op."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from nptp_opt.geometry import (
    BOTTOM,
    EMPTY,
    LEFT,
    TOP,
    AlignedLengths,
    Tile,
    Window,
    area_without,
    cover_fault,
    need_tile,
)


@st.composite
def windows(draw: st.DrawFn) -> Window:
    """Any window with at least one output, asymmetric padding included."""
    n_in, kernel = draw(st.integers(1, 14)), draw(st.integers(1, 5))
    stride, dilation = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    lo, hi = draw(st.integers(0, 4)), draw(st.integers(0, 4))
    n_out = (n_in + lo + hi - dilation * (kernel - 1) - 1) // stride + 1
    assume(n_out >= 1)
    return Window(n_in, n_out, kernel, stride, dilation, lo, hi)


def convolve(values: torch.Tensor, window: Window, pads: tuple[int, int]) -> torch.Tensor:
    kernel = torch.arange(1.0, window.kernel + 1, dtype=values.dtype)[None, None]
    padded = torch.nn.functional.pad(values[None, None], pads)
    return torch.nn.functional.conv1d(
        padded, kernel, stride=window.stride, dilation=window.dilation
    )[0, 0]


@given(windows(), st.data())
def test_convolution_of_the_need_is_the_slice_of_the_full_convolution(
    window: Window, data: st.DataObject
) -> None:
    a = data.draw(st.integers(0, window.n_out - 1))
    b = data.draw(st.integers(a + 1, window.n_out))
    values = torch.arange(1.0, window.n_in + 1, dtype=torch.float64) ** 2
    full = convolve(values, window, (window.pad_lo, window.pad_hi))
    lo, hi = window.need(a, b)
    part = convolve(values[lo:hi], window, window.padding(a, b))
    assert torch.equal(part, full[a:b])


@given(windows(), st.data())
def test_need_holds_nothing_that_the_range_does_not_reach(
    window: Window, data: st.DataObject
) -> None:
    a = data.draw(st.integers(0, window.n_out - 1))
    b = data.draw(st.integers(a + 1, window.n_out))
    read = {
        o * window.stride - window.pad_lo + window.dilation * t
        for o in range(a, b)
        for t in range(window.kernel)
    }
    inside = [i for i in read if 0 <= i < window.n_in]
    lo, hi = window.need(a, b)
    if inside:
        assert lo <= min(inside) and max(inside) + 1 <= hi
        first, last = window.reach(a, b)
        assert (lo, hi) == (max(0, first), min(window.n_in, last))


def test_empty_range_needs_nothing() -> None:
    window = Window(10, 10, 3, pad_lo=1, pad_hi=1)
    assert window.need(4, 4) == (0, 0)
    assert window.padding(4, 4) == (0, 0)


def test_ten_rows_with_stride_two_cut_in_the_middle() -> None:
    """k3 s2 p1 on 10 rows gives 5: outputs 0-1 read rows 0-3, outputs 2-4 rows 3-9."""
    window = Window(10, 5, 3, 2, pad_lo=1, pad_hi=1)
    assert window.need(0, 2) == (0, 4)
    assert window.padding(0, 2) == (1, 0)
    assert window.need(2, 5) == (3, 10)
    assert window.padding(2, 5) == (0, 0)
    assert window.own(0, 2) == (0, 4)


@given(windows())
def test_aligned_lengths_are_need_and_overlap_of_every_range(window: Window) -> None:
    lengths = AlignedLengths(window)
    for a in range(window.n_out):
        assert not lengths.need(a, a), "a range without outputs needs nothing"
        for b in range(a + 1, window.n_out + 1):
            lo, hi = window.need(a, b)
            own_lo, own_hi = window.own(a, b)
            assert lengths.need(a, b) == hi - lo
            assert lengths.held(a, b) == max(0, min(hi, own_hi) - max(lo, own_lo))


@given(windows())
def test_ranges_above_the_longest_clipped_are_plain_differences(window: Window) -> None:
    lengths = AlignedLengths(window)
    for a in range(window.n_out):
        for b in range(a + 1 + lengths.longest_clipped, window.n_out + 1):
            assert lengths.end[b] >= lengths.first[a]
            assert lengths.held_end[b] >= lengths.held_first[a]


def test_need_tile_of_an_empty_tile_is_empty() -> None:
    window = Window(8, 8, 3, pad_lo=1, pad_hi=1)
    assert need_tile(Tile(2, 2, 0, 8), window, window) == EMPTY
    assert need_tile(Tile(2, 4, 0, 8), window, window) == Tile(1, 5, 0, 8)


tiles = st.builds(
    lambda y, h, x, w: Tile(y, y + h, x, x + w),
    st.integers(0, 8),
    st.integers(0, 5),
    st.integers(0, 8),
    st.integers(0, 5),
)


def pixels(tile: Tile) -> set[tuple[int, int]]:
    return {(y, x) for y in range(tile.y0, tile.y1) for x in range(tile.x0, tile.x1)}


@given(tiles, tiles)
def test_tile_operations_are_those_of_pixel_sets(one: Tile, other: Tile) -> None:
    assert pixels(one.intersect(other)) == pixels(one) & pixels(other)
    assert one.area == len(pixels(one))
    parts = one.minus(other)
    assert sum(part.area for part in parts) == len(pixels(one) - pixels(other))
    assert set().union(*map(pixels, parts)) == pixels(one) - pixels(other)
    assert one.contains(other) == (pixels(other) <= pixels(one))
    assert pixels(one.hull(other)) >= pixels(one) | pixels(other)


def test_contacts_name_the_sides_on_the_border() -> None:
    assert Tile(0, 3, 0, 2).contacts(6, 6) == TOP | LEFT
    assert Tile(3, 6, 2, 4).contacts(6, 6) == BOTTOM
    assert Tile(0, 6, 0, 6).contacts(6, 6) == 15


PINWHEEL = [
    Tile(0, 2, 0, 4),
    Tile(0, 4, 4, 6),
    Tile(4, 6, 2, 6),
    Tile(2, 6, 0, 2),
    Tile(2, 4, 2, 4),
]


def test_a_pinwheel_covers_exactly_once() -> None:
    assert cover_fault(PINWHEEL, 6, 6) is None


@pytest.mark.parametrize(
    ("tiles", "words"),
    [
        (PINWHEEL[:-1], "covered by no tile"),
        ([*PINWHEEL, Tile(0, 1, 0, 1)], "covered twice"),
        ([Tile(0, 6, 0, 7)], "leaves the 6 x 6 map"),
        ([Tile(0, 6, 0, 5)], "columns 5 to 5 are covered by no tile"),
        ([], "covered by no tile"),
    ],
)
def test_cover_fault_says_where_a_partition_fails(tiles: list[Tile], words: str) -> None:
    fault = cover_fault(tiles, 6, 6)
    assert fault is not None and words in fault


@given(st.lists(tiles, max_size=6))
def test_cover_fault_agrees_with_counting_pixels(found: list[Tile]) -> None:
    counts = np.zeros((14, 14), dtype=int)
    for tile in found:
        counts[tile.y0 : tile.y1, tile.x0 : tile.x1] += 1
    exact = bool((counts[:8, :8] == 1).all()) and not counts[8:].any() and not counts[:, 8:].any()
    assert (cover_fault(found, 8, 8) is None) == exact


def test_what_no_tile_covers_is_counted() -> None:
    """Of 4 x 5 elements two tiles that overlap in one column leave the last row and a corner."""
    need = Tile(0, 4, 0, 5)
    assert area_without(need, []) == 20
    assert area_without(need, [Tile(0, 3, 0, 3), Tile(0, 2, 2, 9)]) == 5 + 2
    assert area_without(need, [Tile(-1, 9, 0, 5)]) == area_without(EMPTY, []) == 0
