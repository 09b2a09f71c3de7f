"""The bitmask codec: every bit comes back, and what no sender wrote is refused."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nptp_opt.kernels import bitmask
from nptp_opt.kernels.bitmask import BrokenMessageError, compress, expand, mask_bytes

KINDS = {1: np.uint8, 2: np.uint16, 4: np.uint32}
SPECIAL = np.array(
    [0x00000000, 0x80000000, 0x7FC01234, 0xFFC00001, 0x7F800001, 0x7F800000, 0xFF800000,
     0x00000001, 0x807FFFFF, 0x3F800000], dtype=np.uint32,
)  # fmt: skip
"""Zero, -0.0, three NaN with payloads, both infinities, two denormals, 1.0."""


@pytest.fixture(params=["compiled", "numpy"], autouse=True, scope="module")
def codec(request: pytest.FixtureRequest) -> Iterator[None]:
    """Everything here holds with numba and without it."""
    found = None if request.param == "numpy" else object()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bitmask, "find_spec", lambda name: found)
        bitmask._codec.cache_clear()
        yield
    bitmask._codec.cache_clear()


def _there_and_back(bits: np.ndarray, room: int | None = None) -> np.ndarray:
    mask = np.full(mask_bytes(bits.size), 0xAA, dtype=np.uint8)
    kept = np.zeros(bits.size if room is None else room, dtype=bits.dtype)
    count = compress(bits, mask, kept)
    assert count == np.count_nonzero(bits)
    assert np.array_equal(mask, np.packbits(bits.reshape(-1) != 0))
    assert np.array_equal(kept[:count], bits.reshape(-1)[bits.reshape(-1) != 0])
    out = np.full(bits.shape, 7, dtype=bits.dtype)
    expand(mask, kept[:count], out)
    return out


@given(
    st.tuples(*(st.integers(0, 5) for _ in range(4))),
    st.sampled_from([1, 2, 4]),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.integers(0, 1000),
)
def test_every_bit_comes_back(
    shape: tuple[int, ...], width: int, density: float, seed: int
) -> None:
    """Any size (empty and odd ones, too), none, some and all of it zero, of a map with strides."""
    random = np.random.default_rng(seed)
    whole = random.integers(1, 200, (*shape[:3], shape[3] + 3)).astype(KINDS[width])
    whole[random.random(whole.shape) >= density] = 0
    part = whole[..., 1 : shape[3] + 1]
    assert np.array_equal(_there_and_back(part), part)


def test_only_the_bits_of_zero_are_a_zero() -> None:
    """-0.0, NaN payloads, infinities and denormals are values like others, to the bit."""
    bits = np.tile(SPECIAL, 7)[:69].reshape(1, 3, 23, 1)
    assert np.array_equal(_there_and_back(bits), bits)
    assert np.count_nonzero(bits) == 69 - 7


def test_elements_that_cannot_be_written_or_lie_askew_are_read_too() -> None:
    """As those of a message's payload do."""
    data = b"." + np.arange(5, dtype=np.float32).tobytes()
    bits = np.frombuffer(data, dtype=np.uint32, offset=1).reshape(1, 1, 1, 5)
    assert not bits.flags.writeable and not bits.flags.aligned
    assert np.array_equal(_there_and_back(bits), bits)
    aligned = bits.copy()
    aligned.flags.writeable = False
    assert np.array_equal(_there_and_back(aligned), bits)


def test_more_values_than_there_is_room_for_are_told() -> None:
    """Exactly as many fit; with one place less nothing beyond the room is written."""
    bits = np.arange(24, dtype=np.uint32).reshape(1, 2, 3, 4) % 3
    assert np.array_equal(_there_and_back(bits, room=16), bits)
    behind = np.full(17, 9, dtype=np.uint32)
    assert compress(bits, np.zeros(3, dtype=np.uint8), behind[:15]) == -1
    assert behind[15:].tolist() == [9, 9]


@pytest.mark.parametrize(
    ("mask", "values", "why"),
    [
        ([0b11110000], 3, "marks 4 elements, 3 values came"),
        ([0b11110000], 5, "marks 4 elements, 5 values came"),
        ([0b11110001], 5, "bits beyond its 7 elements"),
        ([0b11110000, 0], 4, "a mask of 2 bytes for 7 elements"),
        ([], 0, "a mask of 0 bytes for 7 elements"),
    ],
)
def test_masks_that_do_not_fit_are_refused(mask: list[int], values: int, why: str) -> None:
    """Nothing is written then."""
    out = np.full((1, 1, 1, 7), 5, dtype=np.uint32)
    with pytest.raises(BrokenMessageError, match=why):
        expand(np.array(mask, dtype=np.uint8), np.ones(values, dtype=np.uint32), out)
    assert (out == 5).all()
