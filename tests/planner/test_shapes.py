"""Networks of all shapes, with every planner: pads alone, reductions alone, inputs read again.

Each kind once ended in a traceback or was refused; every plan is held against the model itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random
from typing import get_args

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor, nn

from nptp_opt.cluster import Cluster, cluster_from_json
from nptp_opt.comparison.sweep import ratio, sweep_rows, winner
from nptp_opt.cost.objectives import Objective
from nptp_opt.layer.limits import Limits
from nptp_opt.network.load import LoadedModel, load_module
from nptp_opt.network.ref import ModelRef
from nptp_opt.plan.model import Plan
from nptp_opt.planner import PLANNERS, PlanOptions, plan_network
from nptp_opt.planner.pareto import pareto_front
from nptp_opt.planner.replan import replan_network
from nptp_opt.verification.static import bound_faults, paper_faults
from nptp_opt.verification.torch_check import verify_plan
from tests.tangled import tangled

Forward = Callable[[nn.ModuleList, Tensor], object]


class Calls(nn.Module):
    """Any function of some layers and the input."""

    def __init__(self, forward: Forward, *layers: nn.Module) -> None:
        super().__init__()
        self.layers, self.function = nn.ModuleList(layers), forward

    def forward(self, x: Tensor) -> object:
        return self.function(self.layers, x)


def conv(channels_in: int = 4, channels_out: int = 4, kernel: int = 3) -> nn.Module:
    return nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2)


def pool(x: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(x, 1)


def two_reads(layers: nn.ModuleList, x: Tensor) -> object:
    """Two outputs read the input: once through a scale, once through padding."""
    return x * layers[0](pool(x)).sigmoid(), F.pad(x, (1, 1, 1, 1))


def read_by_both(layers: nn.ModuleList, x: Tensor) -> object:
    """An output that a later layer reads."""
    first = layers[0](x)
    return first, layers[1](first), layers[2](x)


STILL: dict[str, tuple[Forward, list[nn.Module]]] = {
    "pad": (lambda _, x: F.pad(x, (1, 2, 0, 1)), []),
    "shuffles": (lambda _, x: F.channel_shuffle(F.pixel_shuffle(torch.cat([x, x], 1), 2), 2), []),
    "slices": (lambda _, x: (x[:, 1:3], F.pad(x[:, :, 1:4, ::2], (1, 1, 1, 1))), []),
}
"""Nothing is computed."""

AGAIN: dict[str, tuple[Forward, list[nn.Module]]] = {
    "two convolutions": (lambda m, x: (m[0](x), m[1](x)), [conv(), conv(4, 2)]),
    "a scale and a pad": (two_reads, [conv(kernel=1)]),
    "late": (lambda m, x: m[1](m[0](x).relu()) + m[2](x), [conv(), conv(kernel=1), conv(kernel=1)]),
    "a reduction": (lambda m, x: (m[0](x), pool(x)), [conv()]),
    "an output that is read": (read_by_both, [conv(), conv(), conv()]),
    "plus the input": (lambda m, x: m[0](x) + x, [conv()]),
}
"""The input is read by layers that come after another layer's map."""

WHOLE: dict[str, tuple[Forward, list[nn.Module]]] = {
    "pool": (lambda _, x: pool(x), []),
    "two pools": (lambda _, x: (pool(x), F.adaptive_max_pool2d(x, 1)), []),
    "pool and convolutions": (lambda m, x: m[1](m[0](pool(x)).relu()), [conv(), conv()]),
    "flip": (lambda _, x: x.flip(3), []),
    "nothing": (lambda _, x: x, []),
}
"""There is no map to partition: reductions, whole nodes, or not even these."""

