"""ONNX operators on numbers of few bits, in floating point: every such number is carried exactly.

A quantised value q stands for (q - zero point) * scale. Convolutions and products are of whole
numbers, so their sums have no rounding up to 2**24, and are scaled once, as ONNX Runtime does it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from nptp_opt.network.onnx_ops import TYPES, along
from nptp_opt.network.onnx_rules import Attrs, contrib_op, cut, op, refuse, tensor_of
from nptp_opt.network.onnx_windows import AVERAGE_POOL, CONV, average_pool, convolved

Bounds = tuple[float, float]

_BITS = {"2": 2, "4": 4, "8": 8, "16": 16}


def _bounds(name: str) -> Bounds:
    """The smallest and largest whole number of a type, by its name."""
    kind = name.removeprefix("torch.")
    digits = "".join(each for each in kind if each.isdigit())
    if digits not in _BITS or "int" not in kind:
        raise refuse(f"numbers of type {kind}")
    bits = _BITS[digits]
    return (0.0, 2.0**bits - 1) if kind[0] == "u" else (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1)


def _bounds_of(attrs: Attrs, zero: Any) -> Bounds:
    """From the zero point's type, or the one that the node states."""
    if zero is not None:
        return _bounds(str(zero.dtype))
    kind = attrs["output_dtype"]
    if not kind:
        return _bounds("uint8")
    if kind not in TYPES:
        raise refuse(f"output_dtype={kind}")
    return _bounds(str(TYPES[kind]))


def _float(value: Any) -> Tensor:
    found = tensor_of(value) if isinstance(value, np.ndarray) else value
    return found if found.is_floating_point() else found.float()


def _one(value: Tensor) -> Tensor:
    """A single number, which stays a map where it is one."""
    return value if value.dim() == 4 else value.reshape(())


def _along(attrs: Attrs, value: Any, x: Tensor) -> Tensor:
    """Scales or zero points as they are broadcast: one for all, each index, or each block."""
    found = _float(value)
    if found.numel() == 1:
        return _one(found)
    axis = (1 if attrs["axis"] is None else attrs["axis"]) % x.dim()
    if attrs["block_size"]:
        grown = found.repeat_interleave(attrs["block_size"], axis)
        return cut(grown, axis, 0, x.shape[axis])
    return found.reshape(-1, *[1] * (x.dim() - axis - 1))


def _rounded(x: Tensor, zero: Tensor | None, bounds: Bounds) -> Tensor:
    """Halves go to the even number; what is out of bounds becomes the bound."""
    places = torch.round(x) if zero is None else torch.round(x) + zero
    return torch.clamp(places, *bounds)


_AXIS = "axis block_size output_dtype"


@op("QuantizeLinear", reads=_AXIS, idle="saturate precision", takes=3, either=(2,))
def quantize(attrs: Attrs, x: Tensor, scale: Tensor, zero: Any = None) -> Tensor:
    shift = None if zero is None else _along(attrs, zero, x)
    return _rounded(x / _along(attrs, scale, x), shift, _bounds_of(attrs, zero))


