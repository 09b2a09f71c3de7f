"""The linear layers of a head: where they run, what that costs, and what baselines make of them."""

from __future__ import annotations

from functools import cache

import pytest
from torch import nn

from nptp_opt.cluster import Cluster
from nptp_opt.cost import Load, makespan_s
from nptp_opt.errors import InfeasibleError
from nptp_opt.evaluate.assemble import Choice, assemble
from nptp_opt.evaluate.memory import peak_bytes
from nptp_opt.geometry import Tile
from nptp_opt.network.ir import Network
from nptp_opt.network.load import LoadedModel, load_model, load_module
from nptp_opt.network.ref import ModelRef
from nptp_opt.plan.model import Plan
from nptp_opt.planner import PLANNERS, PlanOptions, plan_network, plan_of
from nptp_opt.planner.baselines.linears import in_head, on_sink
from nptp_opt.planner.baselines.quick import latency_s
from nptp_opt.planner.candidates.catalogue import distinct, family_templates
from nptp_opt.planner.nptp import nptp
from nptp_opt.planner.path.shortest_path import ShortestPath
from nptp_opt.verification.torch_check import verify_plan
from tests.builders import make_cluster
from tests.planner.test_shortest_path import exhaustive_s

BASELINES = [name for name in PLANNERS if name != "nptp"]
CLUSTERS = {
    "switched": make_cluster((5.0, 3.0, 8.0), latency_ms=0.5, overhead_ms=0.1),
    "shared": make_cluster((5.0, 3.0, 8.0), shared=True, latency_ms=1, overhead_ms=0.1, sink="d1"),
    "slow uplinks": make_cluster((5.0, 5.0), rates=(1000.0, 2.0), overhead_ms=0.2, sink="d1"),
}


@cache
def vgg() -> Network:
    return load_model("vgg11", (1, 3, 64, 64)).network


def planned(network: Network, cluster: Cluster, planner: str = "nptp") -> Plan:
    return plan_network(ModelRef("m", (1,)), network, cluster, PlanOptions(planner))


def gathered_s(plan: Plan) -> tuple[float, int]:
    """Seconds and bytes of the last map's tiles sent to the sink, which runs all linear layers."""
    network, cluster = plan.network, plan.cluster
    last = next(s for s in reversed(plan.steps) if "avgpool" in s.layers and s.kind == "spatial")
    sink, pixel = cluster.sink, network.pixel_bytes("avgpool")
    sent = [0] * len(cluster.devices)
    for device, tile in last.tiles.items():
        sent[device] = pixel * tile.area if device != sink else 0
    speed = cluster.devices[sink].flop_per_s
    compute_s = sum(cluster.devices[sink].overhead_s + v.flop / speed for v in network.vectors)
    loads = [Load(0.0, 0, sent[i], 0) for i in range(len(cluster.devices))]
    loads[sink] = Load(compute_s, sum(sent), 0, sum(size > 0 for size in sent))
    return makespan_s(cluster, loads), sum(sent)


@pytest.mark.parametrize("where", CLUSTERS)
@pytest.mark.parametrize("planner", BASELINES)
def test_baselines_gather_the_last_map_and_run_all_linear_layers_on_the_sink(
    planner: str, where: str
) -> None:
    cluster = CLUSTERS[where]
    choices = PLANNERS[planner].plan(vgg(), cluster, PlanOptions(planner))
    plan = plan_of(ModelRef("m", (1,)), vgg(), cluster, choices, bound_s=0.0)
    names = [layer.name for layer in vgg().vectors]
    linear = [step for step in plan.steps if set(step.layers) & set(names)]
    assert [step.layers for step in linear] == [tuple(names)]
    assert list(linear[0].tiles) == [plan.cluster.sink]
    seconds, size = gathered_s(plan)
    assert linear[0].makespan_s == pytest.approx(seconds, rel=1e-12)
    assert sum(move.bytes for move in linear[0].transfers) == size
    assert plan.steps[-1].makespan_s == 0.0 and not plan.steps[-1].transfers


def test_a_softmax_behind_costs_its_operations_and_no_call() -> None:
    """Before, it was folded onto a linear layer of pooled channels."""
    pooled = (nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 30))
    cluster = make_cluster((1.0,), overhead_ms=1.0)
    plain, soft = (model_of(*pooled, *last).network for last in ((), (nn.Softmax(1),)))
    more = planned(soft, cluster).latency_s - planned(plain, cluster).latency_s
    assert more == pytest.approx(3 * 30 / 1e9, rel=1e-6)


@pytest.mark.parametrize("where", CLUSTERS)
def test_nptp_is_never_slower_than_with_its_linear_layers_on_the_sink(where: str) -> None:
    cluster, options = CLUSTERS[where], PlanOptions()
    before = [*nptp(in_head(vgg()), cluster, options), *on_sink(vgg(), cluster)]
    plan = planned(vgg(), cluster)
    assert plan.latency_s <= latency_s(vgg(), cluster, before) * (1 + 1e-9)
    assert plan.bound_s is not None and plan.bound_s <= plan.latency_s


