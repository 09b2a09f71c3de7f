"""ONNX operators on single elements, norms, products and reductions in plain torch functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor

from nptp_opt.network.onnx_rules import Attrs, OnnxOp, op, refuse

FLOAT_LIMIT = 3.4e38
"""Bounds from here on are those of float32 itself: no bounds."""


def tensor(value: Any) -> Any:
    """A static value as a tensor; one number as a number, so that it takes any dtype."""
    if isinstance(value, np.ndarray):
        return value.item() if value.size == 1 else torch.from_numpy(value)
    return value


def axes_of(attrs: Attrs, given: Any) -> list[int] | None:
    """Axes from an input or, as before opset 13 or 18, from an attribute."""
    found = attrs["axes"] if given is None else given
    return None if found is None else [int(v) for v in found]


def _unary(function: OnnxOp) -> OnnxOp:
    return lambda attrs, x: function(x)


_UNARY: dict[str, OnnxOp] = {
    "Relu": F.relu, "Sigmoid": torch.sigmoid, "Tanh": torch.tanh, "Exp": torch.exp,
    "Log": torch.log, "Sqrt": torch.sqrt, "Abs": torch.abs, "Neg": torch.neg, "Erf": torch.erf,
    "Softplus": F.softplus, "Reciprocal": torch.reciprocal, "HardSwish": F.hardswish,
    "Mish": F.mish, "Floor": torch.floor, "Sin": torch.sin, "Cos": torch.cos, "Sign": torch.sign,
}  # fmt: skip
for _name, _function in _UNARY.items():
    op(_name)(_unary(_function))


def _binary(function: OnnxOp) -> OnnxOp:
    def run(attrs: Attrs, first: Any, *more: Any) -> Any:
        total = tensor(first)
        for each in more:
            total = function(total, tensor(each))
        return total

    return run


def _placed(function: OnnxOp) -> OnnxOp:
    """Of two operands; before opset 7 the second may be broadcast from a given axis."""

    def run(attrs: Attrs, first: Any, second: Any) -> Any:
        a, b = tensor(first), tensor(second)
        if attrs["axis"] is not None and isinstance(b, Tensor):
            b = b.reshape(*b.shape, *[1] * (a.dim() - attrs["axis"] % a.dim() - b.dim()))
        return function(a, b)

    return run


_BINARY: dict[str, OnnxOp] = {
    "Add": lambda a, b: a + b, "Sub": lambda a, b: a - b, "Mul": lambda a, b: a * b,
    "Div": lambda a, b: a / b, "Pow": lambda a, b: a**b,
}  # fmt: skip
for _name, _function in _BINARY.items():
    op(_name, reads="axis", idle="broadcast", takes=2)(_placed(_function))
op("Sum", takes=None)(_binary(lambda a, b: a + b))
op("Max", takes=None)(_binary(torch.maximum))
op("Min", takes=None)(_binary(torch.minimum))


@op("Identity")
def identity(attrs: Attrs, x: Tensor) -> Tensor:
    return x


@op("Dropout", reads="is_test", idle="ratio seed", takes=3, static=(1, 2))
def dropout(attrs: Attrs, x: Tensor, ratio: Any = None, training: Any = None) -> Tensor:
    if attrs["is_test"] == 0 or (training is not None and bool(training)):
        raise refuse("training mode")
    return x


@op("Cast", reads="to", idle="saturate round_mode")
def cast(attrs: Attrs, x: Tensor) -> Tensor:
    if attrs["to"] not in (onnx.TensorProto.FLOAT, "FLOAT"):
        kind = attrs["to"]
        name = kind if isinstance(kind, str) else onnx.TensorProto.DataType.Name(kind)
        raise refuse(f"a cast of data to {name}: only FLOAT is known")
    return x


@op("LeakyRelu", reads="alpha")
def leaky_relu(attrs: Attrs, x: Tensor) -> Tensor:
    return F.leaky_relu(x, attrs["alpha"])


@op("Elu", reads="alpha")
def elu(attrs: Attrs, x: Tensor) -> Tensor:
    return F.elu(x, attrs["alpha"])


@op("PRelu", takes=2)
def prelu(attrs: Attrs, x: Tensor, slope: Any) -> Tensor:
    """Before opset 7 a vector of slopes lies along the channels."""
    slope = tensor(slope)
    if attrs.version < 7 and isinstance(slope, Tensor) and slope.dim() == 1:
        slope = slope.reshape(-1, *[1] * (x.dim() - 2))
    below: Tensor = slope * (x - F.relu(x))
    return F.relu(x) + below


@op("HardSigmoid", reads="alpha beta")
def hard_sigmoid(attrs: Attrs, x: Tensor) -> Tensor:
    return torch.clamp(x * attrs["alpha"] + attrs["beta"], 0.0, 1.0)


@op("Gelu", reads="approximate")
def gelu(attrs: Attrs, x: Tensor) -> Tensor:
    return F.gelu(x, approximate=attrs["approximate"])


@op("Clip", reads="min max", takes=3, static=(1, 2))
def clip(attrs: Attrs, x: Tensor, low: Any = None, high: Any = None) -> Tensor:
    bounds = [
        attrs[name] if value is None else value.item()
        for name, value in (("min", low), ("max", high))
    ]
    bounds = [None if v is None or abs(v) >= FLOAT_LIMIT else v for v in bounds]
    return x if bounds == [None, None] else torch.clamp(x, *bounds)


@op("Softmax", "LogSoftmax", reads="axis")
def softmax(attrs: Attrs, x: Tensor) -> Tensor:
    """Before opset 13 over all axes from the given one on."""
    function = F.log_softmax if attrs.op_type == "LogSoftmax" else F.softmax
    if attrs.version >= 13:
        return function(x, attrs["axis"])
    axis = attrs["axis"] % x.dim()
    return function(x.flatten(axis), axis).reshape(x.shape)


# -- norms and products ---------------------------------------------------------------------------


@op("BatchNormalization", reads="epsilon training_mode is_test spatial", idle="momentum", takes=5)
def batch_norm(attrs: Attrs, x: Tensor, scale: Any, bias: Any, mean: Any, var: Any) -> Tensor:
    if attrs["training_mode"] or attrs["is_test"] == 0:
        raise refuse("training mode")
    if attrs["spatial"] == 0:
        raise refuse("spatial=0: statistics for every element")
    return F.batch_norm(x, mean, var, scale, bias, False, 0.0, attrs["epsilon"])


@op("InstanceNormalization", reads="epsilon", takes=3)
def instance_norm(attrs: Attrs, x: Tensor, scale: Any, bias: Any) -> Tensor:
    return F.group_norm(x, x.shape[1], scale, bias, attrs["epsilon"])


@op("GroupNormalization", reads="epsilon num_groups", takes=3)
def group_norm(attrs: Attrs, x: Tensor, scale: Any, bias: Any) -> Tensor:
    return F.group_norm(x, attrs["num_groups"], scale, bias, attrs["epsilon"])


@op("LayerNormalization", reads="axis epsilon", takes=3)
def layer_norm(attrs: Attrs, x: Tensor, scale: Any, bias: Any = None) -> Tensor:
    shape = x.shape[attrs["axis"] % x.dim() :]
    scale = scale if scale.shape == shape else scale.expand(shape)
    bias = bias if bias is None or bias.shape == shape else bias.expand(shape)
    return F.layer_norm(x, shape, scale, bias, attrs["epsilon"])


@op("LRN", reads="size alpha beta bias")
def local_response_norm(attrs: Attrs, x: Tensor) -> Tensor:
    if x.dim() != 4:
        raise refuse(f"{x.dim()} dimensions: only 4 are known")
    size, channels = attrs["size"], (x * x).unsqueeze(1)
    before = (size - 1) // 2
    channels = F.pad(channels, (0, 0, 0, 0, before, size - 1 - before))
    means = F.avg_pool3d(channels, (size, 1, 1), 1).squeeze(1)
    scale: Tensor = means * attrs["alpha"] + attrs["bias"]
    return x / scale ** float(attrs["beta"])


@op("Gemm", reads="alpha beta transA transB", idle="broadcast", takes=3)
def gemm(attrs: Attrs, a: Tensor, b: Any, c: Any = None) -> Tensor:
    if attrs["transA"]:
        raise refuse("transA=1")
    weight = b if attrs["transB"] else b.t()
    weight = weight * attrs["alpha"] if attrs["alpha"] != 1.0 else weight
    bias = c if c is None or attrs["beta"] == 1.0 else c * attrs["beta"]
    if bias is None or bias.shape == weight.shape[:1]:
        return F.linear(a, weight, bias)
    result: Tensor = F.linear(a, weight) + bias
    return result


@op("MatMul", takes=2)
def matmul(attrs: Attrs, a: Tensor, b: Any) -> Tensor:
    if isinstance(b, torch.nn.Parameter) and b.dim() == 2:
        return F.linear(a, b.t())
    return torch.matmul(a, b)


# -- reductions -----------------------------------------------------------------------------------


def _reduction(function: OnnxOp) -> OnnxOp:
    def run(attrs: Attrs, x: Tensor, axes: Any = None) -> Any:
        found = axes_of(attrs, axes)
        if not found and attrs["noop_with_empty_axes"]:
            return x
        return function(x, found or list(range(x.dim())), bool(attrs["keepdims"]))

    return run


_REDUCTIONS: dict[str, OnnxOp] = {
    "ReduceMean": torch.mean, "ReduceSum": torch.sum, "ReduceMax": torch.amax,
}  # fmt: skip
for _name, _function in _REDUCTIONS.items():
    op(_name, reads="axes keepdims noop_with_empty_axes", takes=2, static=(1,))(
        _reduction(_function)
    )
