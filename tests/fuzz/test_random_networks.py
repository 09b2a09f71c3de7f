"""Tiny random networks on random clusters: every planner's plan is right, no bound is above any
plan, and neither another planner nor chance beats ``nptp`` by a percent."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest

from nptp_opt.cluster import Cluster
from nptp_opt.evaluate.assemble import Choice
from nptp_opt.network.load import LoadedModel
from nptp_opt.plan.model import Plan
from nptp_opt.planner import PLANNERS, PlanOptions, plan_network
from nptp_opt.planner.planners import plan_of
from nptp_opt.verification.static import paper_faults
from tests.builders import make_cluster
from tests.fuzz.documents import TIMES
from tests.network.partitioned import random_tiles, segments
from tests.tangled import tangled

LUCK = 40
"""Random plans of each case."""


def random_cluster(rng: Random) -> Cluster:
    speeds = [rng.choice([1e-4, 1e-3, 2e-3, 5e-3, 1e-2, 1.0]) for _ in range(rng.randint(2, 4))]
    return make_cluster(
        speeds,
        rates=10 ** rng.uniform(-2, 3),
        shared=rng.random() < 0.5,
        latency_ms=rng.choice([0, 0.01, 0.5]),
        overhead_ms=rng.choice([0, 0.01, 0.1]),
    )


def random_plans(model: LoadedModel, cluster: Cluster, rng: Random) -> Iterator[Plan]:
    devices = [*range(len(cluster.devices))]
    for _ in range(LUCK if model.network.spatial else 0):
        choices = []
        for layers in segments(model.network, rng):
            last = layers[-1]
            rng.shuffle(devices)
            depth = 0 if last.is_whole else rng.randint(0, 1)
            tiles = [] if last.kind == "global" else random_tiles(last.full, depth, rng)
            choices.append(Choice(layers, dict(zip(devices, tiles, strict=False))))
        yield plan_of(model.ref, model.network, cluster, choices)


@pytest.mark.parametrize("seed", range(1000, 1000 + 3 * TIMES))
def test_no_planner_and_no_luck_beats_nptp_and_no_bound_is_above_a_plan(seed: int) -> None:
    rng, model = Random(seed), tangled(seed)
    cluster = random_cluster(rng)
    plans = {
        name: plan_network(model.ref, model.network, cluster, PlanOptions(name))
        for name in PLANNERS
    }
    own = plans["nptp"]
    assert own.bound_s is not None
    others = [*plans.values(), *random_plans(model, cluster, rng)]
    for plan in others:
        assert paper_faults(plan) == []
        assert own.bound_s <= plan.latency_s * (1 + 1e-9)
    assert own.latency_s <= 1.01 * min(plan.latency_s for plan in others)
