"""Annealing on the clock: random small changes, worse ones accepted less and less.

What a change of one segment is worth depends on when messages of others leave and arrive, so the
landscape is rough: walking downhill alone ends several per cent above what a cooled walk reaches
with as many simulations (docs/decisions.md). Deterministic for a seed unless time cuts it short.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence

from nptp_opt.evaluate.clock import Clock
from nptp_opt.planner.candidates.templates import Template
from nptp_opt.planner.local_search.operators import Operators, Plan

WARM, COLD = 0.03, 2e-4
"""Relative loss that is accepted once in e times, at the beginning and at the end."""

CHECKED = 64
"""Changes between two looks at the time."""


def anneal(
    clock: Clock,
    plan: Plan,
    templates: Sequence[Template],
    *,
    work: float,
    deadline: float = math.inf,
    warm: float = WARM,
    seed: int = 0,
    watch: Callable[[float], None] | None = None,
) -> tuple[float, Plan]:
    """The best plan seen that fits into memory, and its seconds; ``plan`` is one.

    ``work`` tasks and messages are simulated, or as many as there is time for; a search that is cut
    short by the deadline has cooled down by then.
    """
    rng = random.Random(seed)
    operators = Operators(clock, templates, rng)
    current = best = list(plan)
    value = best_s = clock.seconds(plan)
    began, first, spent, tries = time.monotonic(), clock.work, 0.0, 0
    while spent < 1.0:
        tries += 1
        if tries % CHECKED == 0:
            used_s = time.monotonic() - began
            spent = max((clock.work - first) / work, used_s / max(1e-9, deadline - began))
        changed = operators.draw(current)
        if changed is None:
            continue
        heat = best_s * warm * (COLD / warm) ** spent
        limit_s = value - heat * math.log(1.0 - rng.random())
        found_s = clock.seconds(changed, limit_s)
        if found_s > limit_s or not clock.fits(changed):
            continue
        current, value = changed, found_s
        if value < best_s:
            best, best_s = current, value
            if watch is not None:
                watch(best_s)
    return best_s, best
