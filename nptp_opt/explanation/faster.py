"""What would be enough for a limit of the latency: a later limit, faster links or devices, more
devices, int8 transfers. Each is planned, from the plan that is too slow.

A plan that is kept on a faster cluster gives a first factor, the bound one that is proven to be too
small; plans are searched between the two.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

from nptp_opt.bound import clock_bound
from nptp_opt.cluster import Cluster
from nptp_opt.errors import InfeasibleError
from nptp_opt.evaluate.simulate import simulate
from nptp_opt.explanation.sentences import Finding, ms
from nptp_opt.explanation.what_if import faster_devices, faster_links, one_more_device
from nptp_opt.plan.model import Plan
from nptp_opt.planner.replan import replan_network

MOST_TIMES = 64
"""Times the speed or rate beyond which no answer is sought."""

PARTS = 100
"""Factors are told, and tried, in hundredths."""

SEARCHES = 3
"""Plans that are searched between 1 and the factor that is known to be enough."""

MOST_MORE = 4
"""Devices that are added at most."""

Change = Callable[[Cluster, float], Cluster]

FACTORS: dict[str, tuple[str, Change]] = {
    "rate": ("links", faster_links),
    "speed": ("devices", faster_devices),
}


def enough_for_limit(plan: Plan, limit_s: float) -> Iterator[Finding]:
    """What would be enough for ``limit_s``; ``plan`` is the fastest that was found."""
    yield _told("latency limit", f"a limit of {_ms_up(plan.latency_s):g} ms", plan.latency_s,
                {"latency_limit_ms": _ms_up(plan.latency_s)})  # fmt: skip
    for kind, (noun, change) in FACTORS.items():
        yield _factor(plan, limit_s, kind, noun, change)
    yield _more_devices(plan, limit_s)
    if plan.cluster.transfer_dtype != "int8":
        yield _int8(plan, limit_s)


def _ms_up(seconds: float) -> float:
    """Milliseconds, up to the next hundredth."""
    return math.ceil(seconds * 1e3 * PARTS - 1e-9) / PARTS


# -- factors -----------------------------------------------------------------------------------


def _factor(plan: Plan, limit_s: float, kind: str, noun: str, change: Change) -> Finding:
    too_small = proven_too_small(plan, limit_s, change)
    if too_small >= MOST_TIMES:
        return _nothing(kind, f"{noun} {MOST_TIMES} times as fast", proven=True)
    found = least_times(plan, limit_s, change, too_small)
    if found is None:
        return _nothing(kind, f"{noun} up to {MOST_TIMES} times as fast")
    times, latency_s = found
    figures = {"times": times, "times_proven_too_small": too_small}
    least = f" ({too_small:g} times is proven not to be enough)" if too_small > 1 else ""
    return _told(kind, f"{noun} {times:g} times as fast{least}", latency_s, figures)


def proven_too_small(plan: Plan, limit_s: float, change: Change) -> float:
    """The largest factor, of 1 to ``MOST_TIMES``, for which the bound is above the limit."""

    def too_small(parts: int) -> bool:
        return clock_bound(plan.network, change(plan.cluster, parts / PARTS)) > limit_s

    low, high = PARTS, MOST_TIMES * PARTS
    if too_small(high):
        return high / PARTS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if too_small(middle) else (low, middle)
    return low / PARTS


def least_times(
    plan: Plan, limit_s: float, change: Change, too_small: float
) -> tuple[float, float] | None:
    """The smallest factor found that brings a plan within the limit, and its latency in seconds."""
    known = _kept(plan, limit_s, change, MOST_TIMES * PARTS)
    if known is None:
        known = _searched(plan, limit_s, change, MOST_TIMES * PARTS)
    if known is None:
        return None
    low = round(too_small * PARTS)
    for _ in range(SEARCHES):
        middle = round(math.sqrt(low * known[0]))
        if not low < middle < known[0]:
            break
        better = _searched(plan, limit_s, change, middle)
        low, known = (middle, known) if better is None else (low, better)
    return known[0] / PARTS, known[1]


def _searched(plan: Plan, limit_s: float, change: Change, parts: int) -> tuple[int, float] | None:
    """A new plan for the factor, and how far that one can be kept."""
    try:
        other = replan_network(plan, change(plan.cluster, parts / PARTS))
    except InfeasibleError:
        return None
    if other.latency_s > limit_s:
        return None
    return _kept(other, limit_s, lambda _, times: change(plan.cluster, times), parts)


def _kept(plan: Plan, limit_s: float, change: Change, most: int) -> tuple[int, float] | None:
    """The smallest factor, of at most ``most``, by which the plan as it is meets the limit."""

    def latency_s(parts: int) -> float:
        return simulate(plan.network, change(plan.cluster, parts / PARTS), plan.steps)

    low, high = PARTS, most
    if latency_s(high) > limit_s:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if latency_s(middle) <= limit_s else (middle, high)
    return high, latency_s(high)


# -- more devices, fewer bytes -----------------------------------------------------------------


def _more_devices(plan: Plan, limit_s: float) -> Finding:
    cluster, other, proven = plan.cluster, plan, True
    like = cluster.devices[-1].name
    for count in range(1, MOST_MORE + 1):
        cluster = one_more_device(cluster)
        if clock_bound(plan.network, cluster) > limit_s:
            continue
        other, proven = replan_network(other, cluster), False
        if other.latency_s <= limit_s:
            text = f"{count} more device{'s' * (count > 1)} like {like}"
            return _told("devices", text, other.latency_s, {"more": count})
    return _nothing("devices", f"up to {MOST_MORE} more devices like {like}", proven=proven)


def _int8(plan: Plan, limit_s: float) -> Finding:
    cluster = plan.cluster.sending_as("int8")
    if clock_bound(plan.network, cluster) > limit_s:
        return _nothing("int8", "int8 transfers", proven=True)
    other = replan_network(plan, cluster)
    if other.latency_s > limit_s:
        return _nothing("int8", "int8 transfers")
    return _told("int8", "int8 transfers", other.latency_s, {})


# -- sentences ---------------------------------------------------------------------------------


def _told(kind: str, words: str, latency_s: float, figures: Mapping[str, object]) -> Finding:
    text = f"With {words} it is possible: a plan of {ms(latency_s)} was found."
    return Finding("relaxation", text, {"kind": kind, "latency_s": latency_s, **figures})


def _nothing(kind: str, words: str, *, proven: bool = False) -> Finding:
    end = "can be fast enough (proven)" if proven else "was found that is fast enough"
    text = f"With {words} alone no plan {end}."
    return Finding("no relaxation", text, {"kind": kind, "proven": proven})
