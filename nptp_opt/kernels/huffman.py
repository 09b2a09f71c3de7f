"""Huffman codes for the first bytes of the elements that a bitmask keeps. Nothing is lost.

The first byte of a float is its sign and most of its exponent. Behind a ReLU that takes one or two
bits on average, while the bytes after it cannot be told from noise. So they are set apart and
written as DEFLATE (RFC 1951) with Huffman codes alone, by zlib; the others stay as they are, in
planes: the lower halves of four-byte elements, then their third bytes.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

from nptp_opt.kernels.bitmask import Bits, BrokenMessageError, Bytes

BLOCK = 1 << 16
"""Elements that are moved at a time."""

_MOST_READ = 1 << 13
"""Coded bytes that are read at a time: what is left of them is copied."""

WIDTHS = (2, 4)
"""Bytes of the elements that have a first byte apart."""


def coded_first_bytes(kept: Bits, most: int) -> bytes | None:
    """Codes of the first bytes of ``kept`` (any number of elements of two or four bytes); None
    where they take more than ``most`` bytes."""
    if most <= 0:
        return None
    first = _planes(kept)[kept.itemsize - 1 :: kept.itemsize]
    code, parts, size = zlib.compressobj(1, zlib.DEFLATED, -15, 8, zlib.Z_HUFFMAN_ONLY), [], 0
    for at in range(0, len(first), BLOCK):
        parts.append(code.compress(first[at : at + BLOCK].tobytes()))
        size += len(parts[-1])
        if size > most:
            return None
    coded = b"".join((*parts, code.flush()))
    return coded if len(coded) <= most else None


def drop_first_bytes(kept: Bits) -> int:
    """Put the other bytes of ``kept`` into planes at its front, in place; returns how many bytes
    they are."""
    width, count, flat = kept.itemsize, len(kept), _planes(kept)
    if width == 2:
        _gather(flat, flat[::2])
        return count
    third = flat[2::4].copy()
    _gather(flat.view(np.uint16), flat.view(np.uint16)[::2])
    flat[2 * count : 3 * count] = third
    return 3 * count


def _planes(kept: Bits) -> Bytes:
    flat: Bytes = kept.view(np.uint8)
    return flat


def _gather(into: Any, values: Any) -> None:
    """Copy ``values`` to the front of the array that they are in, a block at a time: no second
    plane is held."""
    for at in range(0, len(values), BLOCK):
        part = values[at : at + BLOCK]
        into[at : at + len(part)] = part


class Elements:
    """Elements put together from their planes and their coded first bytes, in their order."""

    def __init__(self, planes: Bytes, coded: Bytes, count: int, width: int) -> None:
        self._planes, self._count, self._width, self._at = planes, count, width, 0
        self._coded, self._read = coded.data, 0
        self._code, self._left = zlib.decompressobj(-15), b""

    def take(self, count: int) -> Bits:
        """The next ``count`` elements; raises BrokenMessageError for codes of no sender."""
        start, self._at = self._at, self._at + count
        first = self._first_bytes(count)
        if self._width == 2:
            pairs = np.empty((count, 2), np.uint8)
            pairs[:, 0], pairs[:, 1] = self._planes[start : self._at], first
            return pairs.view(np.uint16)[:, 0]
        low, whole = self._planes[: 2 * self._count].view(np.uint16), np.empty((count, 4), np.uint8)
        whole.view(np.uint16)[:, 0] = low[start : self._at]
        whole[:, 2] = self._planes[2 * self._count + start : 2 * self._count + self._at]
        whole[:, 3] = first
        return whole.view(np.uint32)[:, 0]

    def end(self) -> None:
        """Raises BrokenMessageError where the codes do not end here."""
        if self._some(1):
            raise BrokenMessageError("more codes of first bytes than elements")
        if not self._code.eof or self._code.unused_data or self._read < len(self._coded):
            raise BrokenMessageError("codes of first bytes follow on the last element")

    def _first_bytes(self, count: int) -> Bytes:
        made, at = np.empty(count, np.uint8), 0
        while at < count:
            part = self._some(count - at)
            if not part:
                raise BrokenMessageError("fewer codes of first bytes than elements")
            made[at : at + len(part)] = np.frombuffer(part, np.uint8)
            at += len(part)
        return made

    def _some(self, most: int) -> bytes:
        """Some of the next bytes, at most so many; none where the codes end."""
        while True:
            fed = self._left
            if not fed:
                fed = bytes(self._coded[self._read : self._read + _MOST_READ])
                self._read += len(fed)
            try:
                part = self._code.decompress(fed, most)
            except zlib.error as error:
                raise BrokenMessageError(f"codes of first bytes: {error}") from None
            self._left = self._code.unconsumed_tail
            if part or self._code.eof or not fed:
                return part
