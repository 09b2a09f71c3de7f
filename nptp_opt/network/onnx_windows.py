"""ONNX operators with windows: convolutions and poolings in plain torch functions.

torch pads both ends alike, and pools by at most half a window. What ONNX does beyond that becomes a
padding of its own before the operator.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor

from nptp_opt.network.casts import EXACT
from nptp_opt.network.onnx_rules import Attrs, op, refuse


@dataclass(frozen=True)
class _Windows:
    """Windows along the spatial dimensions; ``out`` is how many there are."""

    sizes: list[int]
    kernel: list[int]
    stride: list[int]
    dilation: list[int]
    low: list[int]
    high: list[int]
    ceil: bool = False

    @property
    def reach(self) -> list[int]:
        """Elements from a window's first to its last."""
        return [d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True)]

    @property
    def ends(self) -> list[int]:
        """High padding with which windows that fit are as many as those that ``ceil`` asks for."""
        axes = zip(self.sizes, self.reach, self.stride, self.low, self.high, strict=True)
        return [self._end(*axis) for axis in axes] if self.ceil else self.high

    def _end(self, n: int, reach: int, stride: int, low: int, high: int) -> int:
        """No window starts behind the input and its low padding."""
        steps = (n + low + high - reach) / stride
        last = math.ceil(steps)
        last -= last * stride >= n + low
        return high if last == math.floor(steps) else last * stride + reach - n - low

    @property
    def is_dilated(self) -> bool:
        return any(d != 1 for d in self.dilation)

    @property
    def is_poolable(self) -> bool:
        """Whether torch's pooling has this padding."""
        halves = zip(self.low, self.reach, strict=True)
        return self.low == self.high and all(low <= reach // 2 for low, reach in halves)


def _windows(attrs: Attrs, x: Tensor, kernel: Sequence[int], *, ceil: bool = False) -> _Windows:
    """The node's windows over ``x``, ``auto_pad`` worked out."""
    rank, sizes = x.dim() - 2, list(x.shape[2:])
    stride, dilation = attrs["strides"] or [1] * rank, attrs["dilations"] or [1] * rank
    pads = (attrs["pads"] if attrs["auto_pad"] in ("NOTSET", "") else None) or [0] * 2 * rank
    w = _Windows(sizes, list(kernel), stride, dilation, pads[:rank], pads[rank:], ceil)
    return _same(attrs, w) if attrs["auto_pad"].startswith("SAME") else w


def _same(attrs: Attrs, w: _Windows) -> _Windows:
    """Padding with which a stride s leaves every s-th place."""
    totals = [
        (math.ceil(n / s) - 1) * s + reach - n
        for n, s, reach in zip(w.sizes, w.stride, w.reach, strict=True)
    ]
    if min(totals) < (0 if attrs.op_type.endswith("Pool") else -1):
        raise refuse(
            f"auto_pad={attrs['auto_pad']} and strides {w.stride} for windows of {w.reach}: "
            "engines disagree on where strides begin that are wider than windows"
        )
    less, more = [max(0, t) // 2 for t in totals], [(max(0, t) + 1) // 2 for t in totals]
    low, high = (less, more) if attrs["auto_pad"] == "SAME_UPPER" else (more, less)
    return replace(w, low=low, high=high, ceil=False)


def _pad(x: Tensor, low: Sequence[int], high: Sequence[int], fill: float) -> Tensor:
    sides = [v for pair in reversed(list(zip(low, high, strict=True))) for v in pair]
    return F.pad(x, sides, value=fill) if any(sides) else x


def _check_kernel(attrs: Attrs, weight: Any) -> None:
    shape = list(weight.shape[2:])
    if attrs["kernel_shape"] not in (None, [], shape):
        raise refuse(f"kernel_shape {attrs['kernel_shape']} and weights of {shape}")


def _of_rank(attrs: Attrs, x: Tensor, one: Any, two: Any) -> Any:
    function = {3: one, 4: two}.get(x.dim())
    if function is None:
        raise refuse(f"{x.dim() - 2} spatial dimensions: 1 and 2 are known")
    return function


def _pool_windows(attrs: Attrs, x: Tensor) -> _Windows:
    w = _windows(attrs, x, attrs["kernel_shape"], ceil=bool(attrs["ceil_mode"]))
    if attrs["auto_pad"].startswith("SAME") and any(d != 1 for d in w.dilation):
        raise refuse(
            f"auto_pad={attrs['auto_pad']} and dilations {w.dilation}: ONNX Runtime does not do "
            "there what ONNX defines"
        )
    return w


_WINDOW = "auto_pad dilations kernel_shape pads strides"
CONV = f"{_WINDOW} group"
"""Attributes of convolutions."""


@op("Conv", reads=CONV, takes=3)
def conv(attrs: Attrs, x: Tensor, weight: Any, bias: Any = None) -> Tensor:
    return convolved(attrs, x, weight, bias)


def convolved(attrs: Attrs, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A convolution by the node's attributes."""
    function = _of_rank(attrs, x, F.conv1d, F.conv2d)
    _check_kernel(attrs, weight)
    w = _windows(attrs, x, weight.shape[2:])
    even = w.low == w.high
    padding = w.low if even else [0] * len(w.low)
    x = x if even else _pad(x, w.low, w.high, 0.0)
    result: Tensor = function(x, weight, bias, w.stride, padding, w.dilation, attrs["group"])
    return result


@op("ConvTranspose", reads=f"{_WINDOW} group output_padding output_shape", takes=3)
def conv_transpose(attrs: Attrs, x: Tensor, weight: Any, bias: Any = None) -> Tensor:
    """Where torch's equal padding does not do, the whole result is made and cut."""
    function = _of_rank(attrs, x, F.conv_transpose1d, F.conv_transpose2d)
    _check_kernel(attrs, weight)
    w, more = _windows_back(attrs, x, weight.shape[2:])
    even = w.low == w.high
    result: Tensor = function(
        x, weight, bias, w.stride, w.low if even else 0, more, attrs["group"], w.dilation
    )
    return result if even else _pad(result, [-v for v in w.low], [-v for v in w.high], 0.0)


def _windows_back(attrs: Attrs, x: Tensor, kernel: Sequence[int]) -> tuple[_Windows, list[int]]:
    """Windows of a transposed convolution, whose padding is cut from what they write, and how much
    the result is longer than they reach."""
    rank, sizes = x.dim() - 2, list(x.shape[2:])
    stride, dilation = attrs["strides"] or [1] * rank, attrs["dilations"] or [1] * rank
    pads, more = attrs["pads"] or [0] * 2 * rank, attrs["output_padding"] or [0] * rank
    w = _Windows(sizes, list(kernel), stride, dilation, pads[:rank], pads[rank:])
    wanted = _wanted_back(attrs, w)
    if wanted is None:
        return w, more
    totals = [
        (n - 1) * s + a + reach - out
        for n, s, a, reach, out in zip(sizes, stride, more, w.reach, wanted, strict=True)
    ]
    if min(totals) < 0 and not attrs["output_shape"]:
        raise refuse(
            f"auto_pad={attrs['auto_pad']} and strides {stride} for windows of {w.reach}: engines "
            "disagree on the size of the result"
        )
    more = [a - min(t, 0) for a, t in zip(more, totals, strict=True)]
    if any(a >= max(s, d) for a, s, d in zip(more, stride, dilation, strict=True)):
        raise refuse(f"an output of {wanted}, a stride larger than its windows reach")
    less, half = [max(t, 0) // 2 for t in totals], [(max(t, 0) + 1) // 2 for t in totals]
    low, high = (less, half) if attrs["auto_pad"] == "SAME_UPPER" else (half, less)
    return replace(w, low=low, high=high), more


def _wanted_back(attrs: Attrs, w: _Windows) -> list[int] | None:
    """The size of the output where it is stated; None where it follows from the padding."""
    if attrs["output_shape"]:
        return list(attrs["output_shape"])[-len(w.sizes) :]
    if attrs["auto_pad"] in ("SAME_UPPER", "SAME_LOWER"):
        return [n * s for n, s in zip(w.sizes, w.stride, strict=True)]
    return None


@op("MaxPool", reads=f"{_WINDOW} ceil_mode storage_order", makes=2)
def max_pool(attrs: Attrs, x: Tensor) -> Any:
    function = _of_rank(attrs, x, F.max_pool1d, F.max_pool2d)
    w = _pool_windows(attrs, x)
    padding, ceil = (w.low, w.ceil) if w.is_poolable else (0, False)
    if attrs.outputs == 2:
        return _max_pool_and_places(attrs, x, w)
    ready = x if w.is_poolable else _pad(x, w.low, w.ends, -math.inf)
    return function(ready, w.kernel, w.stride, padding, w.dilation, ceil)


def _max_pool_and_places(attrs: Attrs, x: Tensor, w: _Windows) -> tuple[Tensor, Tensor]:
    """ONNX counts places over all samples and channels, by rows or by columns, torch over a map."""
    if not w.is_poolable or x.dim() != 4:
        raise refuse("places of its maxima, unless padding is even and maps have two dimensions")
    values, places = F.max_pool2d(
        x, w.kernel, w.stride, w.low, w.dilation, w.ceil, return_indices=True
    )
    n, c, height, width = x.shape
    if x.numel() > EXACT:
        raise refuse(f"places above {EXACT}, which are not carried exactly")
    if n * c == 1 and not attrs["storage_order"]:
        return values, places
    at = places.float()
    if attrs["storage_order"]:
        row = torch.floor(at / width)
        at = (at - row * width) * height + row
    first = torch.arange(n * c).reshape(n, c, 1, 1) * (height * width)
    return values, (at + first.float()).to(torch.int64)


@op("MaxUnpool", reads="kernel_shape pads strides", takes=3, static=(2,))
def max_unpool(attrs: Attrs, x: Tensor, places: Tensor, size: Any = None) -> Tensor:
    """Places are counted over the result, all samples and channels."""
    rank, kernel = x.dim() - 2, attrs["kernel_shape"]
    pads, strides = attrs["pads"] or [0] * 2 * rank, attrs["strides"] or [1] * rank
    sizes = [
        (n - 1) * s - pads[i] - pads[i + rank] + k
        for i, (n, s, k) in enumerate(zip(x.shape[2:], strides, kernel, strict=True))
    ]
    shape = [*x.shape[:2], *sizes]
    if size is not None and [int(v) for v in size] != shape:
        raise refuse(f"output_shape {[int(v) for v in size]} where its windows make {shape}")
    flat = torch.zeros(math.prod(shape), dtype=x.dtype)
    return torch.scatter(flat, 0, places.reshape(-1), x.reshape(-1)).reshape(shape)


AVERAGE_POOL = f"{_WINDOW} ceil_mode count_include_pad"


@op("AveragePool", reads=AVERAGE_POOL)
def average_pool(attrs: Attrs, x: Tensor) -> Tensor:
    function = _of_rank(attrs, x, F.avg_pool1d, F.avg_pool2d)
    w = _pool_windows(attrs, x)
    counted = bool(attrs["count_include_pad"])
    if w.is_poolable and not w.is_dilated:
        result: Tensor = function(x, w.kernel, w.stride, w.low, w.ceil, counted)
        return result
    means = _means(_pad(x, w.low, w.ends, 0.0), w)
    return means if counted and not w.ceil else means / _shares(x, w, counted)


def _means(x: Tensor, w: _Windows) -> Tensor:
    """Over windows without padding; torch's own have no dilation, so those are a convolution."""
    if not w.is_dilated:
        function: Any = F.avg_pool1d if len(w.kernel) == 1 else F.avg_pool2d
        result: Tensor = function(x, w.kernel, w.stride)
        return result
    weight = torch.full((x.shape[1], 1, *w.kernel), 1.0 / math.prod(w.kernel), dtype=x.dtype)
    function = F.conv1d if len(w.kernel) == 1 else F.conv2d
    sums: Tensor = function(x, weight, None, w.stride, 0, w.dilation, x.shape[1])
    return sums


@op("LpPool", reads=f"{_WINDOW} ceil_mode p")
def lp_pool(attrs: Attrs, x: Tensor) -> Tensor:
    """The p-norm of every window: the root of a mean of powers times their number."""
    _of_rank(attrs, x, F.avg_pool1d, F.avg_pool2d)
    w, p = _pool_windows(attrs, x), attrs["p"]
    means = _means(_pad(x.abs() ** p, w.low, w.ends, 0.0), w)
    sums: Tensor = means * math.prod(w.kernel)
    return sums.pow(1.0 / p)


@op("GlobalLpPool", reads="p")
def global_lp_pool(attrs: Attrs, x: Tensor) -> Tensor:
    powers: Tensor = x.abs().pow(attrs["p"])
    return powers.sum(tuple(range(2, x.dim())), keepdim=True).pow(1.0 / attrs["p"])


def _shares(x: Tensor, w: _Windows, counted: bool) -> Tensor:
    """The part of every window that is counted: the input, and its declared padding if asked."""
    ones = torch.ones((1, 1, *w.sizes))
    if counted:
        ones = _pad(ones, w.low, w.high, 1.0)
        rest = [n - h for n, h in zip(w.ends, w.high, strict=True)]
        ones = _pad(ones, [0] * len(rest), rest, 0.0)
    else:
        ones = _pad(ones, w.low, w.ends, 0.0)
    return _means(ones, w)


@op("GlobalAveragePool")
def global_average_pool(attrs: Attrs, x: Tensor) -> Tensor:
    return x.mean(tuple(range(2, x.dim())), keepdim=True)


@op("GlobalMaxPool")
def global_max_pool(attrs: Attrs, x: Tensor) -> Tensor:
    return x.amax(tuple(range(2, x.dim())), keepdim=True)
