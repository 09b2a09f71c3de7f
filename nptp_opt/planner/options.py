"""How to plan: the options that every planner takes."""

from __future__ import annotations

from dataclasses import dataclass, field

from nptp_opt.methods import Limits


@dataclass(frozen=True)
class PlanOptions:
    """``formulation`` and ``solver`` solve the single layers of ``nptp`` and ``layerwise``."""

    planner: str = "nptp"
    formulation: str = "guillotine-dp"
    solver: str | None = None
    limits: Limits = field(default_factory=Limits)
