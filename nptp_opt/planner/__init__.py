"""Planners: from a network and a cluster to the steps of a plan."""

from nptp_opt.planner import own
from nptp_opt.planner.options import PlanOptions
from nptp_opt.planner.planners import (
    check_planner,
    plan_network,
    plan_of,
)
from nptp_opt.planner.registry import PLANNERS, PlannerSpec, register

__all__ = [
    "PLANNERS",
    "PlanOptions",
    "PlannerSpec",
    "check_planner",
    "own",
    "plan_network",
    "plan_of",
    "register",
]
