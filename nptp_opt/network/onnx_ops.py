"""ONNX operators on single elements, norms and products in plain torch functions."""

from __future__ import annotations

from functools import reduce
from typing import Any

import onnx
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor

from nptp_opt.network.onnx_rules import Attrs, OnnxOp, op, refuse

FLOAT_LIMIT = 3.4e38
"""Bounds from here on are those of float32 itself: no bounds."""


def _unary(function: OnnxOp) -> OnnxOp:
    return lambda attrs, x: function(x)


_UNARY: dict[str, OnnxOp] = {
    "Abs": torch.abs, "Acos": torch.acos, "Acosh": torch.acosh, "Asin": torch.asin,
    "Asinh": torch.asinh, "Atan": torch.atan, "Atanh": torch.atanh, "BitwiseNot": torch.bitwise_not,
    "Ceil": torch.ceil, "Cos": torch.cos, "Cosh": torch.cosh, "Erf": torch.erf, "Exp": torch.exp,
    "Floor": torch.floor, "HardSwish": F.hardswish, "IsNaN": torch.isnan, "Log": torch.log,
    "Mish": F.mish, "Neg": torch.neg, "Not": torch.logical_not, "Reciprocal": torch.reciprocal,
    "Relu": F.relu, "Round": torch.round, "Sigmoid": torch.sigmoid, "Sign": torch.sign,
    "Sin": torch.sin, "Sinh": torch.sinh, "Softplus": F.softplus, "Sqrt": torch.sqrt,
    "Tan": torch.tan, "Tanh": torch.tanh,
}  # fmt: skip
for _name, _function in _UNARY.items():
    op(_name)(_unary(_function))


def _joined(function: OnnxOp) -> OnnxOp:
    return lambda attrs, *operands: reduce(function, operands)


def _broadcast_from_axis(function: OnnxOp) -> OnnxOp:
    """Of two operands; before opset 7 the second may be broadcast from a given axis."""

    def run(attrs: Attrs, a: Tensor, b: Tensor) -> Any:
        if attrs["axis"] is not None:
            b = b.reshape(*b.shape, *[1] * (a.dim() - attrs["axis"] % a.dim() - b.dim()))
        return function(a, b)

    return run


def _quotient(a: Tensor, b: Tensor) -> Tensor:
    """Of whole numbers rounded towards zero."""
    whole = not (a.is_floating_point() or b.is_floating_point())
    return torch.div(a, b, rounding_mode="trunc") if whole else a / b


_PLACED: dict[str, OnnxOp] = {
    "Add": torch.add, "And": torch.logical_and, "Div": _quotient, "Equal": torch.eq,
    "Greater": torch.gt, "Less": torch.lt, "Mul": torch.mul, "Or": torch.logical_or,
    "Pow": torch.pow, "Sub": torch.sub, "Xor": torch.logical_xor,
}  # fmt: skip
for _name, _function in _PLACED.items():
    op(_name, reads="axis", idle="broadcast", takes=2)(_broadcast_from_axis(_function))

_JOINED: dict[str, OnnxOp] = {"Max": torch.maximum, "Min": torch.minimum, "Sum": torch.add}
for _name, _function in _JOINED.items():
    op(_name, takes=None)(_joined(_function))

_OF_TWO: dict[str, OnnxOp] = {
    "BitwiseAnd": torch.bitwise_and, "BitwiseOr": torch.bitwise_or,
    "BitwiseXor": torch.bitwise_xor, "GreaterOrEqual": torch.ge, "LessOrEqual": torch.le,
}  # fmt: skip
for _name, _function in _OF_TWO.items():
    op(_name, takes=2)(_joined(_function))


@op("Mean", takes=None)
def mean_of_all(attrs: Attrs, *operands: Tensor) -> Tensor:
    total: Tensor = reduce(torch.add, operands)
    return total / len(operands)


@op("Mod", reads="fmod", takes=2)
def mod(attrs: Attrs, a: Tensor, b: Tensor) -> Tensor:
    """With the sign of the divisor, or of the dividend as in C."""
    return torch.fmod(a, b) if attrs["fmod"] else torch.remainder(a, b)


