"""What windows with holes read: no input at either end that torch's op does not read, too."""

from __future__ import annotations

import os

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nptp_opt.geometry import AxisMap
from nptp_opt.geometry.axis_maps import Cubic, Linear, TapMap, Transposed

QUICK = settings(deadline=None, max_examples=150 * int(os.environ.get("NPTP_FUZZ", "1")))

SMALL = st.integers(1, 5)


def exact(reads: Tensor, a: int, b: int) -> tuple[int, int]:
    """First and last of the inputs that outputs ``[a, b)`` read; ``reads`` is (outputs, inputs)."""
    used = (reads[a:b].abs() > 1e-12).any(0).nonzero().flatten().tolist()
    return (used[0], used[-1] + 1) if used else (0, 0)


def assert_exact(axis: AxisMap, reads: Tensor) -> None:
    assert reads.shape == (axis.n_out, axis.n_in)
    for a in range(axis.n_out):
        for b in range(a, axis.n_out + 1):
            assert axis.need(a, b) == exact(reads, a, b), (axis, a, b)


@QUICK
@given(n_in=st.integers(1, 9), kernel=SMALL, stride=SMALL, dilation=SMALL, data=st.data())
def test_a_transposed_convolution_needs_what_torch_reads(
    n_in: int, kernel: int, stride: int, dilation: int, data: st.DataObject
) -> None:
    """The interval from the first to the last tap was taken, over holes of the dilation."""
    pad = data.draw(st.integers(0, dilation * (kernel - 1)))
    more = data.draw(st.integers(0, max(stride, dilation) - 1))
    n_out = (n_in - 1) * stride - 2 * pad + dilation * (kernel - 1) + more + 1
    if n_out < 1:
        return
    made = F.conv_transpose1d(
        torch.eye(n_in)[:, None],
        torch.ones(1, 1, kernel),
        stride=stride,
        padding=pad,
        output_padding=more,
        dilation=dilation,
    )
    assert_exact(Transposed(n_in, n_out, kernel, stride, dilation, pad), made[:, 0].T)


@QUICK
@given(n_in=st.integers(1, 12), n_out=st.integers(1, 15), align=st.booleans(), cubic=st.booleans())
def test_a_resize_needs_no_input_of_weight_0(
    n_in: int, n_out: int, align: bool, cubic: bool
) -> None:
    """Taps of weight zero were fetched, such as a neighbour of a sample that is hit exactly."""
    if align and n_out == 1:
        return
    scale = (n_in - 1) / (n_out - 1) if align else n_in / n_out
    axis: TapMap = (Cubic if cubic else Linear)(n_in, n_out, scale, align)
    made = F.interpolate(
        torch.eye(n_in, dtype=torch.float64)[:, None, :, None],
        size=(n_out, 1),
        mode="bicubic" if cubic else "bilinear",
        align_corners=align,
    )
    assert_exact(axis, made[:, 0, :, 0].T)
