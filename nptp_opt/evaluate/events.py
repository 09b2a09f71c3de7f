"""Compiled: the events of a plan without barriers, in the order of their times.

Each device works through its tasks in order and starts one when its own messages are there; what
is ``ahead`` of the messages before that. A message is handed over when its sender has computed what
it carries and has handed over those before it; links serve one message after the other, in the
order in which messages become ready. Events of one time happen in the order in which they arose.

Legend of shapes: D devices, T tasks sorted by device, then step, M messages, F tasks of messages.
"""

from __future__ import annotations

from heapq import heappop, heappush

import numba
import numpy as np

READY, ARRIVED, DONE, FREE = 0, 1, 2, 3
"""Kinds of events: of a message, a message, a task, a device."""


@numba.njit(cache=True, nogil=True)
def run_events(tasks, messages, feeds, starting, source, message_s, latency_s):  # type: ignore[no-untyped-def]
    """Seconds in all, tasks done, stretches [kind, index], and their [start, end].

    ``tasks``: device (T), first task of every device (D + 1), seconds ahead and after (T).
    ``messages``: tasks awaited (M), task of the receiver, seconds on the links, link out, link in.
    ``feeds``: first of every task (T + 1), message (F). ``starting`` (D): devices, who begins
    first. The kind of a stretch is 0 for a task and 1 for a message.
    """
    awaits, receiver, seconds, out, into = messages
    awaited = awaits.copy()
    waiting = _waiting(tasks, receiver)
    busy = waiting[2]
    free_s = np.zeros((2, max(out.max(), into.max()) + 1 if len(out) else 1))
    shown = (np.zeros((2 * len(tasks[0]) + len(awaits), 2), dtype=np.int64),
             np.zeros((2 * len(tasks[0]) + len(awaits), 2)))  # fmt: skip
    count = np.zeros(3, dtype=np.int64)  # events, stretches, tasks done
    events = [(0.0, 0, FREE, source)]
    events.pop()
    busy[source] = True
    _hand_over(events, count, np.flatnonzero(awaits == 0), source, 0.0, message_s)
    for d in starting:
        _start_next(events, count, shown, tasks, waiting, d, 0.0)
    now = 0.0
    while events:
        now, _, kind, item = heappop(events)
        if kind == READY:
            start = max(now, free_s[0, out[item]], free_s[1, into[item]])
            free_s[0, out[item]] = free_s[1, into[item]] = start + seconds[item]
            arrives = start + seconds[item] + latency_s
            _show(count, shown, 1, item, now, arrives)
            _push(events, count, arrives, ARRIVED, item)
        elif kind == DONE:
            count[2] += 1
            fed = feeds[1][feeds[0][item] : feeds[0][item + 1]]
            awaited[fed] -= 1
            _hand_over(events, count, fed[awaited[fed] == 0], tasks[0][item], now, message_s)
        elif kind == ARRIVED:
            waiting[1][receiver[item]] -= 1
            _start_next(events, count, shown, tasks, waiting, tasks[0][receiver[item]], now)
        else:
            busy[item] = False
            _start_next(events, count, shown, tasks, waiting, item, now)
    return now, count[2], shown[0][: count[1]], shown[1][: count[1]]


@numba.njit(cache=True, nogil=True)
def _waiting(tasks, receiver):  # type: ignore[no-untyped-def]
    """Before all: next task of every device, missing messages of every task, who is busy, and
    which tasks have something ahead."""
    device, first, ahead_s, _ = tasks
    missing = np.zeros(len(device), dtype=np.int64)
    for task in receiver:
        missing[task] += 1
    return first[:-1].copy(), missing, np.zeros(len(first) - 1, dtype=np.bool_), ahead_s > 0


@numba.njit(cache=True, nogil=True)
def _push(events, count, at_s, kind, item):  # type: ignore[no-untyped-def]
    heappush(events, (at_s, count[0], kind, item))
    count[0] += 1


@numba.njit(cache=True, nogil=True)
def _show(count, shown, kind, item, start, end):  # type: ignore[no-untyped-def]
    shown[0][count[1]] = kind, item
    shown[1][count[1]] = start, end
    count[1] += 1


@numba.njit(cache=True, nogil=True)
def _hand_over(events, count, messages, device, now, message_s):  # type: ignore[no-untyped-def]
    """One after the other; then the device is free for its next task."""
    for message in messages:
        now += message_s
        _push(events, count, now, READY, message)
    _push(events, count, now, FREE, device)


@numba.njit(cache=True, nogil=True)
def _start_next(events, count, shown, tasks, waiting, at, now):  # type: ignore[no-untyped-def]
    """Let a device begin its next task, or what is ahead of the task's messages, if it can."""
    _, first, ahead_s, rest_s = tasks
    following, missing, busy, ahead = waiting
    task = following[at]
    if busy[at] or task == first[at + 1]:
        return
    if ahead[task]:
        ahead[task] = False
        end = now + ahead_s[task]
        _push(events, count, end, FREE, at)
    elif missing[task] == 0:
        following[at] += 1
        end = now + rest_s[task]
        _push(events, count, end, DONE, task)
    else:
        return
    busy[at] = True
    _show(count, shown, 0, task, now, end)
