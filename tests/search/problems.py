"""Random tiny layer problems that stress every cost: strides, kernels, padding, memory, steps."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from nptp_opt.cost import LayerCost
from nptp_opt.errors import InputError
from nptp_opt.geometry import Tile
from nptp_opt.layer.problem import LayerProblem
from tests.builders import make_cluster, make_problem


@st.composite
def problems(draw: st.DrawFn, most_devices: int = 3, most_size: int = 5) -> LayerProblem:
    """A layer of at most ``most_size`` squared outputs on at most ``most_devices`` devices."""
    n = draw(st.integers(1, most_devices))
    shared = draw(st.booleans())
    speeds = draw(st.lists(st.sampled_from([0.5, 1.0, 1.0, 2.0, 3.0]), min_size=n, max_size=n))
    cluster = make_cluster(
        speeds,
        rates=draw(st.sampled_from([5.0, 50.0, 500.0])),
        shared=shared,
        latency_ms=draw(st.sampled_from([0.0, 0.002, 0.05])),
        overhead_ms=draw(st.sampled_from([0.0, 0.01])),
    )
    layer = draw(layers(most_size))
    try:
        problem = make_problem(cluster, cut_step=draw(st.sampled_from([1, 1, 1, 2])), **layer)
    except InputError:
        return make_problem(cluster)
    return _limit_memory(problem, draw(st.sampled_from([None, 0.6, 0.9, 1.2])))


@st.composite
def layers(draw: st.DrawFn, most_size: int) -> dict[str, Any]:
    """Fields of a convolution; padding may differ on the four sides."""
    stride = draw(st.sampled_from([1, 1, 2]))
    kernel = draw(st.sampled_from([1, 2, 3, 3, 5]))
    size = st.integers(2 * stride, most_size * stride)
    pad = st.integers(0, kernel // 2)
    return {
        "in_height": draw(size),
        "in_width": draw(size),
        "kernel": (kernel, kernel),
        "stride": (stride, stride),
        "padding": tuple(draw(pad) for _ in range(4)),
    }


def _limit_memory(problem: LayerProblem, share: float | None) -> LayerProblem:
    """The problem with device 0 limited to a share of what the whole map needs."""
    if share is None:
        return problem
    whole = LayerCost(problem).memory_bytes(Tile(0, problem.height, 0, problem.width))
    cluster = problem.cluster
    first = cluster.devices[0].model_copy(update={"memory_mib": share * whole / 2**20})
    limited = cluster.model_copy(update={"devices": (first, *cluster.devices[1:])})
    return LayerProblem(problem.name, problem.layer, limited, problem.cut_step)


def pinwheel(*, shared: bool = False) -> LayerProblem:
    """Five equal devices, 28 x 28, 512 channels, 1 GFLOP/s, 100 Mbit/s, no latency (issue 3)."""
    return make_problem(
        make_cluster([1.0] * 5, shared=shared),
        in_channels=512,
        out_channels=512,
        in_height=28,
        in_width=28,
    )
