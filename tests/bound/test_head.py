"""Linear layers behind a global pool, off the bound's path or all of it: both once failed."""

from __future__ import annotations

import pytest
from torch import nn

from nptp_opt.network.ir import Network
from nptp_opt.network.load import load_module
from nptp_opt.network.ref import ModelRef
from nptp_opt.planner import plan_network
from tests.builders import make_cluster


def pooled(features: int) -> Network:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, features)
    )
    return load_module(model.eval(), "m", (1, 3, 9, 9)).network


def test_pooled_linear_layer_is_bounded() -> None:
    """The global pool ends the path of maps, so the linear layer lies off it."""
    plan = plan_network(ModelRef("m", (1,)), pooled(10), make_cluster((0.01, 0.02)))
    assert plan.bound_s is not None and 0 < plan.bound_s <= plan.latency_s


@pytest.mark.filterwarnings("error")
def test_a_pooled_linear_layer_that_is_most_of_the_work_is_bounded() -> None:
    """The path is that layer alone, which reads no map: impossible states were inf times 0."""
    network, cluster = pooled(5000), make_cluster((0.001, 1.0, 0.01), rates=10.0, latency_ms=5)
    plan = plan_network(ModelRef("m", (1,)), network, cluster)
    assert plan.bound_s is not None and 0 < plan.bound_s <= plan.latency_s
