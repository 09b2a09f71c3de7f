"""ONNX operators in plain torch functions.

Each function takes the node's attributes and its inputs. Inputs that are known when the file is
read (shapes, axes, scales) come as numpy arrays, everything else as tensors; absent ones as None.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor

from nptp_opt.errors import UnsupportedError

Attrs = dict[str, Any]
OnnxOp = Callable[..., Any]

OPS: dict[str, OnnxOp] = {}

STATIC: dict[str, frozenset[int]] = {
    "Reshape": frozenset({1}),
    "Resize": frozenset({1, 2, 3}),
    "Upsample": frozenset({1}),
    "Clip": frozenset({1, 2}),
    "Pad": frozenset({1, 2, 3}),
    "Slice": frozenset({1, 2, 3, 4}),
    "Squeeze": frozenset({1}),
    "Unsqueeze": frozenset({1}),
    "ReduceMean": frozenset({1}),
    "ReduceSum": frozenset({1}),
    "ReduceMax": frozenset({1}),
    "Expand": frozenset({1}),
    "Split": frozenset({1}),
    "Dropout": frozenset({1, 2}),
}
"""Inputs, by position, that must be known when the file is read."""


def op(*names: str) -> Callable[[OnnxOp], OnnxOp]:
    def register(function: OnnxOp) -> OnnxOp:
        for name in names:
            OPS[name] = function
        return function

    return register


def refuse(why: str) -> UnsupportedError:
    return UnsupportedError(why)


def tensor(value: Any, like: Tensor | None = None) -> Any:
    """A static value as a tensor; one number as a number, so that it takes any dtype."""
    if isinstance(value, np.ndarray):
        return value.item() if value.size == 1 else torch.from_numpy(value)
    return value


_UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "Relu": F.relu, "Sigmoid": torch.sigmoid, "Tanh": torch.tanh, "Exp": torch.exp,
    "Log": torch.log, "Sqrt": torch.sqrt, "Abs": torch.abs, "Neg": torch.neg, "Erf": torch.erf,
    "Softplus": F.softplus, "Reciprocal": torch.reciprocal, "HardSwish": F.hardswish,
    "Mish": F.mish, "Floor": torch.floor, "Sin": torch.sin, "Cos": torch.cos, "Sign": torch.sign,
}  # fmt: skip


def _unary(function: Callable[[Tensor], Tensor]) -> OnnxOp:
    return lambda attrs, x: function(x)


OPS.update({name: _unary(function) for name, function in _UNARY.items()})


def _binary(function: Callable[[Any, Any], Tensor]) -> OnnxOp:
    def run(attrs: Attrs, first: Any, *more: Any) -> Tensor:
        total = tensor(first)
        for each in more:
            total = function(total, _aligned(attrs, total, tensor(each)))
        result: Tensor = total
        return result

    return run


def _aligned(attrs: Attrs, a: Any, b: Any) -> Any:
    """Before opset 7 the second operand may be broadcast from a given axis."""
    if "axis" not in attrs or not isinstance(b, Tensor):
        return b
    behind = a.dim() - attrs["axis"] - b.dim()
    return b.reshape(*b.shape, *[1] * behind)


for _name, _function in {
    "Add": lambda a, b: a + b, "Sub": lambda a, b: a - b, "Mul": lambda a, b: a * b,
    "Div": lambda a, b: a / b, "Pow": lambda a, b: a**b, "Sum": lambda a, b: a + b,
}.items():  # fmt: skip
    OPS[_name] = _binary(_function)
OPS["Max"], OPS["Min"] = _binary(torch.maximum), _binary(torch.minimum)


@op("Identity")
def identity(attrs: Attrs, x: Tensor, *unused: Any) -> Tensor:
    return x


@op("Dropout")
def dropout(attrs: Attrs, x: Tensor, *unused: Any) -> list[Tensor]:
    return [x, x]


@op("Cast")
def cast(attrs: Attrs, x: Tensor) -> Tensor:
    if attrs["to"] != 1:
        raise refuse("a cast to anything but float32")
    return x


@op("LeakyRelu")
def leaky_relu(attrs: Attrs, x: Tensor) -> Tensor:
    return F.leaky_relu(x, attrs.get("alpha", 0.01))


@op("Elu")
def elu(attrs: Attrs, x: Tensor) -> Tensor:
    return F.elu(x, attrs.get("alpha", 1.0))


@op("PRelu")
def prelu(attrs: Attrs, x: Tensor, slope: Any) -> Tensor:
    below: Tensor = tensor(slope) * (x - F.relu(x))
    return F.relu(x) + below


@op("HardSigmoid")
def hard_sigmoid(attrs: Attrs, x: Tensor) -> Tensor:
    line = x * float(attrs.get("alpha", 0.2)) + float(attrs.get("beta", 0.5))
    return torch.clamp(line, 0.0, 1.0)


@op("Gelu")
def gelu(attrs: Attrs, x: Tensor) -> Tensor:
    return F.gelu(x, approximate=attrs.get("approximate", b"none").decode())


@op("Clip")
def clip(attrs: Attrs, x: Tensor, low: Any = None, high: Any = None) -> Tensor:
    bounds = [
        attrs.get(name) if value is None else value.item()
        for name, value in (("min", low), ("max", high))
    ]
    return x if bounds == [None, None] else torch.clamp(x, *bounds)


def axes_of(attrs: Attrs, given: Any) -> list[int] | None:
    if given is not None:
        return [int(v) for v in given]
    return attrs.get("axes")


@op("Softmax", "LogSoftmax")
def softmax(attrs: Attrs, x: Tensor) -> Tensor:
    function = F.log_softmax if attrs["op_type"] == "LogSoftmax" else F.softmax
    if attrs["opset"] >= 13:
        return function(x, int(attrs.get("axis", -1)))
    axis = int(attrs.get("axis", 1)) % x.dim()
    return function(x.flatten(axis), axis).reshape(x.shape)


# -- convolutions and poolings --------------------------------------------------------------------


def _pads(attrs: Attrs, x: Tensor, kernel: Sequence[int], stride: Sequence[int]) -> list[int]:
    """Padding as low ends then high ends, ``auto_pad`` worked out."""
    rank, mode = x.dim() - 2, attrs.get("auto_pad", b"NOTSET").decode()
    if mode in ("NOTSET", ""):
        return list(attrs.get("pads", [0] * 2 * rank))
    if mode == "VALID":
        return [0] * 2 * rank
    dilation = attrs.get("dilations", [1] * rank)
    low, high = [], []
    for n, k, s, d in zip(x.shape[2:], kernel, stride, dilation, strict=True):
        total = max(0, (math.ceil(n / s) - 1) * s + d * (k - 1) + 1 - n)
        less, more = total // 2, total - total // 2
        low.append(less if mode == "SAME_UPPER" else more)
        high.append(more if mode == "SAME_UPPER" else less)
    return low + high


def _outside(x: Tensor, pads: list[int], fill: float) -> tuple[Tensor, list[int]]:
    """Equal padding is left to the op; unequal padding is applied to ``x``."""
    rank = len(pads) // 2
    low, high = pads[:rank], pads[rank:]
    if low == high:
        return x, low
    sides = [v for pair in reversed(list(zip(low, high, strict=True))) for v in pair]
    return F.pad(x, sides, value=fill), [0] * rank


@op("Conv")
def conv(attrs: Attrs, x: Tensor, weight: Any, bias: Any = None) -> Tensor:
    rank = x.dim() - 2
    stride = attrs.get("strides", [1] * rank)
    x, padding = _outside(x, _pads(attrs, x, weight.shape[2:], stride), 0.0)
    function: Any = {1: F.conv1d, 2: F.conv2d}.get(rank)
    if function is None:
        raise refuse(f"a convolution of {rank} dimensions")
    dilation = attrs.get("dilations", [1] * rank)
    result: Tensor = function(x, weight, bias, stride, padding, dilation, attrs.get("group", 1))
    return result


@op("ConvTranspose")
def conv_transpose(attrs: Attrs, x: Tensor, weight: Any, bias: Any = None) -> Tensor:
    rank = x.dim() - 2
    function: Any = {1: F.conv_transpose1d, 2: F.conv_transpose2d}.get(rank)
    if function is None or "output_shape" in attrs or attrs.get("auto_pad", b"NOTSET") != b"NOTSET":
        raise refuse("output_shape, auto_pad or three dimensions")
    pads = attrs.get("pads", [0] * 2 * rank)
    low, high = pads[:rank], pads[rank:]
    even = low == high
    extra = attrs.get("output_padding", [0] * rank)
    result: Tensor = function(
        x, weight, bias, attrs.get("strides", [1] * rank), low if even else 0, extra,
        attrs.get("group", 1), attrs.get("dilations", [1] * rank),
    )  # fmt: skip
    if even:
        return result
    sides = [-v for pair in reversed(list(zip(low, high, strict=True))) for v in pair]
    return F.pad(result, sides)


@op("MaxPool")
def max_pool(attrs: Attrs, x: Tensor) -> Tensor:
    kernel = attrs["kernel_shape"]
    rank = len(kernel)
    stride = attrs.get("strides", [1] * rank)
    x, padding = _outside(x, _pads(attrs, x, kernel, stride), -math.inf)
    function: Any = F.max_pool2d if rank == 2 else F.max_pool1d
    dilation = attrs.get("dilations", [1] * rank)
    result: Tensor = function(x, kernel, stride, padding, dilation, bool(attrs.get("ceil_mode", 0)))
    return result


@op("AveragePool")
def average_pool(attrs: Attrs, x: Tensor) -> Tensor:
    kernel = attrs["kernel_shape"]
    rank = len(kernel)
    if any(d != 1 for d in attrs.get("dilations", [1])):
        raise refuse("a dilated average pooling")
    stride, ceil = attrs.get("strides", [1] * rank), bool(attrs.get("ceil_mode", 0))
    counted = bool(attrs.get("count_include_pad", 0))
    pads = _pads(attrs, x, kernel, stride)
    padded, padding = _outside(x, pads, 0.0)
    function: Any = F.avg_pool2d if rank == 2 else F.avg_pool1d
    result: Tensor = function(padded, kernel, stride, padding, ceil, counted)
    if padded is x or counted:
        return result
    ones, _ = _outside(torch.ones((1, 1, *x.shape[2:])), pads, 0.0)
    shares: Tensor = function(ones, kernel, stride, padding, ceil, counted)
    return result / shares


@op("GlobalAveragePool")
def global_average_pool(attrs: Attrs, x: Tensor) -> Tensor:
    return x.mean(tuple(range(2, x.dim())), keepdim=True)


@op("GlobalMaxPool")
def global_max_pool(attrs: Attrs, x: Tensor) -> Tensor:
    return x.amax(tuple(range(2, x.dim())), keepdim=True)


# -- norms and products ---------------------------------------------------------------------------


@op("BatchNormalization")
def batch_norm(attrs: Attrs, x: Tensor, scale: Any, bias: Any, mean: Any, var: Any) -> Tensor:
    if attrs.get("training_mode", 0):
        raise refuse("training mode")
    return F.batch_norm(x, mean, var, scale, bias, False, 0.0, attrs.get("epsilon", 1e-5))


@op("InstanceNormalization")
def instance_norm(attrs: Attrs, x: Tensor, scale: Any, bias: Any) -> Tensor:
    return F.group_norm(x, x.shape[1], scale, bias, attrs.get("epsilon", 1e-5))


@op("LayerNormalization")
def layer_norm(attrs: Attrs, x: Tensor, scale: Any, bias: Any = None) -> Tensor:
    axis = attrs.get("axis", -1) % x.dim()
    return F.layer_norm(x, x.shape[axis:], scale, bias, attrs.get("epsilon", 1e-5))


@op("LRN")
def local_response_norm(attrs: Attrs, x: Tensor) -> Tensor:
    size, channels = attrs["size"], (x * x).unsqueeze(1)
    before = (size - 1) // 2
    channels = F.pad(channels, (0, 0, 0, 0, before, size - 1 - before))
    means = F.avg_pool3d(channels, (size, 1, 1), 1).squeeze(1)
    scale = means * float(attrs.get("alpha", 1e-4)) + float(attrs.get("bias", 1.0))
    return x / scale ** float(attrs.get("beta", 0.75))


@op("Gemm")
def gemm(attrs: Attrs, a: Tensor, b: Any, c: Any = None) -> Tensor:
    if attrs.get("transA", 0):
        raise refuse("transA")
    weight = b if attrs.get("transB", 0) else b.t()
    alpha, beta = attrs.get("alpha", 1.0), attrs.get("beta", 1.0)
    bias = None if c is None else c * beta if beta != 1.0 else c
    return F.linear(a, weight * alpha if alpha != 1.0 else weight, bias)


@op("MatMul")
def matmul(attrs: Attrs, a: Tensor, b: Any) -> Tensor:
    if isinstance(b, torch.nn.Parameter) and b.dim() == 2:
        return F.linear(a, b.t())
    return torch.matmul(a, b)


def _reduce(attrs: Attrs, x: Tensor, axes: Any) -> tuple[list[int], bool]:
    found = axes_of(attrs, axes)
    return list(range(x.dim())) if found is None else found, bool(attrs.get("keepdims", 1))


@op("ReduceMean")
def reduce_mean(attrs: Attrs, x: Tensor, axes: Any = None) -> Tensor:
    return x.mean(*_reduce(attrs, x, axes))


@op("ReduceSum")
def reduce_sum(attrs: Attrs, x: Tensor, axes: Any = None) -> Tensor:
    return x.sum(*_reduce(attrs, x, axes))


@op("ReduceMax")
def reduce_max(attrs: Attrs, x: Tensor, axes: Any = None) -> Tensor:
    return x.amax(*_reduce(attrs, x, axes))
