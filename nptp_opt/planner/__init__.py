"""Planners: from a network and a cluster to the steps of a plan."""

from nptp_opt.planner.planners import (
    PLANNERS,
    PlannerSpec,
    PlanOptions,
    check_planner,
    plan_network,
)

__all__ = ["PLANNERS", "PlanOptions", "PlannerSpec", "check_planner", "plan_network"]
