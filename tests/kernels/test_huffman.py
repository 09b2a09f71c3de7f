"""First bytes in Huffman codes: every bit comes back, and what no sender wrote is refused."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nptp_opt.kernels.bitmask import BrokenMessageError
from nptp_opt.kernels.huffman import BLOCK, Elements, coded_first_bytes, drop_first_bytes

KINDS = {2: np.uint16, 4: np.uint32}


def _normal(count: int, width: int, seed: int = 0) -> np.ndarray:
    """Bits of normal numbers, as float32 or bfloat16."""
    bits = np.random.default_rng(seed).standard_normal(count, dtype=np.float32).view(np.uint32)
    return bits if width == 4 else (bits >> 16).astype(np.uint16)


def _there_and_back(kept: np.ndarray, takes: list[int]) -> np.ndarray:
    codes = coded_first_bytes(kept, 2 * len(kept) + 100)
    assert codes is not None
    moved = kept.copy()
    rest = drop_first_bytes(moved)
    assert rest == len(kept) * (kept.itemsize - 1)
    planes = moved.view(np.uint8)[:rest].copy()
    found = Elements(planes, np.frombuffer(codes, np.uint8), len(kept), kept.itemsize)
    parts = [found.take(count) for count in takes]
    found.end()
    return np.concatenate(parts)


@given(
    st.integers(0, 3000),
    st.sampled_from([2, 4]),
    st.sampled_from(["normal", "alike", "noise"]),
    st.integers(1, 3000),
    st.integers(0, 99),
)
def test_every_bit_comes_back(count: int, width: int, kind: str, step: int, seed: int) -> None:
    """Few and many values of the first byte, taken in one piece and in several."""
    random = np.random.default_rng(seed)
    made = {
        "normal": lambda: _normal(count, width, seed),
        "alike": lambda: np.full(count, 0x3F80, KINDS[width]),
        "noise": lambda: random.integers(0, 2 ** (8 * width), count).astype(KINDS[width]),
    }[kind]()
    takes = [min(step, count - at) for at in range(0, count, step)] or [0]
    assert np.array_equal(_there_and_back(made, takes), made)


@pytest.mark.parametrize("width", [2, 4])
def test_many_blocks_come_back(width: int) -> None:
    """More than are moved at a time: planes and their sources overlap."""
    kept = _normal(3 * BLOCK + 5, width)
    takes = [BLOCK, 0, 2 * BLOCK, 5]
    assert np.array_equal(_there_and_back(kept, takes), kept)


def test_normal_numbers_take_two_or_three_bits() -> None:
    """Sign, and the upper seven bits of the exponent, which two binades share."""
    for values, least, most in ((_normal(100_000, 4), 2.0, 3.0),
                                (_normal(100_000, 4) & 0x7FFFFFFF, 1.0, 2.0)):  # fmt: skip
        codes = coded_first_bytes(values, len(values))
        assert codes is not None
        assert least < 8 * len(codes) / len(values) < most
    noise = np.random.default_rng(0).integers(0, 2**32, 100_000).astype(np.uint32)
    assert coded_first_bytes(noise, len(noise) - 8) is None


def test_codes_that_are_none_are_refused() -> None:
    """A bomb of zeros is not unpacked: no more is read than there are elements."""
    bomb = np.frombuffer(zlib.compress(bytes(10**7), 9)[2:-4], np.uint8)
    planes = np.zeros(3 * 1000, np.uint8)
    found = Elements(planes, bomb, 1000, 4)
    assert len(found.take(1000)) == 1000
    with pytest.raises(BrokenMessageError, match="more codes"):
        found.end()
    with pytest.raises(BrokenMessageError, match="fewer codes"):
        Elements(planes, bomb[:0], 1000, 4).take(1)
    with pytest.raises(BrokenMessageError, match="codes of first bytes"):
        Elements(planes, np.full(50, 0xFF, np.uint8), 1000, 4).take(1)
