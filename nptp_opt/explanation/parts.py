"""Where the latency goes: the critical path of a plan as parts that add up to it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from nptp_opt.evaluate.critical_path import critical_path
from nptp_opt.evaluate.simulate import Stretch, timeline
from nptp_opt.plan.model import Plan

PartKind = Literal["compute", "send", "queue", "latency", "hand over"]
"""Computing, bytes on a link, waiting for that link, a message's latency, giving messages away."""


LEAST_S = 1e-12
"""Seconds below which a part is none: what adding up seconds leaves."""


@dataclass(frozen=True)
class Part:
    """Some seconds of the critical path; ``peer`` receives what ``device`` sends."""

    kind: PartKind
    step: int
    device: int
    seconds: float
    peer: int | None = None


def critical_parts(plan: Plan) -> tuple[Part, ...]:
    """The critical path in order of time; the parts' seconds add up to the latency.

    A message that waits in line behind another one on the path is told from when its link takes it.
    """
    path = critical_path(timeline(plan.network, plan.cluster, plan.steps))
    begins = [_begin_s(one, other) for one, other in itertools.pairwise(path)]
    parts: list[Part] = []
    at_s = 0.0
    for stretch, until_s in zip(path, [*begins, plan.latency_s], strict=True):
        for kind, start_s, over_s in _phases(stretch):
            begin_s, end_s = max(at_s, start_s), min(over_s, until_s)
            if begin_s - at_s > LEAST_S and end_s > begin_s:
                parts.append(Part("hand over", stretch.step, stretch.device, begin_s - at_s))
            if end_s - begin_s > LEAST_S:
                own = stretch.step, stretch.device
                parts.append(Part(kind, *own, end_s - begin_s, stretch.peer))
                at_s = end_s
    return tuple(parts)


def _begin_s(one: Stretch, other: Stretch) -> float:
    """When the next one on the path takes over; from one message to another that is the link."""
    in_line = one.on_link_s is not None and other.on_link_s is not None
    return other.on_link_s[0] if in_line and other.on_link_s else other.start_s


def _phases(stretch: Stretch) -> Iterator[tuple[PartKind, float, float]]:
    """What happens in a stretch, one after the other: kind, start and end."""
    if stretch.on_link_s is None:
        yield "compute", stretch.start_s, stretch.end_s
        return
    begin_s, end_s = stretch.on_link_s
    yield "queue", stretch.start_s, begin_s
    yield "send", begin_s, end_s
    yield "latency", end_s, stretch.end_s


def seconds_by_kind(parts: Iterable[Part]) -> dict[PartKind, float]:
    """Seconds of the critical path by what is done in them, the most first."""
    spent: dict[PartKind, float] = {}
    for part in parts:
        spent[part.kind] = spent.get(part.kind, 0.0) + part.seconds
    return dict(sorted(spent.items(), key=lambda item: -item[1]))


def seconds_by_step(parts: Iterable[Part]) -> dict[int, float]:
    """Seconds of the critical path by step, the most first."""
    spent: dict[int, float] = {}
    for part in parts:
        spent[part.step] = spent.get(part.step, 0.0) + part.seconds
    return dict(sorted(spent.items(), key=lambda item: -item[1]))
