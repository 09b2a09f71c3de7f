"""The path with several labels per state: against exhaustive search over the same choices."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from torch import nn

import nptp_opt
from nptp_opt.cluster import Cluster
from nptp_opt.cost.objectives import Objective, energy_weights, latency_weights, rows_of
from nptp_opt.evaluate.assemble import Choice, assemble
from nptp_opt.evaluate.usage import usage_of
from nptp_opt.network.ir import Network
from nptp_opt.planner.candidates.catalogue import distinct, family_templates
from nptp_opt.planner.candidates.templates import Template
from nptp_opt.planner.path import label_path
from nptp_opt.planner.path.aim import Aim
from nptp_opt.planner.path.label_path import LabelPath, all_spans, most_templates
from nptp_opt.planner.path.shortest_path import spans_of
from nptp_opt.planner.path.state_costs import StateCosts
from tests.builders import conv_chain, make_cluster
from tests.cost.test_objectives import with_power
from tests.networks import residual_network
from tests.planner.test_shortest_path import segmentations

CHAIN = conv_chain((1, 3, 12, 12), [{"channels": 16}, {"channels": 8, "stride": 2}, {}])


def cluster(shared: bool) -> Cluster:
    plain = make_cluster((0.1, 0.3), rates=10.0, shared=shared, latency_ms=0.05)
    return with_power(plain, [3.0, 1.0], [1e-7, 2e-7])


def values(network: Network, on: Cluster, aim: Aim, choices: Sequence[Choice]) -> np.ndarray:
    """A plan under every row of an aim, from its listed transfers."""
    steps = assemble(network, on, choices)
    used, latency_s = usage_of(network, on, steps), sum(step.makespan_s for step in steps)
    return np.array([row.latency * latency_s + float(row.usage(used)) for row in aim.every])


def every_plan(network: Network, on: Cluster, templates: list[Template]) -> list[list[Choice]]:
    costs = StateCosts(network, on, templates)
    return [
        [costs.choice(part, template) for part, template in zip(parts, pick, strict=True)]
        for parts in segmentations(network.spatial)
        for pick in itertools.product(templates, repeat=len(parts))
    ]


def even(aim: Aim) -> np.ndarray:
    return np.concatenate([np.full(len(aim.rows), 1 / len(aim.rows)), np.zeros(len(aim.limited))])


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("objective", ["bytes", "energy", "throughput", "latency"])
def test_the_best_plan_within_every_limit_of_latency_and_energy(
    objective: Objective, shared: bool
) -> None:
    """Limits at all quantiles of both: the least value of the plans that keep them, or None."""
    on, rows = cluster(shared), rows_of(cluster(shared), objective)
    templates = distinct(family_templates(on), CHAIN.spatial)
    limited = [latency_weights(on), energy_weights(on)]
    whole = Aim.of(rows, [(row, 1e300) for row in limited])
    plans = every_plan(CHAIN, on, templates)
    found = np.array([values(CHAIN, on, whole, plan) for plan in plans])
    worth, used = found[:, : len(rows)].max(axis=1), found[:, len(rows) :]
    for one, other in itertools.product((0.0, 0.1, 0.5, 1.0), repeat=2):
        limits = np.array([np.quantile(used[:, 0], one), np.quantile(used[:, 1], other)])
        limits *= 1 + 1e-9  # many are a plan's very value
        aim = Aim.of(rows, [*zip(limited, (float(limit) for limit in limits), strict=True)])
        kept = (used <= limits).all(axis=1)
        best = worth[kept].min() if kept.any() else math.inf
        path = LabelPath(CHAIN, on, templates, aim, even(aim))
        choices = path.choices_by(2 * worth.max(), math.inf)
        if choices is None:
            assert not kept.any()
            continue
        got = values(CHAIN, on, aim, choices)
        assert got[: len(rows)].max() == pytest.approx(best, rel=1e-9)
        assert (got[len(rows) :] <= aim.most).all()


def test_nothing_is_found_that_is_not_better_than_what_is_known() -> None:
    on = cluster(False)
    aim = Aim.of(rows_of(on, "throughput"), [])
    templates = distinct(family_templates(on), CHAIN.spatial)
    plans = every_plan(CHAIN, on, templates)
    best = min(values(CHAIN, on, aim, plan).max() for plan in plans)
    path = LabelPath(CHAIN, on, templates, aim, even(aim))
    assert path.choices_by(best, math.inf) is None
    assert path.choices_by(best * 1.001, math.inf) is not None


def test_too_many_labels_still_give_a_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """One label per candidate and fewer: no longer exact, but within the limit."""
    monkeypatch.setattr(label_path, "MOST_LABELS", 4)
    on = cluster(False)
    aim = Aim.of(rows_of(on, "throughput"), [(latency_weights(on), 1.0)])
    templates = distinct(family_templates(on), CHAIN.spatial)
    choices = LabelPath(CHAIN, on, templates, aim, even(aim)).choices_by(1.0, math.inf)
    assert choices is not None
    assert values(CHAIN, on, aim, choices)[-1] <= 1.0


def test_a_residual_network_is_costed_as_it_is_assembled() -> None:
    """The limit is kept by the assembled plan, and spans keep the search to a plan's segments."""
    network, on = residual_network(2), make_cluster((0.1, 0.3), rates=10.0)
    templates = distinct(family_templates(on), network.spatial)
    aim = Aim.of(rows_of(on, "throughput"), [])
    found = LabelPath(network, on, templates, aim, even(aim)).choices_by(1e3, math.inf)
    assert found is not None
    limit = float(values(network, on, Aim.of([latency_weights(on)], []), found)[0])
    tight = Aim.of(aim.rows, [(latency_weights(on), limit * (1 + 1e-9))])
    spans = spans_of(network, found)
    again = LabelPath(network, on, templates, tight, even(tight), spans).choices_by(1e3, math.inf)
    assert again is not None
    assert values(network, on, tight, again)[-1] <= tight.most[0]
    assert values(network, on, aim, again).max() == pytest.approx(
        values(network, on, aim, found).max(), rel=1e-9
    )


