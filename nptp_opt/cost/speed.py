"""How fast a device computes one layer: from its profile, or from its FLOP/s. The only place.

Seconds of a tile are ``overhead_s`` per call and its operations by ``flop_per_s``. The layers that
a device computes of a tile together are one program, which takes its ``program_s`` beside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from nptp_opt.cluster import Cluster, Device
from nptp_opt.cost.loads import FloatArray
from nptp_opt.geometry import IntArray, Window
from nptp_opt.layer.problem import LayerShape
from nptp_opt.network.ir import Layer

BoolArray = npt.NDArray[np.bool_]
Flop = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Speed:
    """One device's speed on one layer shape."""

    flop_per_s: float
    overhead_s: float

    def seconds(self, flop: float) -> float:
        """Of one call that computes ``flop`` operations."""
        return self.overhead_s + flop / self.flop_per_s


def layer_speed(device: Device, layer: Layer | LayerShape) -> Speed:
    """The measured speed where the device's profile has this layer shape, else the device's own."""
    measured = device.measured.get(layer_key(layer)) if device.measured else None
    chosen = measured or device
    return Speed(chosen.flop_per_s, chosen.overhead_s)


@dataclass(frozen=True)
class Speeds:
    """Speeds of devices on layers, both (devices, layers); on one layer (devices,)."""

    flop_per_s: FloatArray
    overhead_s: FloatArray

    def on(self, layer: int) -> Speeds:
        """On the layer of that place."""
        return Speeds(self.flop_per_s[:, layer], self.overhead_s[:, layer])

    def seconds(self, flop: Flop, called: BoolArray | Literal[True] = True) -> FloatArray:
        """Of calls (..., as the speeds) that compute ``flop`` operations; 0 where none is made."""
        return np.asarray(self.overhead_s * called + flop / self.flop_per_s)

    def tile_s(self, flop_per_pixel: float, area: IntArray) -> FloatArray:
        """Of tiles (..., devices) of ``area`` pixels on one layer; 0 where there is none."""
        # Rounded in this order: planners choose between candidates of equal cost by the last bit.
        return np.asarray(self.overhead_s * (area > 0) + flop_per_pixel / self.flop_per_s * area)


def speeds_of(devices: Sequence[Device], layers: Sequence[Layer]) -> Speeds:
    """``layer_speed`` of every device on every layer."""
    speeds = [[layer_speed(device, layer) for layer in layers] for device in devices]
    shape = len(devices), len(layers)
    flop_per_s = np.array([[speed.flop_per_s for speed in own] for own in speeds])
    overhead_s = np.array([[speed.overhead_s for speed in own] for own in speeds])
    return Speeds(flop_per_s.reshape(shape), overhead_s.reshape(shape))


def mean_gflops(device: Device, layers: Sequence[Layer]) -> float:
    """GFLOP/s over all of ``layers``, calls left out; ``gflops`` where nothing is measured."""
    rates = [layer_speed(device, layer).flop_per_s for layer in layers]
    # Relative to the device's own rate, so that layers without a profile give exactly that.
    scaled = (x.flop * (device.flop_per_s / rate) for x, rate in zip(layers, rates, strict=True))
    total, at_own_rate = sum(layer.flop for layer in layers), sum(scaled)
    return device.gflops * (total / at_own_rate) if total else device.gflops


def measured_share(device: Device, layers: Sequence[Layer]) -> float:
    """Part of the layers' operations whose shapes the device's profile has; 1 where there are none
    or no profile."""
    total = sum(layer.flop for layer in layers)
    if device.layers is None or not total:
        return 1.0
    return sum(layer.flop for layer in layers if layer_key(layer) in device.measured) / total


def layer_key(layer: Layer | LayerShape) -> str:
    """A layer's shape in words, its map's size left out: layers with one key have one speed."""
    if isinstance(layer, LayerShape):
        taps = layer.in_channels // layer.groups if layer.op == "conv2d" else 1
        words = (layer.kernel, layer.stride, layer.dilation)
        return _window_key(layer.op, layer.out_channels, taps, layer.groups, *words)
    windows = layer.maps.get(layer.inputs[0], ()) if layer.maps else ()
    if not windows or not all(isinstance(window, Window) for window in windows):
        flop = layer.flop_per_pixel if windows else layer.flop
        return f"{layer.op} {'x'.join(map(str, layer.shape[1:2]))} {flop:.6g} FLOP"
    y, x = windows
    assert isinstance(y, Window)
    assert isinstance(x, Window)
    attrs = layer.nodes[0].attrs
    taps = int(attrs["weight_shape"][1]) if "weight_shape" in attrs else 1
    words = ((y.kernel, x.kernel), (y.stride, x.stride), (y.dilation, x.dilation))
    return _window_key(layer.op, layer.shape[1], taps, int(attrs.get("groups", 1)), *words)


def _window_key(op: str, channels: int, taps: int, groups: int, *pairs: tuple[int, int]) -> str:
    kernel, stride, dilation = ("x".join(map(str, pair)) for pair in pairs)
    text = f"{op} {channels}x{taps} kernel {kernel} stride {stride}"
    text += f" dilation {dilation}" if dilation != "1x1" else ""
    return text + (f" groups {groups}" if groups > 1 else "")


def for_layer(cluster: Cluster, layer: LayerShape) -> Cluster:
    """The cluster whose devices have, as their only speed, the one that they have on ``layer``,
    which is a program by itself."""
    if not any(device.layers or device.program_s for device in cluster.devices):
        return cluster
    devices = []
    for device in cluster.devices:
        speed = layer_speed(device, layer)
        call_s = speed.overhead_s + device.program_s
        own = {"gflops": speed.flop_per_s / 1e9, "overhead_ms": call_s * 1e3}
        devices.append(device.model_copy(update={**own, "layers": None, "program_ms": None}))
    return cluster.model_copy(update={"devices": tuple(devices)})
