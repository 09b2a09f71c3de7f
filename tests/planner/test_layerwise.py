"""Layer problems of a network's layers."""

from __future__ import annotations

import logging
import math

import pytest

from nptp_opt.layer.limits import Limits
from nptp_opt.layer.problem import LayerProblem
from nptp_opt.layer.result import LayerResult
from nptp_opt.layer.solve import solve_layer
from nptp_opt.network.load import load_model
from nptp_opt.planner import PLANNERS, PlanOptions
from nptp_opt.planner.candidates import layerwise
from nptp_opt.planner.candidates.layerwise import layer_problem, solved_templates
from tests.builders import conv_chain, make_cluster


def test_a_pool_with_a_concat_folded_on_is_costed_as_the_pool() -> None:
    """Regression: Inception v3's Mixed_6a was refused, the concat having more channels."""
    network = load_model("inception_v3", (1, 3, 96, 96)).network
    problems = [layer_problem(network, layer, make_cluster()) for layer in network.spatial]
    pools = [p.layer for p in problems if p is not None and p.layer.op == "max_pool2d"]
    assert pools and all(pool.in_channels == pool.out_channels for pool in pools)
    assert sum(problem is not None for problem in problems) > 90


def test_layers_that_the_time_limit_left_out_are_told(caplog: pytest.LogCaptureFixture) -> None:
    """A baseline that is weaker for lack of time was so without a word."""
    network = conv_chain((1, 3, 8, 8), [{}, {"channels": 8}])
    for limit_s, said in ((1e-9, True), (math.inf, False)):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            limits = Limits(time_limit_s=limit_s)
            found = [*solved_templates(network, make_cluster(), "column-dp", None, limits)]
        assert (len(found) < 2) == said
        assert ("column-dp: partitions for" in caplog.text) == said


@pytest.mark.parametrize("planner", ["column-dp", "multilevel", "nptp"])
def test_planners_ask_for_partitions_not_for_proofs(
    planner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: a baseline took minutes to prove partitions that it had after a second."""
    proofs: list[bool] = []

    def spied(
        problem: LayerProblem, formulation: str, *, solver: str | None, limits: Limits
    ) -> LayerResult:
        proofs.append(limits.prove)
        return solve_layer(problem, formulation, solver=solver, limits=limits)

    monkeypatch.setattr(layerwise, "solve_layer", spied)
    network = conv_chain((1, 3, 12, 12), [{}, {"channels": 8}])
    assert PLANNERS[planner].plan(network, make_cluster(), PlanOptions(planner))
    assert proofs and not any(proofs)
