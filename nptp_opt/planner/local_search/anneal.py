"""Annealing on the clock: random small changes, worse ones accepted less and less.

What a change of one segment is worth depends on when messages of others leave and arrive, so the
landscape is rough: walking downhill alone ends several per cent above what a cooled walk reaches
with as many simulations (docs/decisions.md). Several walks from different starts, then one more
from the best of their plans, begun less warm. Deterministic for a seed unless time cuts it short.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterable, Sequence
from functools import partial

from nptp_opt.cluster import Cluster
from nptp_opt.evaluate.clock import Clock
from nptp_opt.network.ir import Network
from nptp_opt.planner.candidates.templates import Template
from nptp_opt.planner.local_search.operators import Operators, Plan
from nptp_opt.planner.options import Stopped, Watch, ignore, never

WARM, LUKEWARM, COLD = 0.03, 5e-3, 2e-4
"""Relative loss that is accepted once in e times: at a walk's beginning, at the last walk's, and at
the end of all."""

WALKS, LAST_SHARE = 8, 0.4
"""Walks from different starts, and the part of all work that is left for the last one."""

WORK = 1.5e5
"""Work per square root of the number of layers and power 3/2 of the number of devices, in units of
the clock."""

LEAST_WORK, MOST_WORK = 5e5, 4e7
"""Limits of a search's work, however few or many layers and devices there are."""

CHECKED = 64
"""Changes between two looks at the time."""


def searched(
    clock: Clock,
    starts: Iterable[Plan],
    templates: Sequence[Template],
    *,
    deadline: float = math.inf,
    watch: Watch = ignore,
    effort: float = 1.0,
    seed: int = 0,
    stopped: Stopped = never,
) -> Plan:
    """The best plan found from the fastest ``starts``, of those that fit into memory if any do."""
    ranked = sorted(starts, key=clock.seconds)
    fitting = _distinct(plan for plan in ranked if clock.fits(plan))
    if not fitting:
        return ranked[0]
    work = effort * work_of(clock.network, clock.cluster)
    walk = partial(anneal, clock, templates=templates, watch=watch, stopped=stopped)
    first = fitting[:WALKS]
    part = (1 - LAST_SHARE) / len(first)
    found = []
    for number, plan in enumerate(first):
        until, own = _until(deadline, part / (1 - part * number)), _mixed(seed, number)
        found.append(walk(plan, work=work * part, deadline=until, warm=WARM, seed=own))
    _, best = min(found, key=lambda pair: pair[0])
    rest, own = work * LAST_SHARE, _mixed(seed, WALKS)
    return walk(best, work=rest, deadline=deadline, warm=LUKEWARM, seed=own)[1]


def _distinct(plans: Iterable[Plan]) -> list[Plan]:
    """The first of all plans that differ in nothing but what overlaps."""
    kept: dict[object, Plan] = {}
    for plan in plans:
        parts = ((choice.layers[-1].name, *sorted(choice.tiles.items())) for choice in plan)
        kept.setdefault(tuple(parts), plan)
    return list(kept.values())


def work_of(network: Network, cluster: Cluster) -> float:
    """Work that a search is worth by default."""
    layers, devices = len(network.shared_out), len(cluster.devices)
    own = WORK * math.sqrt(layers) * math.sqrt(devices) * devices
    return min(MOST_WORK, max(LEAST_WORK, own))


def _mixed(seed: int, walk: int) -> int:
    """A seed of its own for every walk of every seed."""
    return seed * (WALKS + 1) + walk


def _until(deadline: float, part: float) -> float:
    """When a part of the time that is left is over."""
    now = time.monotonic()
    return now + part * (deadline - now)


def anneal(
    clock: Clock,
    plan: Plan,
    templates: Sequence[Template],
    work: float,
    *,
    deadline: float = math.inf,
    warm: float,
    seed: int = 0,
    watch: Watch = ignore,
    stopped: Stopped = never,
) -> tuple[float, Plan]:
    """One walk of so much ``work``: seconds and the best plan seen that fits into memory.

    A walk that the deadline cuts short has cooled down by then.
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
            spent = max(spent, tries / work)  # where no operator has anything to do
            if stopped():
                break
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
            watch(best_s)
    return best_s, best
