"""What this package registers as planners: ``nptp`` and the baselines."""

from __future__ import annotations

from collections.abc import Callable

from nptp_opt.cluster import Cluster
from nptp_opt.evaluate.assemble import Choice
from nptp_opt.network.ir import Network
from nptp_opt.planner.baselines.pooled import layerwise, pooled_planner
from nptp_opt.planner.baselines.quick import QUICK
from nptp_opt.planner.nptp import nptp
from nptp_opt.planner.options import PlanOptions
from nptp_opt.planner.registry import PlannerSpec, register


def _plain(
    plan: Callable[[Network, Cluster], list[Choice]],
) -> Callable[[Network, Cluster, PlanOptions], list[Choice]]:
    return lambda network, cluster, _: plan(network, cluster)


_SUMMARIES = {
    "single": "baseline: the best single device",
    "strip-equal": "baseline: equal strips on all devices",
    "strip-proportional": "baseline: strips in proportion to speed on all devices (MoDNN)",
    "strip-best": "baseline: the best strips over every choice of devices",
    "coedge-style": "baseline: LP strips on all devices (CoEdge's idea, not its code)",
    "grid-equal": "baseline: equal grid on fused first layers, then one device (DeepThings)",
}

_MULTILEVEL = "baseline: recursive splits, no fusion (reconstruction of NPTP's algorithm)"

for _spec in (
    PlannerSpec(
        "nptp", "fusion, devices and partitions by shortest path", nptp, solves=True, aims=True
    ),
    *(PlannerSpec(name, _SUMMARIES[name], _plain(plan)) for name, plan in QUICK.items()),
    PlannerSpec(
        "column-dp",
        "baseline: columns by dynamic programming, no fusion",
        pooled_planner("column-dp"),
    ),
    PlannerSpec("multilevel", _MULTILEVEL, pooled_planner("multilevel")),
    PlannerSpec("layerwise", "every layer on its own by one formulation", layerwise, solves=True),
):
    register(_spec)
