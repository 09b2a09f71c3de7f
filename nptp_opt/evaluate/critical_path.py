"""The chain of tasks and messages that makes a plan take as long as it does.

Read from the predicted stretches alone: a task waited for the message that arrived when it began,
or for its device; a message for its links, or for what its sender computed before it was ready.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from nptp_opt.evaluate.simulate import Stretch


def critical_path(stretches: Sequence[Stretch]) -> tuple[Stretch, ...]:
    """The last stretch, what it waited for, and so on back to the input; in the order of time.

    ``stretches`` are those of ``simulate.timeline``; without any there is no path. Each begins when
    the one before it ends, but for messages that wait for a link (they begin when they are ready
    and the one before them ends in the meantime) and for the handing over of ``message_ms``.
    """
    ordered = sorted(stretches, key=lambda stretch: stretch.start_s)
    at = max(range(len(ordered)), key=lambda k: (ordered[k].end_s, k), default=None)
    path = []
    while at is not None:
        path.append(ordered[at])
        at = _cause(ordered[:at], ordered[at])
    return tuple(reversed(path))


def added_s(path: Sequence[Stretch]) -> tuple[float, ...]:
    """Seconds by which each stretch of a critical path ends after the one before it: they sum to
    the latency."""
    ends = [0.0, *(stretch.end_s for stretch in path)]
    return tuple(after - before for before, after in pairwise(ends))


def _cause(earlier: Sequence[Stretch], stretch: Stretch) -> int | None:
    """Place of what a stretch waited for; None where it had nothing to wait for."""
    awaited = _arrivals(earlier, stretch) if stretch.peer is None else _in_line(earlier, stretch)
    return max(awaited or _own_work(earlier, stretch), default=None)


def _arrivals(earlier: Sequence[Stretch], task: Stretch) -> list[int]:
    """Messages of the task's step that reached its device when it began."""
    return [
        k
        for k, other in enumerate(earlier)
        if (other.peer, other.step) == (task.device, task.step) and _same(other.end_s, task.start_s)
    ]


def _in_line(earlier: Sequence[Stretch], message: Stretch) -> list[int]:
    """The messages that left a link when it took this one, if it was ready before: those of its
    own sender or receiver, or where none is (on one medium) any."""
    begin_s = message.on_link_s[0] if message.on_link_s else message.start_s
    if _same(begin_s, message.start_s):
        return []
    left = [
        k for k, other in enumerate(earlier)
        if other.on_link_s is not None and _same(other.on_link_s[1], begin_s)
    ]  # fmt: skip
    own = [k for k in left if _share_a_link(earlier[k], message)]
    return own or left


def _share_a_link(one: Stretch, other: Stretch) -> bool:
    return one.device == other.device or one.peer == other.peer


def _own_work(earlier: Sequence[Stretch], stretch: Stretch) -> list[int]:
    """What the device of a task, or the sender of a message, computed before."""
    return [
        k for k, other in enumerate(earlier)
        if other.peer is None and other.device == stretch.device
    ]  # fmt: skip


def _same(one_s: float, other_s: float) -> bool:
    """Equal but for rounding: the times of one event."""
    return math.isclose(one_s, other_s, rel_tol=1e-9, abs_tol=1e-12)
