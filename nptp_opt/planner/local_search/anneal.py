"""Annealing on the clock: random small changes, worse ones accepted less and less.

What a change of one segment is worth depends on when messages of others leave and arrive, so the
landscape is rough: walking downhill alone ends several per cent above what a cooled walk reaches
with as many simulations (docs/decisions.md). Rounds of walks: the first from different starts, each
next one from the better half of the plans that the last found, begun less warm. Deterministic for a
seed unless time cuts it short.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import count

from nptp_opt.cluster import Cluster
from nptp_opt.cost import Rims
from nptp_opt.evaluate.clock import Clock
from nptp_opt.network.ir import Network
from nptp_opt.planner.candidates.templates import Template
from nptp_opt.planner.local_search.into_memory import lightened
from nptp_opt.planner.local_search.operators import Operators, Plan
from nptp_opt.planner.options import Stopped, Watch, ignore, never

WARM, COLD = 0.03, 2e-4
"""Relative loss that is accepted once in e times: at the beginning of the first walks, and at the
end of all. It begins half as high in every further round."""

ROUNDS = (8, 4, 2, 1)
"""Walks of every round; all rounds do the same work."""

WORK = 7e4
"""Work per square root of the number of layers and square of the number of devices, in units of the
clock."""

LEAST_WORK, MOST_WORK = 2.5e5, 2e7
"""Limits of a search's work, however few or many layers and devices there are."""

SIMPLER: dict[Rims, tuple[Rims, ...]] = {
    "none": (),
    "incoming": ("none",),
    "outgoing": ("none",),
    "both": ("none", "incoming", "outgoing"),
}
"""Rims that make fewer pieces, the fewest first."""

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
    """The best plan found from the fastest ``starts``, of those that fit into memory.

    Where none does, one that fits is sought first; a plan that holds too much is returned only
    where that fails.
    """
    ranked = sorted(starts, key=clock.seconds)
    fitting = _distinct(plan for plan in ranked if clock.fits(plan))
    if not fitting:
        light = lightened(clock, ranked, templates, deadline=deadline, seed=seed, stopped=stopped)
        if not clock.fits(light):
            return light
        fitting = [light]
    work = effort * work_of(clock.network, clock.cluster) / len(ROUNDS)
    walk = partial(anneal, clock, templates=templates, watch=watch, stopped=stopped)
    own_seed = count(seed * (sum(ROUNDS) + 1))
    plans = fitting
    for number, walks in enumerate(ROUNDS):
        until = _until(deadline, len(ROUNDS) - number)
        found: list[tuple[float, Plan]] = []
        for left in range(min(walks, len(plans)), 0, -1):
            plan, warm = plans[len(found)], WARM / 2**number
            part = work / min(walks, len(plans))
            found.append(
                walk(plan, work=part, deadline=_until(until, left), warm=warm, seed=next(own_seed))
            )
        plans = [plan for _, plan in sorted(found, key=lambda pair: pair[0])]
    return in_fewer_pieces(clock, plans[0])


def in_fewer_pieces(clock: Clock, plan: Plan) -> Plan:
    """The plan without the rims that gain nothing: a piece costs an engine a call, which the model
    may hold for too cheap (docs/decisions.md)."""
    plan, best_s = list(plan), clock.seconds(plan)
    for k, choice in enumerate(plan):
        for rims in SIMPLER[choice.rims]:
            changed = [*plan[:k], replace(choice, rims=rims), *plan[k + 1 :]]
            found_s = clock.seconds(changed)
            if found_s <= best_s:
                plan, best_s = changed, found_s
                break
    return plan


def _distinct(plans: Iterable[Plan]) -> list[Plan]:
    """The first of all plans that differ in nothing but their pieces."""
    kept: dict[object, Plan] = {}
    for plan in plans:
        parts = ((choice.layers[-1].name, *sorted(choice.tiles.items())) for choice in plan)
        kept.setdefault(tuple(parts), plan)
    return list(kept.values())


def work_of(network: Network, cluster: Cluster) -> float:
    """Work that a search is worth by default."""
    layers, devices = len(network.shared_out), len(cluster.devices)
    own = WORK * math.sqrt(layers) * devices**2
    return min(MOST_WORK, max(LEAST_WORK, own))


def _until(deadline: float, parts: int) -> float:
    """When the first of so many equal parts of the time that is left is over."""
    now = time.monotonic()
    return now + (deadline - now) / parts


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
