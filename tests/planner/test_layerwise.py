"""Layer problems of a network's layers."""

from __future__ import annotations

from nptp_opt.network.load import load_model
from nptp_opt.planner.layerwise import layer_problem
from tests.builders import make_cluster


def test_a_pool_with_a_concat_folded_on_is_priced_as_the_pool() -> None:
    """Regression: Inception v3's Mixed_6a was refused, the concat having more channels."""
    network = load_model("inception_v3", (1, 3, 96, 96)).network
    problems = [layer_problem(network, layer, make_cluster()) for layer in network.spatial]
    pools = [p.layer for p in problems if p is not None and p.layer.op == "max_pool2d"]
    assert pools and all(pool.in_channels == pool.out_channels for pool in pools)
    assert sum(problem is not None for problem in problems) > 90
