"""Layers and clusters of the one-layer benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nptp_opt.cluster import Cluster, cluster_from_json
from nptp_opt.layer.problem import LayerProblem, LayerShape


def conv(
    channels_in: int, channels: int, size: int, kernel: int = 3, stride: int = 1
) -> LayerShape:
    """A square convolution with "same" padding."""
    pad = kernel // 2
    return LayerShape(
        op="conv2d",
        in_channels=channels_in,
        out_channels=channels,
        in_height=size,
        in_width=size,
        kernel=(kernel, kernel),
        stride=(stride, stride),
        padding=(pad, pad, pad, pad),
    )


LAYERS = {
    "vgg16-conv1_2-224": conv(64, 64, 224),
    "vgg16-conv2_2-112": conv(128, 128, 112),
    "vgg16-conv3_2-56": conv(256, 256, 56),
    "vgg16-conv4_2-28": conv(512, 512, 28),
    "vgg16-conv5_2-14": conv(512, 512, 14),
    "resnet50-conv1-s2-112": conv(3, 64, 224, kernel=7, stride=2),
    "resnet50-3x3-s2-28": conv(128, 128, 56, stride=2),
    "resnet50-1x1-s2-28": conv(256, 512, 56, kernel=1, stride=2),
    "resnet50-3x3-s2-7": conv(512, 512, 14, stride=2),
}


def unequal(n: int) -> list[float]:
    """Speeds in GFLOP/s from 4 upwards, all different."""
    return [4.0 + 1.7 * i for i in range(n)]


def cluster(gflops: Sequence[float], rate: float, *, shared: bool) -> Cluster:
    """Devices of these speeds at ``rate`` Mbit/s with messages of 0.5 ms."""
    devices: list[dict[str, Any]] = [
        {"name": f"d{i}", "gflops": g, "overhead_ms": 0.1} for i, g in enumerate(gflops)
    ]
    network: dict[str, Any] = {"kind": "shared" if shared else "switched", "latency_ms": 0.5}
    if shared:
        network["mbit_per_s"] = rate
    else:
        for device in devices:
            device |= {"up_mbit_per_s": rate, "down_mbit_per_s": rate}
    return cluster_from_json({"network": network, "device": devices})


def problem(
    layer: str | LayerShape, gflops: Sequence[float], rate: float = 100.0, *, shared: bool = False
) -> LayerProblem:
    """One layer on one cluster."""
    shape = LAYERS[layer] if isinstance(layer, str) else layer
    return LayerProblem("benchmark", shape, cluster(gflops, rate, shared=shared))