@op("DequantizeLinear", reads=_AXIS, takes=3)
def dequantize(attrs: Attrs, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    found = _float(x)
    found = found if zero is None else found - _along(attrs, zero, x)
    return found * _along(attrs, scale, x)


@op("DynamicQuantizeLinear", makes=3)
def quantize_by_range(attrs: Attrs, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """To 0 ... 255, by the smallest and the largest element; 0 lies between them."""
    low, high = _ends(x)
    low, high = low.clamp(max=0.0), high.clamp(min=0.0)
    scale = (high - low) / 255.0
    zero = torch.clamp(torch.round(-low / scale), 0.0, 255.0)
    return torch.clamp(torch.round(x / scale) + zero, 0.0, 255.0), scale, zero


def _ends(x: Tensor) -> tuple[Tensor, Tensor]:
    """The smallest and the largest element; of a map as maps of one pixel, which are cut."""
    if x.dim() != 4 or x.shape[0] != 1:
        return x.amin(), x.amax()
    pixels = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    return pixels[0].amin(1, keepdim=True), pixels[1].amax(1, keepdim=True)


def _centred(x: Any, zero: Any, axis: int | None = None) -> Tensor:
    """Numbers without their zero point, which may be one for each index of an axis."""
    found = _float(x)
    if zero is None:
        return found
    shift = _float(zero)
    if shift.numel() == 1:
        return found - _one(shift)
    if axis is None:
        raise refuse("several zero points")
    return found - shift.reshape(-1, *[1] * (found.dim() - axis % found.dim() - 1))


@op("QLinearConv", reads=CONV, takes=9, either=(7,))
def quantised_conv(
    attrs: Attrs, x: Tensor, x_scale: Tensor, x_zero: Tensor, w: Tensor, w_scale: Tensor,
    w_zero: Tensor, y_scale: Tensor, y_zero: Any, bias: Tensor | None = None,
) -> Tensor:  # fmt: skip
    sums = convolved(
        attrs, _centred(x, x_zero), _centred(w, w_zero, 0), None if bias is None else _float(bias)
    )
    factor = x_scale * w_scale / y_scale
    factor = factor.reshape(()) if factor.numel() == 1 else factor.reshape(-1, *[1] * (x.dim() - 2))
    return _rounded(sums * factor, _float(y_zero).reshape(()), _bounds(str(y_zero.dtype)))


@op("ConvInteger", reads=CONV, takes=4)
def integer_conv(
    attrs: Attrs, x: Tensor, w: Tensor, x_zero: Any = None, w_zero: Any = None
) -> Tensor:
    return convolved(attrs, _centred(x, x_zero), _centred(w, w_zero, 0), None)


@op("QLinearMatMul", takes=8, either=(7,))
def quantised_product(
    attrs: Attrs, a: Tensor, a_scale: Tensor, a_zero: Tensor, b: Tensor, b_scale: Tensor,
    b_zero: Tensor, y_scale: Tensor, y_zero: Any,
) -> Tensor:  # fmt: skip
    """One scale for each column of ``b``, or one for all."""
    if a_scale.numel() > 1:
        raise refuse("a scale for each row")
    sums = torch.matmul(_centred(a, a_zero), _centred(b, b_zero, -1))
    factor = a_scale * b_scale / y_scale
    factor = factor.reshape(()) if factor.numel() == 1 else factor
    return _rounded(sums * factor, _float(y_zero).reshape(()), _bounds(str(y_zero.dtype)))


@op("MatMulInteger", takes=4)
def integer_product(
    attrs: Attrs, a: Tensor, b: Tensor, a_zero: Any = None, b_zero: Any = None
) -> Tensor:
    return torch.matmul(_centred(a, a_zero, -2), _centred(b, b_zero, -1))


# -- ONNX Runtime's own operators, which its quantiser makes of float ones ------------------------


def _stood_for(x: Tensor, scale: Tensor, zero: Any) -> Tensor:
    """What quantised numbers stand for, with one scale for all."""
    return _centred(x, zero) * _one(scale)


def _back(x: Tensor, scale: Tensor, zero: Any) -> Tensor:
    """Quantised again, with one scale for all; without a zero point it is 0, and the type uint8."""
    shift = None if zero is None else _one(_float(zero))
    return _rounded(x / _one(scale), shift, _bounds("uint8" if zero is None else str(zero.dtype)))


def _of_two(function: Any) -> Any:
    def rule(
        attrs: Attrs, a: Tensor, a_scale: Tensor, a_zero: Any, b: Tensor, b_scale: Tensor,
        b_zero: Any, y_scale: Tensor, y_zero: Any = None,
    ) -> Tensor:  # fmt: skip
        made = function(_stood_for(a, a_scale, a_zero), _stood_for(b, b_scale, b_zero))
        return _back(made, y_scale, y_zero)

    return rule


contrib_op("QLinearAdd", takes=8, either=(7,))(_of_two(torch.add))
contrib_op("QLinearMul", takes=8, either=(7,))(_of_two(torch.mul))


@contrib_op("QLinearSigmoid", takes=5, either=(4,))
def quantised_sigmoid(
    attrs: Attrs, x: Tensor, x_scale: Tensor, x_zero: Any, y_scale: Tensor, y_zero: Any = None
) -> Tensor:
    return _back(torch.sigmoid(_stood_for(x, x_scale, x_zero)), y_scale, y_zero)


@contrib_op("QLinearLeakyRelu", reads="alpha", takes=5, either=(4,))
def quantised_leaky_relu(
    attrs: Attrs, x: Tensor, x_scale: Tensor, x_zero: Any, y_scale: Tensor, y_zero: Any = None
) -> Tensor:
    alpha = 0.01 if attrs["alpha"] is None else attrs["alpha"]
    made = torch.nn.functional.leaky_relu(_stood_for(x, x_scale, x_zero), alpha)
    return _back(made, y_scale, y_zero)


@contrib_op("QLinearGlobalAveragePool", reads="channels_last", takes=5, either=(4,))
def quantised_global_average(
    attrs: Attrs, x: Tensor, x_scale: Tensor, x_zero: Any, y_scale: Tensor, y_zero: Any
) -> Tensor:
    if attrs["channels_last"]:
        raise refuse("channels_last=1")
    means = _stood_for(x, x_scale, x_zero).mean(tuple(range(2, x.dim())), keepdim=True)
    return _back(means, y_scale, y_zero)


@contrib_op(
    "QLinearAveragePool", {"auto_pad": "NOTSET"}, reads=f"{AVERAGE_POOL} channels_last",
    takes=5, either=(4,),
)  # fmt: skip
def quantised_average(
    attrs: Attrs, x: Tensor, x_scale: Tensor, x_zero: Any, y_scale: Tensor, y_zero: Any = None
) -> Tensor:
    if attrs["channels_last"]:
        raise refuse("channels_last=1")
    return _back(average_pool(attrs, _stood_for(x, x_scale, x_zero)), y_scale, y_zero)


@contrib_op("QLinearSoftmax", {"axis": -1}, reads="axis opset", takes=5, either=(4,))
def quantised_softmax(
    attrs: Attrs, x: Tensor, x_scale: Tensor, x_zero: Any, y_scale: Tensor, y_zero: Any = None
) -> Tensor:
    """The engine divides sums of whole numbers: a value may lie a step from there."""
    made = along(torch.softmax, _stood_for(x, x_scale, x_zero), attrs["axis"], attrs["opset"])
    return _back(made, y_scale, y_zero)


@contrib_op("QLinearWhere", takes=9, either=(8,))
def quantised_where(
    attrs: Attrs, condition: Tensor, a: Tensor, a_scale: Tensor, a_zero: Any, b: Tensor,
    b_scale: Tensor, b_zero: Any, y_scale: Tensor, y_zero: Any,
) -> Tensor:  # fmt: skip
    yes, no = _stood_for(a, a_scale, a_zero), _stood_for(b, b_scale, b_zero)
    return _back(torch.where(condition, yes, no), y_scale, y_zero)


@contrib_op("QLinearConcat", reads="axis", takes=None, either=(1,))
def quantised_concat(attrs: Attrs, y_scale: Tensor, y_zero: Any, *parts: Any) -> Tensor:
    """Every part is a map, its scale and its zero point."""
    found = [_stood_for(*parts[k : k + 3]) for k in range(0, len(parts), 3)]
    return _back(torch.cat(found, attrs["axis"]), y_scale, y_zero)


@contrib_op("QGemm", reads="alpha transA transB", takes=9, either=(8,))
def quantised_gemm(
    attrs: Attrs, a: Tensor, a_scale: Tensor, a_zero: Any, b: Tensor, b_scale: Tensor,
    b_zero: Any, bias: Tensor | None = None, y_scale: Tensor | None = None, y_zero: Any = None,
) -> Tensor:  # fmt: skip
    """Sums of whole numbers, scaled once; real numbers where no scale of the result is given."""
    if attrs["alpha"] not in (None, 1.0) or attrs["transA"]:
        raise refuse("alpha or transA")
    weight = _centred(b, b_zero, -1 if not attrs["transB"] else 0)
    weight = weight if attrs["transB"] else weight.t()
    sums = torch.nn.functional.linear(
        _centred(a, a_zero), weight, None if bias is None else _float(bias)
    )
    factor = a_scale * b_scale
    if y_scale is None:
        return sums * (factor.reshape(()) if factor.numel() == 1 else factor)
    factor = factor / y_scale
    scaled = sums * (factor.reshape(()) if factor.numel() == 1 else factor)
    return _rounded(scaled, _float(y_zero).reshape(()), _bounds(str(y_zero.dtype)))
