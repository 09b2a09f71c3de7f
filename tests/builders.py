"""Small clusters, layer problems and networks for tests, without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nptp_opt.cluster import Cluster, cluster_from_json
from nptp_opt.geometry import Window
from nptp_opt.layer.problem import LayerProblem, LayerShape
from nptp_opt.network.ir import Layer, Network, Node


def make_cluster(
    gflops: Sequence[float] = (1.0, 1.0),
    *,
    rates: Sequence[float] | float = 100.0,
    shared: bool = False,
    latency_ms: float = 0.0,
    overhead_ms: float = 0.0,
    memory_mib: Mapping[int, float] | None = None,
    **network: Any,
) -> Cluster:
    """A cluster of devices d0, d1, ...; ``rates`` in Mbit/s, one for all or one each."""
    per = [rates] * len(gflops) if isinstance(rates, (int, float)) else list(rates)
    devices: list[dict[str, Any]] = []
    for i, speed in enumerate(gflops):
        device = {"name": f"d{i}", "gflops": float(speed), "overhead_ms": float(overhead_ms)}
        if not shared:
            device |= {"up_mbit_per_s": float(per[i]), "down_mbit_per_s": float(per[i])}
        if memory_mib and i in memory_mib:
            device["memory_mib"] = float(memory_mib[i])
        devices.append(device)
    link: dict[str, Any] = {"kind": "shared" if shared else "switched", "latency_ms": latency_ms}
    if shared:
        link["mbit_per_s"] = float(per[0])
    return cluster_from_json({"network": link | network, "device": devices})


def make_problem(cluster: Cluster, *, cut_step: int = 1, **layer: Any) -> LayerProblem:
    """A small convolution's problem; every field of ``LayerShape`` can be given."""
    fields: dict[str, Any] = {
        "op": "conv2d",
        "in_channels": 8,
        "out_channels": 8,
        "in_height": 6,
        "in_width": 6,
        "kernel": (3, 3),
        "padding": (1, 1, 1, 1),
    }
    return LayerProblem("test", LayerShape(**(fields | layer)), cluster, cut_step)


def conv_layer(
    name: str,
    source: str,
    shape_in: tuple[int, int, int, int],
    channels: int,
    *,
    kernel: int = 3,
    stride: int = 1,
    padding: int = 1,
) -> Layer:
    """A square convolution as a layer of one node; the weights are ``name.weight``."""
    n, c, height, width = shape_in
    maps = tuple(
        Window(
            size,
            (size + 2 * padding - kernel) // stride + 1,
            kernel,
            stride,
            pad_lo=padding,
            pad_hi=padding,
        )
        for size in (height, width)
    )
    shape = (n, channels, maps[0].n_out, maps[1].n_out)
    flop = 2.0 * n * kernel**2 * c * channels * shape[2] * shape[3]
    pads = [padding] * 4
    attrs = {"stride": [stride] * 2, "padding": pads, "dilation": [1, 1], "groups": 1}
    node = Node(
        name,
        "conv2d",
        (source,),
        shape,
        {"kernel": [kernel] * 2} | attrs,
        {"weight": f"{name}.weight"},
        ((maps[0], maps[1]),),
        flop,
    )
    return Layer(
        name,
        "spatial",
        (node,),
        (source,),
        shape,
        {source: (maps[0], maps[1])},
        flop,
        4 * kernel**2 * c * channels,
    )


def conv_chain(
    shape: tuple[int, int, int, int], specs: Sequence[Mapping[str, int]], name: str = "chain"
) -> Network:
    """A chain of convolutions; each spec gives ``channels`` and any of kernel, stride, padding."""
    layers: list[Layer] = []
    source, at = "input", shape
    for k, spec in enumerate(specs):
        layer = conv_layer(f"conv{k}", source, at, **{"channels": 4, **spec})
        layers.append(layer)
        source, at = layer.name, (layer.shape[0], layer.shape[1], *layer.shape[2:])
    shapes = {"input": shape, **{layer.name: layer.shape for layer in layers}}
    return Network(name, ("input",), (source,), tuple(layers), shapes)
