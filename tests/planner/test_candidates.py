"""Candidates: the partitions in use."""

from __future__ import annotations

import pytest

from nptp_opt.evaluate.assemble import Choice
from nptp_opt.geometry import Tile
from nptp_opt.layer.limits import Limits
from nptp_opt.planner.candidates import pool
from nptp_opt.planner.candidates.catalogue import distinct, used_templates
from nptp_opt.planner.candidates.layerwise import solved_templates
from nptp_opt.planner.candidates.templates import TemplateStack
from nptp_opt.planner.options import PlanOptions
from tests.builders import conv_chain, make_cluster


def test_an_odd_cut_before_a_stride_stays_a_candidate() -> None:
    """Of a partition in use, the template whose cuts do not snap was always taken for the other."""
    network = conv_chain((1, 3, 8, 8), [{"channels": 4}, {"channels": 4, "stride": 2}])
    odd = {0: Tile(0, 3, 0, 8), 1: Tile(3, 8, 0, 8)}
    used = used_templates([Choice(network.spatial[:1], odd)])
    kept = distinct(used, network.spatial)
    assert [template.snapped for template in kept] == [True, False]
    assert TemplateStack(kept, 2).place((8, 8), (2, 2))[:, 0, 1].tolist() == [4, 3]


def test_what_baselines_solve_does_not_depend_on_the_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a time limit the layers had a few seconds of the wall clock all the same: on a busy
    machine the search missed partitions that ``column-dp`` has, and plans differed."""
    monkeypatch.setattr(pool, "SOLVING_S", 1e-9)
    network = conv_chain((1, 3, 16, 16), [{"channels": 4}, {"channels": 8}])
    cluster = make_cluster((0.01, 0.02, 0.01), rates=5.0, shared=True, latency_ms=0.05)
    solved = pool.solved_layers(network, cluster, PlanOptions())
    for method in pool.LAYER_METHODS:
        alone = [*solved_templates(network, cluster, method, None, Limits(prove=False))]
        assert alone and solved[method] == alone
