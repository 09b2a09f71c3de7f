"""A linear layer beside the bound's path, read by the head alone, once had no map to follow."""

from __future__ import annotations

from torch import nn

from nptp_opt.network.load import load_module
from nptp_opt.planner import plan_network
from nptp_opt.steps import ModelRef
from tests.builders import make_cluster


def test_pooled_linear_layer_is_bounded() -> None:
    """The global pool ends the path of maps, so the linear layer lies off it."""
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)
    )
    network = load_module(model.eval(), "m", (1, 3, 9, 9)).network
    plan = plan_network(ModelRef("m", (1,)), network, make_cluster((0.01, 0.02)))
    assert plan.bound_s is not None and 0 < plan.bound_s <= plan.latency_s
