"""Wire format of feature maps: as they are, as float16 or bfloat16, or as int8.

Values beyond a type's range are clamped to its largest finite value; NaN stays NaN. An int8
rectangle is preceded by its float32 scale, max|x| / 127; values are rounded to the nearest multiple
of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nptp_opt.cluster import TransferDtype
from nptp_opt.cost import SCALE_BYTES

_HALVES: dict[TransferDtype, torch.dtype] = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


def encode(values: Tensor, dtype: TransferDtype, out: Tensor) -> None:
    """Write float32 ``values`` of any shape into the bytes ``out`` (uint8, exactly as many)."""
    if dtype == "int8":
        _encode_int8(values, out)
        return
    half = _HALVES[dtype]
    most = torch.finfo(half).max
    out.view(half).view(values.shape).copy_(values.clamp(-most, most))


def decode(data: Tensor, dtype: TransferDtype, out: Tensor) -> None:
    """Read what ``encode`` wrote into the float tensor ``out``."""
    if dtype == "int8":
        scale = data[:SCALE_BYTES].clone().view(torch.float32)
        out.copy_(data[SCALE_BYTES:].view(torch.int8).view(out.shape)).mul_(scale)
        return
    out.copy_(data.view(_HALVES[dtype]).view(out.shape))


def _encode_int8(values: Tensor, out: Tensor) -> None:
    most = torch.finfo(torch.float32).max / 2  # 127 steps of the largest scale stay finite
    bounded = values.clamp(-most, most)
    scale = bounded.abs().amax() / 127  # a denormal one is rounded: more than 127 steps may result
    steps = bounded / torch.where(scale == 0, torch.ones_like(scale), scale)
    out[:SCALE_BYTES] = scale.reshape(1).view(torch.uint8)
    out[SCALE_BYTES:].view(torch.int8).view(values.shape).copy_(steps.round_().clamp_(-127, 127))


def encoded_bytes(shape: Sequence[int], dtype: TransferDtype) -> int:
    """Bytes that ``encode`` writes; the costs are ``cost.sent_bytes``, to which it is equal."""
    count = torch.Size(shape).numel()
    return count + SCALE_BYTES if dtype == "int8" else 2 * count


def round_trip(values: Tensor, dtype: TransferDtype) -> Tensor:
    """``values`` as the receiver sees them."""
    if dtype == "float32":
        return values
    data = torch.empty(encoded_bytes(values.shape, dtype), dtype=torch.uint8)
    encode(values, dtype, data)
    out = torch.empty_like(values, memory_format=torch.contiguous_format)
    decode(data, dtype, out)
    return out
