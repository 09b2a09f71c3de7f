"""Tiny layer problems, one per property that a formulation must get right."""

from __future__ import annotations

from typing import Any

from nptp_opt.cluster import cluster_from_json
from nptp_opt.layer.problem import LayerProblem, LayerShape


def problem(
    name: str,
    height: int = 4,
    width: int = 4,
    *,
    gflops: tuple[float, ...] = (1.0, 0.6, 0.4),
    shared: bool = False,
    latency_ms: float = 0.01,
    mbit_per_s: float = 100.0,
    memory_mib: tuple[float | None, ...] = (),
    cut_step: int = 1,
    **layer: Any,
) -> LayerProblem:
    """A 3 x 3 convolution with 64 channels in and out unless ``layer`` says otherwise."""
    shape = {
        "op": "conv2d",
        "in_channels": 64,
        "out_channels": 64,
        "kernel": (3, 3),
        "padding": (1, 1, 1, 1),
        **layer,
    }
    rates = {"up_mbit_per_s": mbit_per_s, "down_mbit_per_s": mbit_per_s}
    devices = []
    for i, speed in enumerate(gflops):
        device = {"name": f"d{i}", "gflops": speed, "overhead_ms": 0.02}
        if not shared:
            device |= rates
        if i < len(memory_mib) and memory_mib[i] is not None:
            device["memory_mib"] = memory_mib[i]
        devices.append(device)
    network = {"kind": "shared" if shared else "switched", "latency_ms": latency_ms}
    if shared:
        network["mbit_per_s"] = mbit_per_s
    cluster = cluster_from_json({"network": network, "device": devices})
    return LayerProblem(
        name, LayerShape(in_height=height, in_width=width, **shape), cluster, cut_step
    )


EQUAL = (0.8, 0.8, 0.8)

PROBLEMS = (
    problem("unequal", 3, 4),
    problem("equal", 4, 3, gflops=EQUAL),
    problem("shared", 3, 3, shared=True, mbit_per_s=300.0),
    problem("shared-equal", 3, 3, shared=True, gflops=EQUAL, mbit_per_s=300.0, latency_ms=0.0),
    problem("no-halo", 3, 4, kernel=(1, 1), padding=(0, 0, 0, 0)),
    problem("stride-2-even", 6, 6, stride=(2, 2)),
    problem("stride-2-odd", 7, 5, stride=(2, 2)),
    problem("wide-padding", 2, 3, padding=(2, 2, 1, 1)),
    problem("kernel-5", 4, 3, kernel=(5, 5), padding=(2, 2, 2, 2), mbit_per_s=400.0),
    problem("kernel-2-one-sided", 3, 4, kernel=(2, 2), padding=(1, 0, 0, 1)),
    problem("memory", 4, 4, memory_mib=(0.1455, 0.1455, 0.15)),
    problem("cut-step-2", 5, 6, cut_step=2),
    problem("cut-step-2-shared", 6, 5, cut_step=2, shared=True, mbit_per_s=500.0),
    problem("pool", 6, 6, op="max_pool2d", kernel=(2, 2), stride=(2, 2), padding=(0, 0, 0, 0)),
    problem("idle-device", 3, 3, gflops=(5.0, 0.01), latency_ms=5.0),
    problem("one-device", 3, 3, gflops=(1.0,)),
)