@op("Where", takes=3)
def where(attrs: Attrs, condition: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    return torch.where(condition, yes, no)


@op("IsInf", reads="detect_negative detect_positive")
def is_inf(attrs: Attrs, x: Tensor) -> Tensor:
    kinds = {(1, 1): torch.isinf, (1, 0): torch.isneginf, (0, 1): torch.isposinf}
    function = kinds.get((attrs["detect_negative"], attrs["detect_positive"]))
    if function is None:
        raise refuse("neither infinity to be found")
    found: Tensor = function(x)
    return found


@op("Identity")
def identity(attrs: Attrs, x: Tensor) -> Tensor:
    return x


@op("Dropout", reads="is_test", idle="ratio seed", takes=3, static=(1, 2))
def dropout(attrs: Attrs, x: Tensor, ratio: Any = None, training: Any = None) -> Tensor:
    if attrs["is_test"] == 0 or (training is not None and bool(training)):
        raise refuse("training mode")
    return x


_KIND = onnx.TensorProto
TYPES = {
    _KIND.FLOAT: torch.float32, _KIND.FLOAT16: torch.float16, _KIND.BFLOAT16: torch.bfloat16,
    _KIND.BOOL: torch.bool, _KIND.INT8: torch.int8, _KIND.UINT8: torch.uint8,
    _KIND.INT16: torch.int16, _KIND.INT32: torch.int32, _KIND.INT64: torch.int64,
}  # fmt: skip
"""ONNX's types of elements that torch computes with, but for float64."""


@op("Cast", reads="to", idle="saturate round_mode")
def cast(attrs: Attrs, x: Tensor) -> Tensor:
    """Before opset 6 the type is a word."""
    kind = attrs["to"]
    name = kind if isinstance(kind, str) else onnx.TensorProto.DataType.Name(kind)
    dtype = TYPES.get(onnx.TensorProto.DataType.Value(name))
    if dtype is None:
        raise refuse(f"a cast of data to {name}")
    return x.to(dtype)


@op("CastLike", idle="saturate round_mode", takes=2)
def cast_like(attrs: Attrs, x: Tensor, other: Tensor) -> Tensor:
    return x.to(other.dtype)


@op("LeakyRelu", reads="alpha")
def leaky_relu(attrs: Attrs, x: Tensor) -> Tensor:
    return F.leaky_relu(x, attrs["alpha"])


@op("Elu", reads="alpha")
def elu(attrs: Attrs, x: Tensor) -> Tensor:
    return F.elu(x, attrs["alpha"])


@op("Selu", reads="alpha gamma")
def selu(attrs: Attrs, x: Tensor) -> Tensor:
    found: Tensor = F.elu(x, attrs["alpha"])
    return found * float(attrs["gamma"])


@op("Celu", reads="alpha")
def celu(attrs: Attrs, x: Tensor) -> Tensor:
    return F.celu(x, attrs["alpha"])


@op("ThresholdedRelu", reads="alpha")
def thresholded_relu(attrs: Attrs, x: Tensor) -> Tensor:
    return F.threshold(x, attrs["alpha"], 0.0)


@op("Swish", reads="alpha")
def swish(attrs: Attrs, x: Tensor) -> Tensor:
    return F.silu(x) if attrs["alpha"] == 1.0 else x * torch.sigmoid(x * attrs["alpha"])


@op("Softsign")
def softsign(attrs: Attrs, x: Tensor) -> Tensor:
    return x / (x.abs() + 1.0)


@op("Shrink", reads="bias lambd")
def shrink(attrs: Attrs, x: Tensor) -> Tensor:
    """What lies within ``lambd`` of 0 becomes 0, the rest moves towards 0 by ``bias``."""
    far = x.abs() > attrs["lambd"]
    return torch.where(far, x - x.sign() * attrs["bias"], 0.0)


@op("PRelu", takes=2)
def prelu(attrs: Attrs, x: Tensor, slope: Tensor) -> Tensor:
    """Before opset 7 a vector of slopes lies along the channels."""
    if attrs.version < 7 and slope.dim() == 1 and slope.numel() > 1:
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


@op("Softmax", "LogSoftmax", "Hardmax", reads="axis")
def softmax(attrs: Attrs, x: Tensor) -> Tensor:
    """Before opset 13 over all axes from the given one on."""
    function: OnnxOp = _ALONG.get(attrs.op_type, F.softmax)
    return along(function, x, attrs["axis"], attrs.version)


def along(function: OnnxOp, x: Tensor, axis: int, opset: int) -> Tensor:
    """A function of whole rows, over one axis; before opset 13 over all from that one on."""
    axis %= x.dim()
    found: Tensor = function(x if opset >= 13 else x.flatten(axis), axis)
    return found.reshape(x.shape)


def _first_largest(x: Tensor, axis: int) -> Tensor:
    """1 where the largest element of the axis stands first, 0 elsewhere."""
    places = torch.arange(x.shape[axis]).reshape(-1, *[1] * (x.dim() - axis % x.dim() - 1))
    return (x.argmax(axis, keepdim=True) == places).to(x.dtype)


_ALONG: dict[str, OnnxOp] = {"LogSoftmax": F.log_softmax, "Hardmax": _first_largest}


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
    """As from opset 21 on; onnx's own checker takes no file with the definition before."""
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
    a = a.t() if attrs["transA"] else a
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