# -- small models, planned, verified -------------------------------------------------------------


def model_of(*layers: nn.Module, shape: tuple[int, ...] = (1, 3, 8, 8)) -> LoadedModel:
    return load_module(nn.Sequential(*layers).eval(), "m", shape)


@cache
def wide() -> LoadedModel:
    """A small map, and linear layers that are most of the work."""
    conv = nn.Conv2d(3, 4, 3, padding=1)
    return model_of(conv, nn.Flatten(), nn.Linear(256, 2048), nn.ReLU(), nn.Linear(2048, 64))


def test_slow_devices_on_a_fast_link_share_a_linear_layer() -> None:
    cluster = make_cluster((0.01, 0.01, 0.02), rates=1000.0, latency_ms=0.05)
    plan = planned(wide().network, cluster)
    tiles = next(step.tiles for step in plan.steps if "2" in step.layers)
    assert len(tiles) == 3 and tiles[2].height > tiles[0].height > 0
    assert plan.latency_s < 0.6 * planned(wide().network, cluster, "strip-best").latency_s
    assert verify_plan(plan, wide()).faults == []


def test_weights_that_fit_no_device_alone_are_shared() -> None:
    """2.6 MB of weights on devices of 1.5 MiB."""
    cluster = make_cluster((0.01, 0.01), rates=1000.0, memory_mib={0: 1.5, 1: 1.5})
    assert len(planned(wide().network, cluster).steps[-2].tiles) == 2
    with pytest.raises(InfeasibleError, match=r"needs 2\.\d+ MiB but has memory_mib = 1\.5"):
        planned(wide().network, cluster, "single")


def test_the_head_runs_on_the_fastest_device_which_is_neither_source_nor_sink() -> None:
    """A link with long messages: the map goes there and the few results come back, once each."""
    cluster = make_cluster((0.01, 0.5, 0.02), rates=100.0, latency_ms=1.0, source="d0", sink="d2")
    plan = planned(wide().network, cluster)
    linear = [step for step in plan.steps if {"2", "4"} & set(step.layers)]
    assert all(list(step.tiles) == [1] for step in linear)
    assert [(m.src, m.dst, m.bytes) for m in plan.steps[-1].transfers] == [(1, 2, 4 * 64)]
    assert verify_plan(plan, wide()).faults == []


@pytest.mark.parametrize("planner", PLANNERS)
@pytest.mark.parametrize(
    "layers",
    [
        (nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 30)),
        (nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 9, bias=False), nn.Softmax(1)),
        (nn.Flatten(), nn.Linear(192, 30), nn.Tanh(), nn.Linear(30, 1)),
    ],
    ids=["pooled", "flattened", "no map at all"],
)
def test_every_planner_s_plan_is_proved(planner: str, layers: tuple[nn.Module, ...]) -> None:
    model = model_of(*layers, shape=(2, 3, 8, 8))
    cluster = make_cluster((0.001, 0.002, 0.001), rates=100.0, source="d1", sink="d2")
    plan = planned(model.network, cluster, planner)
    report = verify_plan(plan, model)
    assert report.faults == [] and report.layers == len(model.network.layers)
    assert plan.bound_s is not None and plan.bound_s <= plan.latency_s * (1 + 1e-12)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("rate", [1.0, 100.0])
def test_the_path_over_linear_layers_is_the_exhaustive_optimum(rate: float, shared: bool) -> None:
    model = model_of(
        nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 3, 2), nn.Flatten(), nn.Linear(8, 40), nn.Linear(40, 6),
        shape=(1, 3, 7, 7),
    )  # fmt: skip
    cluster = make_cluster(
        (0.001, 0.002), rates=rate, shared=shared, latency_ms=0.01, overhead_ms=0.01, sink="d1"
    )
    templates = distinct(family_templates(cluster), model.network.spatial)
    found = ShortestPath(model.network, cluster, templates, fuse=True).choices()
    best = exhaustive_s(model.network, cluster, templates)
    assert latency_s(model.network, cluster, found) == pytest.approx(best, rel=1e-12)


def test_a_device_holds_the_weights_of_its_own_features() -> None:
    """4 x 10 weights and 10 biases of 4 bytes, 3 of 10 rows on d1: 60 bytes of weights.

    Beside them d1 has the 4 inputs that it receives and the 3 features that it makes.
    """
    model = model_of(nn.Linear(4, 10), shape=(1, 4))
    tiles = {0: Tile(0, 7, 0, 1), 1: Tile(7, 10, 0, 1)}
    steps = assemble(model.network, make_cluster(), [Choice(model.network.spatial, tiles)])
    assert peak_bytes(model.network, 2, steps, 0)[1] == 60 + 4 * 4 + 4 * 3
