"""Linear layers: of whole samples, as maps whose rows are features, or of every pixel.

The map of a linear layer is (N, 1, F, 1): one row per output feature, one column. Each row reads
the whole input, so tiles divide the features. A flattening before it is part of the layer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from nptp_opt.geometry.axis_maps import Whole
from nptp_opt.network.aten_pixelwise import elementwise
from nptp_opt.network.aten_reductions import reduced
from nptp_opt.network.calls import Call, NotLocalError, axis_of, handles, layout_of
from nptp_opt.network.graph import Const, Value
from nptp_opt.network.layout import FEATURES


@dataclass(frozen=True)
class _Product:
    """``value`` times a weight: (out, in), or (in, out) where ``transposed``."""

    value: Value
    weight: Const
    bias: Const | None
    transposed: bool


@handles("linear", reads="input weight bias")
def linear(call: Call) -> Value:
    """A linear layer: of the whole sample, or else of the channels of every pixel."""
    value, weight = call.args["input"], call.weight("weight")
    if not isinstance(value, Value) or weight is None:
        raise NotLocalError("its input is no tensor of the network")
    product = _Product(value, weight, call.weight("bias"), transposed=False)
    source = _source(call, product)
    return _pointwise(call) if source is None else _features(call, product, source)


@handles("matmul", "mm", "addmm", reads="self other input mat1 mat2 alpha beta")
def matmul(call: Call) -> Value:
    """A product with a weight, as a linear layer of the whole sample; or a sum of pixels."""
    if isinstance(call.argument(), Value) and isinstance(call.args.get("other"), Value):
        return _sum_of_pixels(call)
    plain = call.args.get("alpha", 1) == call.args.get("beta", 1) == 1
    *first, value, weight = (v for v in call.args.values() if isinstance(v, (Value, Const)))
    bias = first[0] if first else None
    fits = (isinstance(bias, Const) and len(bias.shape) == 1) or bias is None
    if not (isinstance(value, Value) and isinstance(weight, Const) and fits and plain):
        raise NotLocalError("it is no product of samples with a weight")
    assert bias is None or isinstance(bias, Const)
    product = _Product(value, weight, bias, transposed=True)
    source = _source(call, product)
    if source is None:
        raise NotLocalError("its rows are no samples of a map")
    return _features(call, product, source)


def _sum_of_pixels(call: Call) -> Value:
    """A map times one weight for each pixel, summed over the pixels."""
    value, weights = call.feature("self"), call.feature("other")
    rank = len(value.shape)
    if len(weights.shape) != rank or weights.shape[-1] != 1 or axis_of(value, -1) != "hw":
        raise NotLocalError("it is no sum over pixels with one weight for each")
    dims = [*range(rank - 2), rank - 1, rank - 2]
    shape = tuple(weights.shape[d] for d in dims)
    weights = replace(weights, shape=shape, layout=layout_of(weights).permute(dims))
    products = replace(
        call, op="mul", overload="Tensor", shape=value.shape, name=f"{call.name}.mul"
    )
    made = elementwise(replace(products, args={"self": value, "other": weights}))
    return reduced(call, made, "sum", [rank - 1], keep=True)


def _source(call: Call, product: _Product) -> Value | None:
    """The map that holds the samples; None where the layer is none of whole samples.

    Channels of a single pixel are left to a 1x1 convolution where a map is made of them again
    (squeeze and excitation): every device needs all of those.
    """
    value = product.value
    if len(value.shape) != 2 or len(call.shape) != 2 or len(product.weight.shape) != 2:
        return None
    if value.layout is None:
        source = call.graph.flattened.get(value.tensor)
    else:
        source = None if value.layout.channels and call.becomes_map else value
    if source is None:
        return None
    samples_first = layout_of(source).axes[0] == "n" and source.shape[0] == call.shape[0]
    return source if samples_first or call.shape[0] == 1 else None


def _features(call: Call, product: _Product, source: Value) -> Value:
    samples, features = call.shape
    _, _, height, width = layout_of(source).canonical(source.shape)
    return call.emit(
        "linear",
        [source.tensor],
        FEATURES,
        attrs={**source.ordering(), "transposed": product.transposed},
        params={"weight": product.weight, "bias": product.bias},
        maps=[(Whole(height, features), Whole(width, 1))],
        flop=2.0 * samples * math.prod(product.weight.shape),
    )


def _pointwise(call: Call) -> Value:
    """A linear layer over the channels of every pixel: a 1x1 convolution."""
    value = call.feature()
    layout = layout_of(value)
    weight = call.weight("weight")
    if weight is None or axis_of(value, -1) != 0 or len(layout.factors) != 1:
        raise NotLocalError("what it sums over are not all channels of a pixel")
    out = layout.with_channels(weight.shape[0])
    attrs = {
        "weight_shape": [*weight.shape, 1, 1],
        "stride": [1, 1],
        "dilation": [1, 1],
        "groups": 1,
    }
    return call.emit(
        "conv2d",
        [value.tensor],
        out,
        attrs=attrs,
        params={"weight": weight, "bias": call.weight("bias")},
        flop=2.0 * math.prod(call.shape) * weight.shape[1],
    )
