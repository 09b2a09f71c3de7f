"""What a solver is given of the limits, and what is taken off its bound."""

from __future__ import annotations

from dataclasses import replace

from nptp_opt.layer.limits import Limits
from nptp_opt.search.support import Clock


def limits_left(limits: Limits, clock: Clock) -> Limits:
    """The solver's limits: the time left, and a gap that leaves room for ``margin``."""
    return replace(limits, time_limit_s=max(1e-3, clock.left_s), gap=limits.gap / 2)


def margin(gap: float) -> float:
    """Relative amount by which a solver's bound is lowered, for its numerical tolerances."""
    return min(1e-6, max(1e-9, gap / 4))
