"""The planners by name: ours, the baselines, and what plug-ins bring."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nptp_opt.cluster import Cluster
from nptp_opt.evaluate.assemble import Choice
from nptp_opt.network.ir import Network
from nptp_opt.planner.options import PlanOptions
from nptp_opt.plugins import Registry


@dataclass(frozen=True)
class PlannerSpec:
    """A planner and what it is: it ``solves`` single layers by the chosen formulation and solver,
    and ``aims`` at other objectives than the latency.
    """

    name: str
    summary: str
    plan: Callable[[Network, Cluster, PlanOptions], list[Choice]]
    solves: bool = False
    aims: bool = False


PLANNERS: Registry[PlannerSpec] = Registry("planner")


def register(spec: PlannerSpec) -> None:
    """Add a planner; raises ValueError for a name that is taken."""
    PLANNERS.register(spec.name, spec)