KINDS = STILL | AGAIN | WHOLE


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """On maps of some pixels threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def loaded(kind: str, shape: tuple[int, ...] = (1, 4, 4, 5)) -> LoadedModel:
    function, layers = KINDS[kind]
    return load_module(Calls(function, *layers).eval(), kind, shape)


def devices(count: int, *, shared: bool, sink: int = 0, overhead_ms: float = 0.01) -> Cluster:
    """Unequal devices with watts; the source is the first."""
    link = {"kind": "shared", "mbit_per_s": 100.0} if shared else {"kind": "switched"}
    rates = {} if shared else {"up_mbit_per_s": 100.0, "down_mbit_per_s": 80.0}
    entries = [
        {"name": f"d{i}", "gflops": 0.02 * (1 + i % 3), "overhead_ms": overhead_ms, "watts": 2.0}
        | rates
        for i in range(count)
    ]
    network = link | {"latency_ms": overhead_ms, "sink": f"d{sink}"}
    return cluster_from_json({"network": network, "device": entries})


def options(planner: str = "nptp", objective: Objective = "latency") -> PlanOptions:
    limits = Limits(time_limit_s=0.3) if planner == "nptp" else Limits()
    told = PlanOptions(planner, limits=limits, tell=lambda _: None)
    return replace(told, objective=objective)


def reference(model: LoadedModel) -> ModelRef:
    return ModelRef("tests:kind", model.network.shapes[model.network.inputs[0]])


def planned(model: LoadedModel, cluster: Cluster, how: PlanOptions) -> Plan:
    """A plan without faults on paper, whose bound holds."""
    plan = plan_network(reference(model), model.network, cluster, how)
    assert [*paper_faults(plan), *bound_faults(plan)] == [], how.planner
    assert plan.bound_s is not None and plan.bound_s <= plan.latency_s
    return plan


def plans(model: LoadedModel, cluster: Cluster) -> Iterator[Plan]:
    """By every planner."""
    for name in PLANNERS:
        yield planned(model, cluster, options(name))


def check(model: LoadedModel, cluster: Cluster) -> None:
    """Every planner's plan computes what the model does; equal ones are executed once."""
    seen: set[str] = set()
    for plan in plans(model, cluster):
        key = repr(plan.steps)
        if key not in seen:
            seen.add(key)
            assert verify_plan(plan, model).faults == []


@pytest.mark.parametrize("kind", KINDS)
def test_every_planner_plans_networks_of_every_kind(kind: str) -> None:
    """Bugs: a division by zero, then index -9223372036854775808, where nothing is computed;
    KeyError in ``StepPrices._exchanged`` and ``StatePrices._reduction`` where the input is read
    again; networks of reductions and whole nodes alone were refused."""
    check(loaded(kind), devices(3, shared=kind in {"shuffles", "two convolutions"}, sink=1))


@pytest.mark.parametrize("seed", range(10))
def test_every_planner_plans_random_networks(seed: int) -> None:
    rng = Random(seed)
    cluster = devices(rng.randint(1, 5), shared=rng.random() < 0.5, sink=0)
    check(tangled(seed), cluster)


@pytest.mark.parametrize("shape", [(1, 4, 1, 1), (2, 4, 1, 3), (1, 4, 2, 1)])
def test_more_devices_than_pixels_leave_some_idle(shape: tuple[int, ...]) -> None:
    """Bug: such clusters were refused, although nothing forbids a device to be idle."""
    model = loaded("late", shape)
    check(model, devices(5, shared=False))
    pixels = shape[2] * shape[3]
    plan = planned(model, devices(5, shared=True), options("strip-equal"))
    assert all(len(step.tiles) <= pixels for step in plan.steps)


OBJECTIVES = [name for name in get_args(Objective) if name != "latency"]


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("kind", ["pad", "two convolutions", "a reduction", "pool", "nothing"])
def test_every_objective_plans_networks_of_every_kind(kind: str, objective: Objective) -> None:
    """Bugs: as above, and an empty list of partitions in the searches for objectives."""
    how = replace(options(objective=objective), limits=Limits(time_limit_s=0.1))
    model = loaded(kind)
    plan = planned(model, devices(2, shared=False, sink=1), how)
    assert verify_plan(plan, model).faults == []


@pytest.mark.parametrize("kind", ["pad", "pool", "two convolutions", "flip"])
def test_fronts_and_mended_plans_of_every_kind(kind: str) -> None:
    """Bug: a plan of whole nodes alone could not be mended: ``max()`` of nothing."""
    model, cluster = loaded(kind), devices(3, shared=True)
    how = replace(options(), limits=Limits(time_limit_s=0.1))
    front = pareto_front(reference(model), model.network, cluster, how, ("latency", "bytes"), 2)
    old = planned(model, cluster, options("strip-equal"))
    mended = replan_network(old, devices(2, shared=True))
    for plan in (*front, mended):
        assert paper_faults(plan) == bound_faults(plan) == []


@pytest.mark.parametrize("kind", ["pad", "pool", "nothing"])
def test_plans_that_take_no_time_have_a_winner(kind: str) -> None:
    """Bug: where nothing is computed and sent, a sweep divided by a baseline's latency of 0."""
    cluster = devices(2, shared=False, overhead_ms=0.0)
    fast = cluster.model_copy(update={"devices": cluster.devices[:1]})
    network, limits = loaded(kind).network, Limits(time_limit_s=0.1)
    (row,) = sweep_rows(network, [({}, fast)], ["nptp", "single"], limits, lambda _: None)
    assert row["winner"] == "single"
    assert winner({"nptp": 0.0, "single": 0.0}) == "single"
    assert ratio({"nptp": 0.0, "single": 0.0}) is None
