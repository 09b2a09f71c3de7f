"""A walk into memory: where no start of a search fits, plans whose devices hold less are sought.

Weights are most of what is held, and those of linear layers most of them: a first plan has the
linear layers divided by the room that the others leave. The changes after that are the search's
own (``operators``); one that makes the overload no larger is accepted. The same walk tells how
little more memory would do (``explanation.roomier``).
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from nptp_opt.cluster import Cluster
from nptp_opt.evaluate.assemble import Choice
from nptp_opt.evaluate.clock import Clock
from nptp_opt.planner.baselines.quick import single_on
from nptp_opt.planner.candidates.templates import Template, strips
from nptp_opt.planner.local_search.operators import Operators, Plan
from nptp_opt.planner.options import Stopped, never

TRIES = 2000
"""Changes that are tried."""

DEAR = 1000.0
"""Bytes above a limit that stays count so many times those above one that may be raised."""

MARGIN = 0.01
"""Part of the room that a first plan leaves, for what moves with the weights."""

HALVINGS = 50


@dataclass(frozen=True)
class Room:
    """Bytes that every device may hold, and the devices whose limit may be ``raised``.

    Raised are none, one, or all that have a limit, by the same number of bytes.
    """

    limits: tuple[float, ...]
    raised: tuple[int, ...] = ()

    @classmethod
    def of(cls, cluster: Cluster, raised: Sequence[int] = ()) -> Room:
        return cls(tuple(device.memory_bytes for device in cluster.devices), tuple(raised))

    def over(self, held: Sequence[int]) -> list[float]:
        """Bytes above the limit by device."""
        return [max(0.0, own - limit) for own, limit in zip(held, self.limits, strict=True)]

    def overload(self, held: Sequence[int]) -> float:
        """What is to become small; 0 where all fits as it is."""
        over = self.over(held)
        raise_bytes = max((over[i] for i in self.raised), default=0.0)
        return raise_bytes + DEAR * sum(s for i, s in enumerate(over) if i not in self.raised)

    def shares(self, base: Sequence[float], total: float) -> list[float]:
        """How ``total`` bytes that can be divided go onto devices that hold ``base`` already: into
        what is free and, as far as that is too little, evenly above the limits (raised ones)."""
        rising = self.raised or tuple(range(len(self.limits)))

        def free(more: float) -> list[float]:
            tops = [limit + more * (i in rising) for i, limit in enumerate(self.limits)]
            left = [min(top - own, total) for top, own in zip(tops, base, strict=True)]
            return [max(0.0, room) for room in left]

        low, high = 0.0, total + max(base)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            low, high = (low, middle) if sum(free(middle)) >= total else (middle, high)
        return free(0.0 if sum(free(0.0)) >= total else high)


def lightened(
    clock: Clock,
    starts: Sequence[Plan],
    templates: Sequence[Template],
    room: Room | None = None,
    *,
    deadline: float = math.inf,
    seed: int = 0,
    stopped: Stopped = never,
) -> Plan:
    """The plan with the smallest overload that is found; by default of the cluster's limits."""
    room = room or Room.of(clock.cluster)
    draw = Operators(clock, templates, random.Random(seed)).draw
    first = ((plan, _overload(clock, plan, room)) for plan in _with_levelled(clock, starts, room))
    best, least = min(first, key=lambda pair: pair[1])
    for _ in range(TRIES):
        if least <= 0 or time.monotonic() > deadline or stopped():
            break
        changed = draw(best)
        if changed is not None and (found := _overload(clock, changed, room)) <= least:
            best, least = changed, found
    return best


def _overload(clock: Clock, plan: Plan, room: Room) -> float:
    return room.overload(clock.peak_bytes(plan))


def _with_levelled(clock: Clock, starts: Sequence[Plan], room: Room) -> Iterator[Plan]:
    """The starts, and they and every device alone with their linear layers divided by room."""
    yield from starts
    alone = (single_on(clock.network, i) for i in range(len(clock.cluster.devices)))
    for plan in (*starts, *alone):
        yield _levelled(clock, plan, room)


def _levelled(clock: Clock, plan: Plan, room: Room) -> Plan:
    """The plan with its linear layers divided by the room that the others leave."""
    linear = [choice for choice in plan if _is_linear(choice)]
    if not linear:
        return plan
    base = [float(own) for own in clock.peak_bytes(plan)]
    for choice in linear:
        layer = choice.layers[0]
        for device, tile in choice.tiles.items():
            base[device] -= layer.param_bytes * tile.height / layer.height
    total = sum(choice.layers[0].param_bytes for choice in linear)
    shares = room.shares([own + MARGIN * total for own in base], total)
    devices = [i for i, share in enumerate(shares) if share > 0]
    split = strips("by room", devices, [shares[i] for i in devices], vertical=False)
    return [
        replace(choice, tiles=split.at(choice.layers[0].height, choice.layers[0].width))
        if choice in linear
        else choice
        for choice in plan
    ]


def _is_linear(choice: Choice) -> bool:
    return len(choice.layers) == 1 and choice.layers[0].op == "linear" and bool(choice.tiles)
