"""Gets compiled code ready before a run's clock starts, as imports are.

Searches and planners have parts that numba compiles at their first call: 5 to 20 s after an
installation, 0.5 s to read from its cache later. A run solves something tiny first, so that
neither is charged to its method.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nptp_opt.layer import registry
from nptp_opt.layer.limits import Limits
from nptp_opt.layer.solve import solve_layer

if TYPE_CHECKING:
    from nptp_opt.comparison.runs import Run

LIMIT_S = 60.0
SPEEDS = (0.001, 0.0012, 0.0014, 0.0016, 0.0018)
"""GFLOP/s: a tiny map is worth dividing, and no bound ends the search before it has begun."""


def warm(run: Run) -> None:
    """Solve something tiny by the run's method."""
    network = dict(run.instance["cluster"]["network"])
    if run.kind == "network":
        _plan(run, network)
    elif _has_compiled_parts(run.method):
        _partition(run, network)


def _has_compiled_parts(name: str) -> bool:
    """Whether this package's method has compiled parts. Those of plugins are called once only."""
    spec, method = registry.find(name)
    ours = getattr(method, "__module__", "").partition(".")[0] == "nptp_opt"
    return ours and (not spec.solvers or name == "cover")


def _cluster(network: dict[str, Any]) -> dict[str, Any]:
    """Unequal devices on a network of the run's kind."""
    shared = network["kind"] == "shared"
    rates = {} if shared else {"up_mbit_per_s": 1.0, "down_mbit_per_s": 1.0}
    link = {"kind": network["kind"], "latency_ms": 0.5, **({"mbit_per_s": 1.0} if shared else {})}
    devices = [
        {"name": f"d{i}", "gflops": speed, "watts": 1.0, **rates} for i, speed in enumerate(SPEEDS)
    ]
    return {"network": link, "device": devices}


def _partition(run: Run, network: dict[str, Any]) -> None:
    from nptp_opt.cluster import cluster_from_json
    from nptp_opt.layer.problem import LayerProblem, LayerShape

    shape = LayerShape("conv2d", 2, 2, 9, 9, kernel=(3, 3), padding=(1, 1, 1, 1))
    problem = LayerProblem("tiny", shape, cluster_from_json(_cluster(network)))
    solve_layer(problem, run.method, solver=run.solver, limits=Limits(LIMIT_S))


def _plan(run: Run, network: dict[str, Any]) -> None:
    from nptp_opt.cluster import cluster_from_json
    from nptp_opt.comparison.planning import plan_options
    from nptp_opt.network.load import load_model
    from nptp_opt.network.ref import ModelRef
    from nptp_opt.planner import plan_network
    from nptp_opt.planner.options import ignore

    model = ModelRef(f"{__name__}:tiny_model", (1, 2, 12, 12))
    loaded = load_model(model.ref, model.input).network
    planning = {k: v for k, v in run.planning.items() if k != "latency_limit_ms"}
    options = plan_options(run.method, planning, Limits(LIMIT_S), ignore)
    dtype = planning.get("transfer_dtype")
    cluster = cluster_from_json(_cluster(network)).sending_as(dtype)
    plan_network(model, loaded, cluster, options)


def tiny_model() -> Any:
    """A few layers that can be fused, divided and collected."""
    from torch import nn

    layers = [nn.Conv2d(2, 2, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(2, 2, 3, padding=1)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(72, 4))
