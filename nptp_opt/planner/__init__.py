"""Planners: from a network and a cluster to the steps of a plan."""

from nptp_opt.planner.options import PlanOptions
from nptp_opt.planner.planners import (
    PLANNERS,
    PlannerSpec,
    check_planner,
    plan_network,
    plan_of,
)

__all__ = [
    "PLANNERS",
    "PlanOptions",
    "PlannerSpec",
    "check_planner",
    "plan_network",
    "plan_of",
]
