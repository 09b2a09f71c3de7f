"""Wire format of elements: as they are, as float16 or bfloat16, as int8, or pixels as uint8.

Where a map's elements are known to be few, or numbers of a shorter type, they are sent as such,
without loss (``exact_codecs``).

Values beyond a type's range are clamped to its largest finite value; NaN stays NaN. An int8
rectangle is preceded by its float32 scale, max|x| / 127; values are rounded to the nearest multiple
of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nptp_opt.cluster import TransferDtype
from nptp_opt.cost import SCALE_BYTES, WireDtype, is_sent_exactly
from nptp_opt.errors import InputError
from nptp_opt.kernels.crops import Array
from nptp_opt.network.exact import Exact, Grid, Half
from nptp_opt.network.ir import Network

_PLAIN: dict[WireDtype, type[np.generic]] = {"float32": np.float32, "uint8": np.uint8}
"""Types whose values are copied: pixels are whole numbers from 0 to 255."""

ELEMENT_BYTES: dict[WireDtype, int] = {
    "float32": 4, "float16": 2, "bfloat16": 2, "int8": 1, "uint8": 1
}  # fmt: skip

_LARGEST_BFLOAT16 = float(np.array([0x7F7F0000], np.uint32).view(np.float32)[0])


def encode(values: Array, dtype: WireDtype, out: Array) -> None:
    """Write float32 ``values`` of any shape into the bytes ``out`` (uint8, exactly as many)."""
    if dtype == "int8":
        _encode_int8(values, out)
    elif dtype in _PLAIN:
        out.view(_PLAIN[dtype]).reshape(values.shape)[:] = values
    elif dtype == "bfloat16":
        out.view(np.uint16).reshape(values.shape)[:] = _to_bfloat16(values)
    else:
        most = float(np.finfo(np.float16).max)
        out.view(np.float16).reshape(values.shape)[:] = np.clip(values, -most, most)


def decode(data: Array, dtype: WireDtype, out: Array) -> None:
    """Read what ``encode`` wrote into the float32 array ``out``."""
    if dtype == "int8":
        scale = data[:SCALE_BYTES].copy().view(np.float32)
        np.multiply(data[SCALE_BYTES:].view(np.int8).reshape(out.shape), scale, out=out)
    elif dtype in _PLAIN:
        out[:] = data.view(_PLAIN[dtype]).reshape(out.shape)
    elif dtype == "bfloat16":
        bits = data.view(np.uint16).reshape(out.shape).astype(np.uint32) << 16
        out[:] = bits.view(np.float32)
    else:
        out[:] = data.view(np.float16).reshape(out.shape)


def _to_bfloat16(values: Array) -> Array:
    """The upper halves of float32 numbers, rounded to the nearest, halves to the even one."""
    bounded = np.ascontiguousarray(np.clip(values, -_LARGEST_BFLOAT16, _LARGEST_BFLOAT16))
    bits = bounded.view(np.uint32)
    rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
    return np.where(np.isnan(bounded), 0x7FC0, rounded).astype(np.uint16)


def _encode_int8(values: Array, out: Array) -> None:
    most = float(np.finfo(np.float32).max) / 2  # 127 steps of the largest scale stay finite
    bounded = np.clip(values, np.float32(-most), np.float32(most))
    scale = np.abs(bounded).max() / np.float32(127)  # a denormal one is rounded: > 127 steps
    steps = np.rint(bounded / (scale if scale != 0 else np.float32(1)))
    out[:SCALE_BYTES] = np.array([scale], np.float32).view(np.uint8)
    whole = np.clip(np.nan_to_num(steps, nan=0.0), -127, 127)  # NaN is in the scale
    out[SCALE_BYTES:].view(np.int8).reshape(values.shape)[:] = whole


def encoded_bytes(shape: Sequence[int], dtype: WireDtype) -> int:
    """Bytes that ``encode`` writes; the costs are ``cost.sent_bytes``, to which it is equal."""
    count = math.prod(shape)
    return count * ELEMENT_BYTES[dtype] + (SCALE_BYTES if dtype == "int8" else 0)


def round_trip(values: Array, dtype: TransferDtype) -> Array:
    """``values`` as the receiver sees them."""
    if dtype == "float32":
        return values
    data = np.empty(encoded_bytes(values.shape, dtype), dtype=np.uint8)
    encode(values, dtype, data)
    out = np.empty(values.shape, dtype=values.dtype)
    decode(data, dtype, out)
    return out


@dataclass(frozen=True)
class Levels:
    """The values of a quantised map, (q - zero) * scale, with its weights' numbers.

    In float32 what ``encode`` is given comes back bit by bit, if it lies on the grid.
    """

    bytes: ClassVar[int] = Grid.bytes

    low: float
    zero: float
    scale: float

    @classmethod
    def of(cls, tensor: str, grid: Grid, weights: Mapping[str, Array]) -> Levels:
        """Raises InputError where the weights are none of a quantised map."""
        zero = 0.0 if grid.zero is None else float(weights[grid.zero].reshape(()))
        scale = 1.0 if grid.scale is None else float(weights[grid.scale].reshape(()))
        if not zero.is_integer() or not 0.0 < scale < float("inf"):
            raise InputError(
                f"{tensor!r} is planned to be sent in a byte per element, and its zero point "
                f"{zero:g} and scale {scale:g} are none of a quantised map: plan with these weights"
            )
        return cls(grid.low, zero, scale)

    def encode(self, values: Array, out: Array) -> None:
        """Write ``values`` into the bytes ``out`` (uint8, as many)."""
        q = np.rint(values / values.dtype.type(self.scale))
        q += values.dtype.type(self.zero - self.low)
        out.reshape(values.shape)[:] = np.clip(q, 0.0, 255.0)

    def decode(self, data: Array, out: Array) -> None:
        """Read what ``encode`` wrote, in the operations of a dequantisation."""
        kind = out.dtype.type
        np.add(data.reshape(out.shape), kind(self.low), out=out, casting="unsafe")
        out -= kind(self.zero)
        out *= kind(self.scale)


@dataclass(frozen=True)
class Halves:
    """Numbers of a shorter type, infinities included; what is none of them is cut off."""

    bytes: ClassVar[int] = Half.bytes

    dtype: str

    def encode(self, values: Array, out: Array) -> None:
        """Write ``values`` into the bytes ``out`` (uint8, two for each)."""
        if self.dtype == "float16":
            out.view(np.float16).reshape(values.shape)[:] = values
            return
        bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
        out.view(np.uint16).reshape(values.shape)[:] = bits >> 16

    def decode(self, data: Array, out: Array) -> None:
        """Read what ``encode`` wrote."""
        name: TransferDtype = "float16" if self.dtype == "float16" else "bfloat16"
        decode(data, name, out)


Codec = Levels | Halves


def exact_codecs(
    network: Network, dtype: TransferDtype, weights: Mapping[str, Array]
) -> dict[str, Codec]:
    """How maps travel without loss where ``dtype`` is the transfer type, as far as ``weights`` say.

    Raises InputError for weights that are none of a quantised map.
    """
    return {
        tensor: _codec(tensor, known, weights)
        for tensor, known in network.exact.items()
        if known.keys <= weights.keys() and is_sent_exactly(network, tensor, dtype)
    }


def _codec(tensor: str, known: Exact, weights: Mapping[str, Array]) -> Codec:
    return Halves(known.dtype) if isinstance(known, Half) else Levels.of(tensor, known, weights)


def arrives_as(values: Array, codec: Codec) -> Array:
    """``values`` of a map that travels without loss, as the receiver sees them."""
    data = np.empty(codec.bytes * values.size, np.uint8)
    out = np.empty(values.shape, values.dtype)
    codec.encode(values, data)
    codec.decode(data, out)
    return out
