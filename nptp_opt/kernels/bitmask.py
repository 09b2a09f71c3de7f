"""Bitmask encoding of elements: one bit each, then those that are not zero. Nothing is lost.

A zero is the all-zero bit pattern alone: -0.0, denormals and NaN payloads are elements like others.
Bits are ordered as ``numpy.packbits`` orders them. Elements are looked at as unsigned integers of
their size, row by row in place: the map is not copied. Where numba is not installed, as on a light
worker, numpy does the same with a few copies.
"""

from __future__ import annotations

from functools import cache, partial
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

Bits = np.ndarray[Any, Any]
"""Elements of a rectangle (N, C, rows, columns) as unsigned integers; any strides."""

Bytes = npt.NDArray[np.uint8]


_SET = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).astype(np.int64)
_FULL = -_SET
"""By byte of a mask and element (256, 8): all bits where the element is not zero."""
_BEFORE = np.pad(_SET.cumsum(axis=1), ((0, 0), (1, 0)))
"""By byte of a mask (256, 9): how many of its elements before each, and of all, are not zero."""


class BrokenMessageError(ValueError):
    """A message whose content cannot be what a sender wrote."""


def mask_bytes(elements: int) -> int:
    """Bytes of one bit for every element."""
    return (elements + 7) // 8


def compress(values: Bits, mask: Bytes, kept: Bits) -> int:
    """Write the mask and the non-zeros of ``values``; returns how many these are.

    ``mask`` has ``mask_bytes`` of the elements. -1 where there are more non-zeros than ``kept`` has
    room for; what was written is then of no use.
    """
    whole = values if values.flags.aligned else values.copy()
    return int(_codec()[0](whole, mask, kept))


def expand(mask: Bytes, kept: Bits, out: Bits) -> None:
    """Read what ``compress`` wrote into ``out``, all of it; it lies in one piece.

    Raises BrokenMessageError where mask and values do not go together; nothing is written then.
    """
    elements = out.size
    assert out.flags.c_contiguous, "a reshape would be a copy"
    if len(mask) != mask_bytes(elements):
        raise BrokenMessageError(f"a mask of {len(mask)} bytes for {elements} elements")
    if elements % 8 and int(mask[-1]) & (0xFF >> elements % 8):
        raise BrokenMessageError(f"the mask has bits beyond its {elements} elements")
    marked = int(np.bitwise_count(mask).sum(dtype=np.int64))
    if marked != len(kept):
        raise BrokenMessageError(f"the mask marks {marked} elements, {len(kept)} values came")
    if not marked:
        out.fill(0)
    elif elements:
        _codec()[1](mask, kept, out.reshape(-1))


def prepare() -> None:
    """Compile the codec now, not when the first message waits for it."""
    _codec()


@cache
def _codec() -> tuple[Any, Any]:
    """Both ways: compiled where numba is there, which a worker imports for coded messages alone."""
    return (_compress_numpy, _expand_numpy) if find_spec("numba") is None else _compiled()


def _compiled() -> tuple[Any, Any]:
    """Both ways for elements of 1, 2 and 4 bytes, from whatever strides."""
    import numba

    kinds = [numba.uint8, numba.uint16, numba.uint32]
    mask = numba.types.Array(numba.uint8, 1, "C")
    flat = [numba.types.Array(kind, 1, "C") for kind in kinds]
    maps = [numba.types.Array(kind, 4, "A", readonly=True) for kind in kinds]
    there = [numba.int64(full, mask, kept) for kept, full in zip(flat, maps, strict=True)]
    back = [numba.void(mask, kept, kept) for kept in flat]
    compile_them = partial(numba.njit, cache=True, nogil=True)
    return compile_them(there)(_compress), compile_them(back)(_expand)


def _compress_numpy(values: Bits, mask: Bytes, kept: Bits) -> int:
    there = values != 0
    count = int(np.count_nonzero(there))
    if count > len(kept):
        return -1
    mask[:] = np.packbits(there.reshape(-1))
    kept[:count] = values[there]
    return count


def _expand_numpy(mask: Bytes, kept: Bits, out: Bits) -> None:
    out.fill(0)
    out[np.unpackbits(mask, count=len(out)).view(np.bool_)] = kept


def _compress(values, mask, kept):  # type: ignore[no-untyped-def]
    batch, channels, rows, columns = values.shape
    room, count, at = len(kept), 0, 0
    bits, left = np.uint8(0), 8
    for n in range(batch):
        for c in range(channels):
            for y in range(rows):
                row = values[n, c, y]
                if count + columns <= room:  # every element is written, the next over a zero
                    for x in range(columns):
                        value = row[x]
                        there = value != 0
                        kept[count] = value
                        count += there
                        left -= 1
                        bits |= np.uint8(there) << left
                        if left == 0:
                            mask[at] = bits
                            at += 1
                            bits, left = np.uint8(0), 8
                    continue
                for x in range(columns):
                    value = row[x]
                    there = value != 0
                    if there:
                        if count == room:
                            return -1
                        kept[count] = value
                        count += 1
                    left -= 1
                    bits |= np.uint8(there) << left
                    if left == 0:
                        mask[at] = bits
                        at += 1
                        bits, left = np.uint8(0), 8
    if left < 8:
        mask[at] = bits
    return count


def _expand(mask, kept, out):  # type: ignore[no-untyped-def]
    """Eight elements by eight, from tables: a branch for each element would be guessed wrong at
    every other one of a half-dense map."""
    elements, last, count = len(out), len(kept) - 1, 0
    for byte in range(elements // 8):
        bits, at = mask[byte], 8 * byte
        if count + 8 <= last:
            for k in range(8):
                out[at + k] = np.int64(kept[count + _BEFORE[bits, k]]) & _FULL[bits, k]
        else:
            for k in range(8):
                out[at + k] = np.int64(kept[min(count + _BEFORE[bits, k], last)]) & _FULL[bits, k]
        count += _BEFORE[bits, 8]
    for k in range(elements % 8):
        bits, at = mask[elements // 8], elements // 8 * 8
        out[at + k] = np.int64(kept[min(count + _BEFORE[bits, k], last)]) & _FULL[bits, k]
