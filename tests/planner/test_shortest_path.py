"""The planner's dynamic programme against exhaustive search over the same choices."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nptp_opt.cluster import Cluster
from nptp_opt.evaluate.assemble import Choice, assemble
from nptp_opt.network.ir import Layer, Network
from nptp_opt.planner.baselines.quick import follow
from nptp_opt.planner.candidates.catalogue import distinct, family_templates
from nptp_opt.planner.candidates.templates import Template, snaps, strips
from nptp_opt.planner.path.shortest_path import ShortestPath
from nptp_opt.planner.path.state_costs import StateCosts
from nptp_opt.planner.path.units import units
from tests.builders import conv_chain, make_cluster
from tests.networks import residual_network


def latency_s(network: Network, cluster: Cluster, choices: Sequence[Choice]) -> float:
    return sum(step.makespan_s for step in assemble(network, cluster, choices))


def segmentations(layers: Sequence[Layer]) -> Iterator[list[tuple[Layer, ...]]]:
    """Every way to cut a chain into consecutive segments."""
    n = len(layers)
    for cuts in itertools.product((False, True), repeat=n - 1):
        ends = [k + 1 for k in range(n - 1) if cuts[k]] + [n]
        yield [tuple(layers[a:b]) for a, b in itertools.pairwise([0, *ends])]


def exhaustive_s(network: Network, cluster: Cluster, templates: Sequence[Template]) -> float:
    snap, best = snaps(network), float("inf")
    for parts in segmentations(network.spatial):
        for pick in itertools.product(templates, repeat=len(parts)):
            choices = [
                Choice(part, t.at(part[-1].height, part[-1].width, snap[part[-1].name]))
                for part, t in zip(parts, pick, strict=True)
            ]
            best = min(best, latency_s(network, cluster, choices))
    return best


specs = st.lists(
    st.sampled_from(
        [
            {"channels": 4},
            {"channels": 16},
            {"channels": 8, "stride": 2},
            {"channels": 4, "kernel": 1, "padding": 0},
            {"channels": 4, "kernel": 2, "stride": 2, "padding": 0},
        ]
    ),
    min_size=3,
    max_size=4,
)


@settings(max_examples=30)
@given(specs, st.booleans(), st.sampled_from([1.0, 10.0, 1000.0]), st.sampled_from([0.0, 0.05]))
def test_chain_optimum_equals_exhaustive_search(
    layers: list[dict[str, int]], shared: bool, rate: float, latency: float
) -> None:
    network = conv_chain((1, 3, 12, 12), layers)
    assume(network.layers[-1].height > 0)
    cluster = make_cluster(
        (1.0, 2.0), rates=rate, shared=shared, latency_ms=latency, overhead_ms=0.01
    )
    templates = distinct(family_templates(cluster), network.spatial)
    found = ShortestPath(network, cluster, templates, fuse=True).choices()
    best = exhaustive_s(network, cluster, templates)
    assert latency_s(network, cluster, found) == pytest.approx(best, rel=1e-12)


def test_units_of_a_residual_network_are_its_blocks() -> None:
    network = residual_network(blocks=2)
    assert [len(unit) for unit in units(network)] == [1, 2, 2]


def test_a_residual_block_is_planned_with_every_tensor_that_it_reads() -> None:
    """The fused and the layerwise block are both evaluated with the skip connection's halo."""
    network = residual_network(blocks=2)
    cluster = make_cluster((1.0, 1.0), rates=1.0, latency_ms=1.0)
    templates = [strips("halves", (0, 1), (1.0, 1.0), vertical=False)]
    fused = ShortestPath(network, cluster, templates, fuse=True).choices()
    apart = ShortestPath(network, cluster, templates, fuse=False).choices()
    assert latency_s(network, cluster, fused) <= latency_s(network, cluster, apart)
    assert [layer.name for choice in fused for layer in choice.layers] == [
        layer.name for layer in network.layers
    ]


def test_following_a_template_costs_what_its_assembled_plan_costs() -> None:
    """Chains, residual joins and reductions: the cost of many templates at once."""
    cluster = make_cluster((1.0, 2.0, 1.0), rates=10.0, latency_ms=0.1, overhead_ms=0.01)
    for network in (conv_chain((1, 3, 12, 12), [{}, {"stride": 2}]), residual_network(blocks=2)):
        templates = distinct(family_templates(cluster), network.spatial)
        costs = StateCosts(network, cluster, templates).followed_s()
        for template, cost in zip(templates, costs, strict=True):
            wanted = latency_s(network, cluster, follow(network, template))
            assert cost == pytest.approx(wanted, rel=1e-12)


def test_a_path_on_other_links_with_fewer_templates_takes_over_what_segments_need() -> None:
    """Nothing but the links may differ; the path is the one that is found alone."""
    network = residual_network(blocks=2)
    slow = make_cluster((0.01, 0.02, 0.01), rates=5.0, shared=True, latency_ms=0.05)
    fast = make_cluster((0.01, 0.02, 0.01), rates=50.0, shared=True, latency_ms=0.01)
    templates = distinct(family_templates(slow), network.spatial)
    like = StateCosts(network, slow, templates)
    for some in (templates, [each for each in templates if len(each.boxes) < 3][::-1]):
        for cluster in (slow, fast):
            alone = ShortestPath(network, cluster, some, fuse=True).choices()
            assert ShortestPath(network, cluster, some, fuse=True, like=like).choices() == alone
