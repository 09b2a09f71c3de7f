"""ONNX operators along axes: reductions, running sums, places of extremes, Fourier transforms."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor

from nptp_opt.network.onnx_rules import Attrs, OnnxOp, cut, op, refuse


def axes_of(attrs: Attrs, given: Any) -> list[int] | None:
    """Axes from an input or, as before opset 13 or 18, from an attribute."""
    found = attrs["axes"] if given is None else given
    return None if found is None else [int(v) for v in found]


def _reduction(function: OnnxOp) -> OnnxOp:
    def run(attrs: Attrs, x: Tensor, axes: Any = None) -> Any:
        found = axes_of(attrs, axes)
        if not found and attrs["noop_with_empty_axes"]:
            return x
        return function(x, found or list(range(x.dim())), bool(attrs["keepdims"]))

    return run


def _product(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted((a % x.dim() for a in axes), reverse=True):
        x = x.prod(axis, keepdim=keep)
    return x


_REDUCTIONS: dict[str, OnnxOp] = {
    "ReduceMean": torch.mean, "ReduceSum": torch.sum, "ReduceMax": torch.amax,
    "ReduceMin": torch.amin, "ReduceProd": _product, "ReduceLogSumExp": torch.logsumexp,
    "ReduceL1": lambda x, axes, keep: x.abs().sum(axes, keep),
    "ReduceL2": lambda x, axes, keep: (x * x).sum(axes, keep).sqrt(),
    "ReduceLogSum": lambda x, axes, keep: x.sum(axes, keep).log(),
    "ReduceSumSquare": lambda x, axes, keep: (x * x).sum(axes, keep),
}  # fmt: skip
for _name, _function in _REDUCTIONS.items():
    op(_name, reads="axes keepdims noop_with_empty_axes", takes=2, static=(1,))(
        _reduction(_function)
    )


@op("ArgMax", "ArgMin", reads="axis keepdims")
def position(attrs: Attrs, x: Tensor) -> Tensor:
    """Where the first of the extremes stands."""
    function = torch.argmax if attrs.op_type == "ArgMax" else torch.argmin
    return function(x, attrs["axis"], bool(attrs["keepdims"]))


@op("CumSum", "CumProd", reads="exclusive reverse", takes=2, static=(1,))
def running(attrs: Attrs, x: Tensor, axis: Any) -> Tensor:
    """From the first element on or from the last, with or without the element itself."""
    dim = int(axis) % x.dim()
    function, start = (torch.cumsum, 0.0) if attrs.op_type == "CumSum" else (torch.cumprod, 1.0)
    x = x.flip(dim) if attrs["reverse"] else x
    if attrs["exclusive"]:
        sides = [0, 0] * (x.dim() - 1 - dim) + [1, 0]
        x = F.pad(cut(x, dim, 0, x.shape[dim] - 1), sides, value=start)
    found = function(x, dim)
    return found.flip(dim) if attrs["reverse"] else found


@op("LpNormalization", reads="axis p")
def lp_normalisation(attrs: Attrs, x: Tensor) -> Tensor:
    """What has no length stays as it is."""
    if attrs["p"] not in (1, 2):
        raise refuse(f"p={attrs['p']}")
    axis = attrs["axis"]
    length = x.abs().sum(axis, True) if attrs["p"] == 1 else (x * x).sum(axis, True).sqrt()
    return x / torch.where(length == 0.0, 1.0, length)


@op("TopK", reads="axis k largest", idle="sorted", takes=2, makes=2, static=(1,))
def largest(attrs: Attrs, x: Tensor, count: Any = None) -> tuple[Tensor, Tensor]:
    """In order, and of equal elements the first ones first, as ONNX has it and ``topk`` has not."""
    axis, upwards = attrs["axis"], attrs["largest"] == 0
    size = attrs["k"] if count is None else int(count.item())
    values, places = torch.sort(x, dim=axis, descending=not upwards, stable=True)
    return cut(values, axis, 0, size), cut(places, axis, 0, size)


@op("DFT", reads="axis inverse onesided", takes=3, static=(1, 2))
def fourier(attrs: Attrs, x: Tensor, length: Any = None, axis: Any = None) -> Tensor:
    """A product with cosines and sines. The last axis has the real and, maybe, the imaginary part.

    Before opset 20 the axis is an attribute.
    """
    default = -2 if attrs["axis"] is None else attrs["axis"]
    dim = (default if axis is None else int(axis)) % x.dim()
    if attrs["inverse"] and attrs["onesided"]:
        raise refuse("inverse=1 and onesided=1")
    size = x.shape[dim] if length is None else int(length)
    sides = [0, 0] * (x.dim() - 1 - dim) + [0, size - x.shape[dim]]
    x = F.pad(x, sides) if size != x.shape[dim] else x
    kept = size // 2 + 1 if attrs["onesided"] else size
    cosines, sines = _waves(size, kept, inverse=bool(attrs["inverse"]))
    parts = [x.select(-1, i).transpose(dim, -1) for i in range(x.shape[-1])]
    real, imaginary = parts[0] @ cosines, parts[0] @ sines
    if len(parts) == 2:
        real, imaginary = real - parts[1] @ sines, imaginary + parts[1] @ cosines
    return torch.stack([real.transpose(dim, -1), imaginary.transpose(dim, -1)], -1)


def _waves(size: int, kept: int, *, inverse: bool) -> tuple[Tensor, Tensor]:
    """Real and imaginary parts of the roots of unity: elements x frequencies."""
    steps = np.outer(np.arange(size), np.arange(kept)) % size
    angles = (2.0 if inverse else -2.0) * np.pi * steps / size
    scale = 1.0 / size if inverse else 1.0
    waves = (np.cos(angles) * scale, np.sin(angles) * scale)
    return torch.from_numpy(waves[0]).float(), torch.from_numpy(waves[1]).float()
