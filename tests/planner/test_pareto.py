"""The front between two objectives: nothing in it is dominated, and its plans hold on paper."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from nptp_opt.cost.objectives import Objective
from nptp_opt.errors import InfeasibleError, InputError
from nptp_opt.evaluate.assemble import assemble
from nptp_opt.evaluate.usage import Values, values_of
from nptp_opt.plan.document import load_plan
from nptp_opt.planner import PLANNERS, PlanOptions, plan_network
from nptp_opt.planner.baselines.quick import single_on
from nptp_opt.planner.candidates.catalogue import distinct, family_templates
from nptp_opt.planner.objective import ObjectiveSearch, Pair
from nptp_opt.planner.pareto import FINEST, pareto_front, parse_pair, thin
from nptp_opt.planner.path.state_costs import StateCosts
from nptp_opt.verification.static import bound_faults, paper_faults
from tests.builders import make_cluster
from tests.cli.test_commands import CLUSTER, call
from tests.cli.test_commands import MODEL as SMALL
from tests.planner.optimum_objective import front
from tests.planner.test_objective import MODEL, NETWORK, cluster, tiny
from tests.planner.test_shortest_path import segmentations

PAIRS = [("latency", "bytes"), ("latency", "energy"), ("energy", "throughput")]


@pytest.mark.parametrize("pair", PAIRS)
def test_no_plan_of_the_front_is_dominated_and_none_by_a_baseline(pair: tuple[str, str]) -> None:
    on = cluster(shared=False)
    front = pareto_front(MODEL, NETWORK, on, PlanOptions(), pair, 40)
    found = [values_of(NETWORK, on, plan.steps) for plan in front]
    points = [tuple(values.of(objective) for objective in pair) for values in found]
    for (a, b), (c, d) in itertools.pairwise(points):
        assert a < c and b > d
    for name in PLANNERS:
        plan = plan_network(MODEL, NETWORK, on, PlanOptions(name))
        rival = [values_of(NETWORK, on, plan.steps).of(objective) for objective in pair]
        below = [p for p in points if p[0] <= rival[0] + 1e-12]
        assert any(p[1] <= rival[1] * (1 + 1e-9) for p in below), name
    for plan, values in zip(front, found, strict=True):
        assert (plan.latency_s, plan.energy_j) == (values.latency_s, values.energy_j)


def test_both_ends_of_the_front_are_optimal_over_the_templates() -> None:
    """Exhaustive: all segmentations x all templates."""
    on = cluster(shared=True)
    costs = StateCosts(NETWORK, on, distinct(family_templates(on), NETWORK.spatial))
    every = [
        values_of(NETWORK, on, assemble(NETWORK, on, [*map(costs.choice, parts, pick)]))
        for parts in segmentations(NETWORK.spatial)
        for pick in itertools.product(costs.templates, repeat=len(parts))
    ]
    front = pareto_front(MODEL, NETWORK, on, PlanOptions(), ("latency", "energy"), 9)
    assert front[0].latency_s <= min(values.latency_s for values in every) * (1 + 1e-12)
    energy = front[-1].energy_j
    assert energy is not None
    assert energy <= min(values.of("energy") for values in every) * (1 + 1e-12)


@pytest.mark.parametrize("seed", [0, 5, 7, 11])
@pytest.mark.parametrize("pair", [("bytes", "energy"), ("energy", "throughput")])
def test_the_front_of_a_tiny_network_is_the_exhaustive_one(
    pair: tuple[Objective, Objective], seed: int
) -> None:
    """The ends exactly, and with many points all of it to ``FINEST`` of the range: over all
    segmentations, strips and owners. Not of the latency: that search adds up makespans."""
    network, on = tiny(seed)
    best = front(network, on, "strip", pair)
    made = pareto_front(MODEL, network, on, PlanOptions(), pair, 60)
    values = [values_of(network, on, plan.steps) for plan in made]
    points = [(found.of(pair[0]), found.of(pair[1])) for found in values]
    width = best[0][1] - best[-1][1]
    for end in (0, -1):
        assert points[end] == pytest.approx(best[end], rel=1e-9)
    for one, other in ((points, best), (best, points)):
        for a, b in one:
            least_b = min(y for x, y in other if x <= a * (1 + 1e-9))
            assert abs(b - least_b) <= 2 * FINEST * width + 1e-9 * b


def test_a_front_of_one_plan_says_why() -> None:
    """Bug: it came without a word. On slow links one device does it all, and sends nothing."""
    on = make_cluster((0.1, 0.3), rates=1e-3)
    plans = pareto_front(MODEL, NETWORK, on, PlanOptions(), ("latency", "bytes"), 5)
    assert len(plans) == 1
    why = "one plan is the best seen in both latency and bytes: one device does it all"
    assert plans[0].provenance.notes == (why,)


def test_a_thinned_front_keeps_its_ends_and_what_stands_out() -> None:
    """(3, 8.9) lies next to (2, 9) and adds 1.9 to the area below 10; (4, 2) adds most."""
    on = cluster(False)
    search = ObjectiveSearch(NETWORK, on, PlanOptions(), math.inf)
    seen = search.see(single_on(NETWORK, 0))
    points = [(1.0, 10), (2.0, 9), (3.0, 8), (4.0, 2), (6.0, 1)]
    made = [
        replace(seen, values=Values(latency_s=a, bytes=b, energy_j=None, period_s=1.0))
        for a, b in points
    ]
    pair: Pair = ("latency", "bytes")
    kept = [(e.values.latency_s, e.values.bytes) for e in thin(made, pair, 3)]
    assert kept == [points[0], points[3], points[4]]
    assert len(thin(made, pair, 9)) == 5


def test_a_latency_limit_cuts_the_front_off() -> None:
    on = cluster(shared=False)
    front = pareto_front(MODEL, NETWORK, on, PlanOptions(), ("latency", "bytes"), 5)
    limit = front[0].latency_s * 1.001
    options = PlanOptions(latency_limit_s=limit)
    cut = pareto_front(MODEL, NETWORK, on, options, ("latency", "bytes"), 5)
    assert all(plan.latency_s <= limit for plan in cut)
    with pytest.raises(InfeasibleError, match="smallest latency found"):
        pareto_front(MODEL, NETWORK, on, PlanOptions(latency_limit_s=1e-9), ("latency", "bytes"), 3)


@pytest.mark.parametrize(
    "text", ["latency", "latency,latency", "latency,speed", "a,b,c", "", "predicted,bytes"]
)
def test_a_bad_pair_is_an_error(text: str) -> None:
    with pytest.raises(InputError, match="`pareto`"):
        parse_pair(text)


def test_the_command_writes_the_front_next_to_the_output(tmp_path: Path) -> None:
    """Bug: files of an earlier front with more plans were left there without a word."""
    on = tmp_path / "cluster.toml"
    on.write_text(CLUSTER)
    args = ("solve", SMALL, "-c", on, "-o", tmp_path / "plan.json", "--input", "1x3x20x24")
    for name in ("plan.json", "plan.15.json", "plan.5.json", "plan.5.json.bak", "other.9.json"):
        (tmp_path / name).write_text("kept")
    result = call(*args, "--pareto", "latency,bytes", "--points", 4, "--json")
    assert result.exit_code == 0, result.stderr
    named = [line.split(":")[0] for line in result.stderr.splitlines() if "earlier run" in line]
    assert named == [str(tmp_path / "plan.5.json"), str(tmp_path / "plan.15.json")]
    kept = [path.name for path in tmp_path.iterdir() if path.read_text() == "kept"]
    assert len(kept) == 5, "nothing is deleted"
    for k, row in enumerate(json.loads(result.stdout)["front"], 1):
        assert row["plan"] == str(tmp_path / f"plan.{k}.json")
        plan = load_plan(Path(row["plan"]))
        assert plan.transfer_bytes == row["bytes"]
        assert not paper_faults(plan) and not bound_faults(plan)
    refused = call(*args, "--pareto", "latency,energy")
    assert refused.exit_code == 2 and "watts" in refused.stderr
    on.rename(tmp_path / "cluster.2.toml")
    args = ("solve", SMALL, "-c", tmp_path / "cluster.2.toml", "-o", on)
    refused = call(*args, "--pareto", "latency,bytes")
    assert refused.exit_code == 2
    assert "cluster.2.toml: is read by this command" in refused.stderr
