"""How to plan: the options that every planner takes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from nptp_opt.cost.objectives import Objective
from nptp_opt.methods import Limits

Watch = Callable[[float], None]
"""Is told the latency of every better plan as soon as it is known."""


def ignore(_: float) -> None:
    """Watches nothing."""


@dataclass(frozen=True)
class PlanOptions:
    """``formulation`` and ``solver`` solve the single layers of ``nptp`` and ``layerwise``.

    ``nptp`` tells ``watch`` its incumbents. With ``overlap`` segments that become cheaper by it
    compute while their halos are on the way.
    """

    planner: str = "nptp"
    formulation: str = "guillotine-dp"
    solver: str | None = None
    limits: Limits = field(default_factory=Limits)
    watch: Watch = ignore
    objective: Objective = "latency"
    latency_limit_s: float = math.inf
    overlap: bool = False
