"""How to plan: the options that every planner takes."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field

from nptp_opt.cost.objectives import Objective
from nptp_opt.layer.limits import Limits

Watch = Callable[[float], None]
"""Is told the latency of every better plan as soon as it is known."""

Tell = Callable[[str], None]
"""Is told what was left out for lack of time."""

Stopped = Callable[[], bool]
"""Is asked now and then whether the search is to end with what it has."""

log = logging.getLogger(__name__)


def ignore(_: float) -> None:
    """Watches nothing."""


def never() -> bool:
    """Stops nothing."""
    return False


@dataclass(frozen=True)
class PlanOptions:
    """``formulation`` and ``solver`` solve the single layers of ``nptp`` and ``layerwise``.

    ``nptp`` tells ``watch`` its incumbents; planners ``tell`` what was left out for lack of time.
    """

    planner: str = "nptp"
    formulation: str = "guillotine-dp"
    solver: str | None = None
    limits: Limits = field(default_factory=Limits)
    watch: Watch = ignore
    tell: Tell = log.warning
    objective: Objective = "latency"
    latency_limit_s: float = math.inf
    stopped: Stopped = never
    bound: bool = True
    """Prove a bound on the latency, too."""


DEFAULTS = PlanOptions()
"""The one place of the defaults, for the library and the command line."""
