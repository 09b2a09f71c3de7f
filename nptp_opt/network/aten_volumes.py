"""Convolutions and pools of volumes (video, medical images): cut along rows and columns alone.

A tensor (N, C, D, H, W) is a map whose channels are the C x D pairs of channel and depth. What a
window reads along the depth stays inside a pixel's channels; along rows and columns it is a window
like any other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from nptp_opt.geometry import Window
from nptp_opt.geometry.axis_maps import Transposed
from nptp_opt.network.aten_moves import channel_window
from nptp_opt.network.aten_reductions import reduced
from nptp_opt.network.calls import Call, NotLocalError, handles, layout_of, pair
from nptp_opt.network.graph import Value
from nptp_opt.network.layout import Layout

VOLUME = ("n", 0, 1, "h", "w")


def _volume(call: Call) -> Value:
    """The argument as a map whose channels are channel and depth, either of which may be one."""
    value = call.feature()
    axes, channels = layout_of(value).axes, layout_of(value).channels
    lies = axes[:1] == ("n",) and axes[3:] == ("h", "w") and set(channels) <= {1, 2}
    if not lies or [axes[i] for i in channels] != list(range(len(layout_of(value).factors))):
        raise NotLocalError("its input's dimensions are not sample, channels, depth, rows, columns")
    return replace(value, layout=Layout(VOLUME, (value.shape[1], value.shape[2])))


def _out(call: Call) -> Layout:
    return Layout(VOLUME, (call.shape[1], call.shape[2]))


def _windows(
    call: Call, value: Value, kernel: Sequence[int], spread: dict[str, list[int]]
) -> tuple[Window, Window]:
    """Windows of rows and columns; ``spread`` has stride, padding and dilation of all three."""
    y, x = (
        Window(
            value.shape[i + 2],
            call.shape[i + 2],
            kernel[i],
            spread["stride"][i],
            spread["dilation"][i],
            spread["padding"][i],
            spread["padding"][i],
        )
        for i in (1, 2)
    )
    return y, x


def _spread(call: Call, kernel: Sequence[int]) -> dict[str, list[int]]:
    """Stride, padding and dilation along depth, rows and columns."""
    dilation = pair(call.args.get("dilation", 1), [1] * 3, 3)
    padding = call.args["padding"]
    if padding == "same":
        total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        if any(each % 2 for each in total):
            raise NotLocalError("its padding is not the same on both sides")
        padding = [each // 2 for each in total]
    given = [0] * 3 if padding == "valid" else pair(padding, [0] * 3, 3)
    usual = kernel if "kernel_size" in call.args else [1] * 3
    return {
        "stride": pair(call.args["stride"], list(usual), 3),
        "padding": given,
        "dilation": dilation,
    }


def _attrs(value: Value, spread: dict[str, list[int]]) -> dict[str, Any]:
    """What a kernel needs: the volume's channels and depth, and padding along the depth alone."""
    return {
        "volume": list(layout_of(value).factors),
        "stride": spread["stride"],
        "dilation": spread["dilation"],
        "padding": [spread["padding"][0], 0, 0],
    }


@handles("conv3d", reads="input weight bias stride padding dilation groups")
def convolution(call: Call) -> Value:
    """A convolution of volumes."""
    value, weight = _volume(call), call.weight("weight")
    assert weight is not None
    kernel = list(weight.shape[2:])
    spread = _spread(call, kernel)
    return call.emit(
        "conv3d",
        [value.tensor],
        _out(call),
        attrs={**_attrs(value, spread), "groups": int(call.args["groups"])},
        params={"weight": weight, "bias": call.weight("bias")},
        maps=[_windows(call, value, kernel, spread)],
        flop=2.0 * math.prod(call.shape) * math.prod(weight.shape[1:]),
    )


@handles(
    "conv_transpose3d", reads="input weight bias stride padding output_padding groups dilation"
)
def transposed_convolution(call: Call) -> Value:
    """A transposed convolution of volumes."""
    value, weight = _volume(call), call.weight("weight")
    assert weight is not None
    kernel = list(weight.shape[2:])
    spread = _spread(call, kernel)
    y, x = (
        Transposed(
            value.shape[i + 2],
            call.shape[i + 2],
            kernel[i],
            spread["stride"][i],
            spread["dilation"][i],
            spread["padding"][i],
        )
        for i in (1, 2)
    )
    more = pair(call.args["output_padding"], [0] * 3, 3)[0]
    attrs = {**_attrs(value, spread), "groups": int(call.args["groups"]), "more": more}
    return call.emit(
        "conv_transpose3d",
        [value.tensor],
        _out(call),
        attrs=attrs,
        params={"weight": weight, "bias": call.weight("bias")},
        maps=[(y, x)],
        flop=2.0 * math.prod(value.shape) * math.prod(weight.shape[1:]),
    )


@handles(
    "max_pool3d",
    "max_pool3d_with_indices",
    reads="self kernel_size stride padding dilation ceil_mode",
)
def max_pooling(call: Call) -> Value:
    """The largest element of every window of a volume."""
    return _pooling(call, "max_pool3d")


@handles(
    "avg_pool3d",
    reads="self kernel_size stride padding ceil_mode count_include_pad divisor_override",
)
def average_pooling(call: Call) -> Value:
    """The mean of every window of a volume, padding counted; or of neighbouring channels."""
    if call.args.get("divisor_override"):
        raise NotLocalError("its divisor is its own")
    if layout_of(call.feature()).axes[2:3] == (0,):
        return channel_window(call)
    padded = any(pair(call.args["padding"], [0] * 3, 3))
    if padded and not call.args["count_include_pad"]:
        raise NotLocalError("it leaves padding out of the mean")
    return _pooling(call, "avg_pool3d")


def _pooling(call: Call, op: str) -> Value:
    value = _volume(call)
    kernel = pair(call.args["kernel_size"], [], 3)
    spread = _spread(call, kernel)
    if call.args["ceil_mode"]:
        raise NotLocalError("windows may lie over the end of a volume (ceil_mode)")
    return call.emit(
        op,
        [value.tensor],
        _out(call),
        attrs={**_attrs(value, spread), "kernel": kernel},
        maps=[_windows(call, value, kernel, spread)],
        flop=float(math.prod(call.shape) * math.prod(kernel)),
    )


@handles("adaptive_avg_pool3d", "adaptive_max_pool3d", reads="self output_size")
def adaptive_pooling(call: Call) -> Value:
    """Pooling of a whole volume to one element."""
    if call.shape[2:] != (1, 1, 1):
        raise NotLocalError("it pools a volume to several elements")
    how = "amax" if "max" in call.op else "mean"
    return reduced(call, _volume(call), how, [2, 3, 4], keep=True)