def test_a_network_that_ends_in_a_reduction() -> None:
    """Bug: what is collected after it has one row, not one per candidate: read beyond its end, so
    good labels were dropped or the search ended in an IndexError (SqueezeNet by throughput)."""
    layers = (nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1))
    model = nptp_opt.load_model(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1)), (1, 3, 12, 12))
    network, on = model.network, cluster(False)
    assert network.layers[-1].kind == "global"
    aim = Aim.of(rows_of(on, "throughput"), [])
    templates = distinct(family_templates(on), network.spatial)
    convolutions, reduction = network.spatial, network.layers[-1]
    costs = StateCosts(network, on, templates)
    plans = [
        [*map(costs.choice, [(layer,) for layer in convolutions], pick), Choice((reduction,))]
        for pick in itertools.product(templates, repeat=len(convolutions))
    ]
    best = min(values(network, on, aim, plan).max() for plan in plans)
    choices = LabelPath(network, on, templates, aim, even(aim)).choices_by(2 * best, math.inf)
    assert choices is not None
    assert values(network, on, aim, choices).max() <= best * (1 + 1e-9)


def test_a_passed_deadline_ends_the_search() -> None:
    on = cluster(False)
    aim = Aim.of(rows_of(on, "throughput"), [])
    templates = distinct(family_templates(on), CHAIN.spatial)
    assert LabelPath(CHAIN, on, templates, aim, even(aim)).choices_by(1.0, 0.0) is None


def test_how_many_templates_fit_depends_on_steps_and_rows() -> None:
    on = cluster(False)
    aim = Aim.of(rows_of(on, "throughput"), [])
    assert len(all_spans(3)) == 6
    assert most_templates(6, aim) > most_templates(60, aim) > 10
