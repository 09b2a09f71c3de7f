"""Transfer types: what a rectangle becomes on its way, in the bytes that it is costed at."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nptp_opt.cluster import TransferDtype
from nptp_opt.cost import sent_bytes
from nptp_opt.geometry import Tile
from nptp_opt.kernels import wire_format
from nptp_opt.kernels.wire_format import decode, encode, encoded_bytes
from tests.builders import conv_chain, make_cluster

LOSSY: tuple[TransferDtype, ...] = ("float16", "bfloat16", "int8")


def round_trip(values: torch.Tensor, dtype: TransferDtype) -> torch.Tensor:
    return torch.from_numpy(wire_format.round_trip(values.numpy(), dtype))


shapes = st.tuples(*(st.integers(1, 4) for _ in range(4)))


@given(shapes, st.integers(0, 1000), st.floats(1e-3, 1e3))
def test_errors_are_within_what_each_type_can_hold(
    shape: tuple[int, ...], seed: int, scale: float
) -> None:
    """Half a unit in the last place for the halves, half a step of the largest value for int8."""
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale
    assert torch.equal(round_trip(values, "float32"), values)
    for dtype, unit in (("float16", 2**-11), ("bfloat16", 2**-8)):
        error = (round_trip(values, dtype) - values).abs()
        assert torch.all(error <= values.abs() * unit + 6e-8)
    error = (round_trip(values, "int8") - values).abs().max()
    assert error <= values.abs().max() / 127 * (0.5 + 1e-3)


def test_int8_by_hand() -> None:
    """The largest magnitude 127 makes steps of 1: 0.4 becomes 0, 0.6 becomes 1."""
    values = torch.tensor([[[[127.0, 0.4, 0.6, -2.0]]]])
    assert round_trip(values, "int8").tolist() == [[[[127.0, 0.0, 1.0, -2.0]]]]


@pytest.mark.parametrize("dtype", LOSSY)
def test_zeros_large_values_and_nan(dtype: TransferDtype) -> None:
    """Zeros stay zeros (int8 has scale 0 then), overflow is clamped, NaN is seen."""
    zeros = torch.zeros(1, 2, 3, 1)
    assert torch.equal(round_trip(zeros, dtype), zeros)
    large = round_trip(torch.tensor([[[[1e38, -1e38, math.inf]]]]), dtype)
    assert torch.isfinite(large).all()
    assert large[..., 0] > 0 > large[..., 1]
    assert torch.isnan(round_trip(torch.tensor([[[[math.nan, 1.0]]]]), dtype)[..., 0]).all()


@pytest.mark.parametrize("dtype", LOSSY)
def test_a_rectangle_has_the_bytes_that_it_is_costed_at(dtype: TransferDtype) -> None:
    network = conv_chain((2, 3, 8, 8), [{"channels": 5}])
    cluster = make_cluster((1.0, 1.0)).sending_as(dtype)
    for tile in (Tile(1, 4, 2, 3), Tile(0, 8, 0, 8)):
        shape = (2, 5, tile.height, tile.width)
        assert encoded_bytes(shape, dtype) == sent_bytes(cluster, network, "conv0", tile)
    assert sent_bytes(cluster, network, "conv0", Tile(3, 3, 0, 8)) == 0


def test_denormals_keep_their_sign() -> None:
    """Regression: the scale of 2.6e-43 was rounded down, so it took 186 steps, which wrapped."""
    x = torch.tensor([[[[2.6e-43, -1e-43, 0.0]]]])
    arrived = round_trip(x, "int8")
    assert (arrived * x >= 0).all()
    assert (arrived.abs() <= x.abs()).all()


def test_views_are_encoded_like_copies() -> None:
    """Rectangles are crops of larger maps, not contiguous."""
    whole = torch.randn(1, 3, 9, 7)
    view = whole[:, :, 2:5, 1:4]
    for dtype in LOSSY:
        data = np.empty(encoded_bytes(view.shape, dtype), dtype=np.uint8)
        encode(view.numpy(), dtype, data)
        out = np.empty(view.shape, dtype=np.float32)
        decode(data, dtype, out)
        assert np.array_equal(out, round_trip(view.contiguous(), dtype).numpy())


@given(st.integers(0, 1000), st.floats(1e-7, 1e5))
def test_halves_round_as_torch_does(seed: int, scale: float) -> None:
    """To the nearest, halves to the even one, bit by bit; denormals, too."""
    values = torch.randn(200, generator=torch.Generator().manual_seed(seed)) * scale
    for dtype in (torch.float16, torch.bfloat16):
        most = torch.finfo(dtype).max
        expected = values.clamp(-most, most).to(dtype).float()
        name: TransferDtype = "float16" if dtype is torch.float16 else "bfloat16"
        assert torch.equal(round_trip(values, name), expected)


def test_the_types_are_those_of_cluster_files() -> None:
    assert set(get_args(TransferDtype)) == {"float32", *LOSSY}
