"""A rectangle of a coded message: which of its elements are not zero, and these.

Its parts lie one after the other, each on a multiple of 8 bytes: for int8 the scale; the mask, a
bit for each element; the non-zeros. Where the plan has their first bytes coded (*huffman*), an
int64 stands before all that: the bytes of the codes, which follow on what is left of the non-zeros,
or ``WHOLE`` where these came as they are, because codes would not have been shorter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nptp_opt.cost import SCALE_BYTES, Encoding, WireDtype
from nptp_opt.kernels.bitmask import Bits, BrokenMessageError, Bytes, compress, expand, mask_bytes
from nptp_opt.kernels.crops import Array
from nptp_opt.kernels.huffman import BLOCK, WIDTHS, Elements, coded_first_bytes, drop_first_bytes
from nptp_opt.kernels.wire_format import ELEMENT_BYTES, decode, encode, encoded_bytes

DENSE, WHOLE = -1, -1
_BITS: dict[int, type[np.generic]] = {1: np.uint8, 2: np.uint16, 4: np.uint32}


def aligned(size: int) -> int:
    """The next multiple of 8."""
    return -(-size // 8) * 8


@dataclass(frozen=True)
class Rectangle:
    """A rectangle (N, C, rows, columns) that goes as a bitmask, with codes or without."""

    shape: tuple[int, ...]
    wire: WireDtype
    encoding: Encoding

    @property
    def room_bytes(self) -> int:
        """Bytes in which it can be written, whatever it holds."""
        whole = self._kept_at + self.elements * self._width
        return max(self.dense_bytes, whole if self._with_codes else 0)

    @property
    def dense_bytes(self) -> int:
        """Bytes of its elements."""
        return encoded_bytes((self.elements,), self.wire)

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    def write(self, values: Array, room: Bytes) -> tuple[int, int]:
        """Non-zeros, and bytes that were written; ``DENSE`` where its elements are shorter."""
        most = min(self.elements, (len(room) - self._kept_at) // self._width)
        if most < 0:
            return DENSE, 0
        bits = self._bits(values, room)
        kept = room[self._kept_at : self._kept_at + most * self._width].view(_BITS[self._width])
        mask = room[self._mask_at : self._mask_at + mask_bytes(self.elements)]
        count = compress(bits, mask, kept)
        if count < 0:
            return DENSE, 0
        size = self._kept_at + count * self._width
        if self._with_codes:
            size = self._write_codes(kept[:count], room)
        return (count, size) if size <= self.dense_bytes else (DENSE, 0)

    def size(self, count: int, data: Bytes) -> int:
        """Bytes of one with so many non-zeros that ``data`` begins with; raises
        BrokenMessageError for what there is not."""
        if not 0 <= count <= self.elements:
            raise BrokenMessageError(f"{count} values of {self.elements} elements")
        if not self._with_codes:
            return self._kept_at + count * self._width
        codes = _number(data)
        if codes == WHOLE:
            return self._kept_at + count * self._width
        if not 0 <= codes <= count:
            raise BrokenMessageError(f"{codes} bytes of codes for {count} values")
        return self._codes_at(count) + codes

    def read(self, count: int, data: Bytes, out: Array) -> None:
        """Read what ``write`` wrote, ``size`` bytes of it, into float32 elements."""
        mask = data[self._mask_at : self._mask_at + mask_bytes(self.elements)]
        if self.wire == "float32":
            self._expand(count, data, mask, out.view(np.uint32))
            return
        short = np.empty(self.dense_bytes, dtype=np.uint8)
        short[: self._scale] = data[: self._scale]
        bits = short[self._scale :].view(_BITS[self._width]).reshape(out.shape)
        self._expand(count, data, mask, bits)
        decode(short, self.wire, out)

    # -- elements as bits ----------------------------------------------------------------------

    def _bits(self, values: Array, room: Bytes) -> Bits:
        """Its elements as unsigned integers, float32 in place; int8's scale goes into the room."""
        if self.wire == "float32":
            return values.view(np.uint32)
        short = np.empty(self.dense_bytes, dtype=np.uint8)
        encode(values, self.wire, short)
        room[: self._scale] = short[: self._scale]
        return short[self._scale :].view(_BITS[self._width]).reshape(self.shape)

    def _expand(self, count: int, data: Bytes, mask: Bytes, out: Bits) -> None:
        if not self._with_codes or _number(data) == WHOLE:
            expand(mask, data[self._kept_at :].view(_BITS[self._width]), out)
            return
        kept = data[self._kept_at : self._kept_at + count * (self._width - 1)]
        elements = Elements(kept, data[self._codes_at(count) :], count, self._width)
        flat, left = out.reshape(-1), count
        for at in range(0, self.elements, BLOCK):
            part = mask[at // 8 : (at + BLOCK) // 8]
            marked = int(np.bitwise_count(part).sum(dtype=np.int64))
            if marked > left:
                break
            expand(part, elements.take(marked), flat[at : at + BLOCK])
            left -= marked
        else:
            if not left:
                elements.end()
                return
        raise BrokenMessageError(f"the mask does not mark {count} elements")

    def _write_codes(self, kept: Bits, room: Bytes) -> int:
        """Move the first bytes of ``kept`` behind the others, coded; bytes of all of it."""
        count = len(kept)
        codes = coded_first_bytes(kept, count - 8)
        room[:8].view(np.int64)[0] = WHOLE if codes is None else len(codes)
        if codes is None:
            return self._kept_at + count * self._width
        drop_first_bytes(kept)
        end = self._codes_at(count) + len(codes)
        room[self._codes_at(count) : end] = np.frombuffer(codes, np.uint8)
        return end

    # -- where things are ----------------------------------------------------------------------

    @property
    def _width(self) -> int:
        return ELEMENT_BYTES[self.wire]

    @property
    def _with_codes(self) -> bool:
        return self.encoding == "huffman" and self._width in WIDTHS

    @property
    def _scale(self) -> int:
        return SCALE_BYTES if self.wire == "int8" else 0

    @property
    def _mask_at(self) -> int:
        return aligned(self._scale) + (8 if self._with_codes else 0)

    @property
    def _kept_at(self) -> int:
        return self._mask_at + aligned(mask_bytes(self.elements))

    def _codes_at(self, count: int) -> int:
        return self._kept_at + aligned(count * (self._width - 1))


def _number(data: Bytes) -> int:
    """The int64 at the front."""
    if len(data) < 8:
        raise BrokenMessageError("a rectangle ends before its codes are counted")
    return int(data[:8].view(np.int64)[0])
