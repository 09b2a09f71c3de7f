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
def run_events(tasks, messages, feeds, starting, source, message_s, latency_s, limit_s):  # type: ignore[no-untyped-def]
    """Seconds in all, tasks done, stretches [kind, index], and their [start, end].

    Ends early, with infinite seconds, once a device or a link cannot be done by ``limit_s``.
    ``tasks``: device (T), first task of every device (D + 1), seconds ahead and after (T).
    ``messages``: tasks awaited (M), task of the receiver, seconds on the links, link out, link in.
    ``feeds``: first of every task (T + 1), message (F). ``starting`` (D): devices, who begins
    first. The kind of a stretch is 0 for a task and 1 for a message.
    """
    awaits, receiver, seconds, out, into = messages
    awaited = awaits.copy()
    waiting = _waiting(tasks, receiver)
    left_s = waiting[4]
    busy = waiting[2]
    free_s = np.zeros((2, max(out.max(), into.max()) + 1 if len(out) else 1))
    to_send_s = np.zeros(free_s.shape)
    for message in range(len(out)):
        to_send_s[0, out[message]] += seconds[message]
        to_send_s[1, into[message]] += seconds[message]
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
            if start + max(to_send_s[0, out[item]], to_send_s[1, into[item]]) > limit_s:
                now = np.inf
                break
            to_send_s[0, out[item]] -= seconds[item]
            to_send_s[1, into[item]] -= seconds[item]
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
            if now + left_s[item] > limit_s:
                now = np.inf
                break
            _start_next(events, count, shown, tasks, waiting, item, now)
    return now, count[2], shown[0][: count[1]], shown[1][: count[1]]


@numba.njit(cache=True, nogil=True)
def _waiting(tasks, receiver):  # type: ignore[no-untyped-def]
    """Before all: next task of every device, missing messages of every task, who is busy, which
    tasks have something ahead, and seconds that every device has to compute."""
    device, first, ahead_s, rest_s = tasks
    left_s = np.zeros(len(first) - 1)
    for task in range(len(device)):
        left_s[device[task]] += ahead_s[task] + rest_s[task]
    missing = np.zeros(len(device), dtype=np.int64)
    for task in receiver:
        missing[task] += 1
    return first[:-1].copy(), missing, np.zeros(len(first) - 1, dtype=np.bool_), ahead_s > 0, left_s


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
    following, missing, busy, ahead, left_s = waiting
    task = following[at]
    if busy[at] or task == first[at + 1]:
        return
    if ahead[task]:
        ahead[task] = False
        end = now + ahead_s[task]
        left_s[at] -= ahead_s[task]
        _push(events, count, end, FREE, at)
    elif missing[task] == 0:
        following[at] += 1
        end = now + rest_s[task]
        left_s[at] -= rest_s[task]
        _push(events, count, end, DONE, task)
    else:
        return
    busy[at] = True
    _show(count, shown, 0, task, now, end)


@numba.njit(cache=True, nogil=True)
def run_steps(store, steps, makers, shared, fixed, limit_s):  # type: ignore[no-untyped-def]
    """Seconds of a plan of ``steps`` (S), numbers in a ``store`` of priced ones, and how many tasks
    and messages it has; infinite seconds as soon as they are seen to be above ``limit_s``.

    The store: bounds (first task, end, first message, end) of every step, devices of tasks, their
    seconds ahead and after (·, 2), messages' [src, dst, set of maps] (·, 3), their seconds on the
    links. ``makers`` (S, X): places in the plan of the steps that make the maps, -1 for none.
    ``fixed``: devices, source, seconds of handing over and of latency.
    """
    bounds, task_device, task_s, ends, link_s = store
    n, source, message_s, latency_s = fixed
    first = np.zeros(n + 1, dtype=np.int64)
    messages = 0
    for s in steps:
        messages += bounds[s, 3] - bounds[s, 2]
        for t in range(bounds[s, 0], bounds[s, 1]):
            first[task_device[t] + 1] += 1
    for d in range(n):
        first[d + 1] += first[d]
    total = first[n]
    number = np.full((len(steps), n), -1)
    device, seconds = np.zeros(total, dtype=np.int64), np.zeros((2, total))
    fill = first[:-1].copy()
    last = np.full(n, -1)
    for k, s in enumerate(steps):
        for t in range(bounds[s, 0], bounds[s, 1]):
            d = task_device[t]
            at = fill[d]
            fill[d] += 1
            number[k, d], device[at], last[d] = at, d, k
            seconds[0, at], seconds[1, at] = task_s[t, 0], task_s[t, 1]
    arrays = _messages(bounds, steps, makers, ends, link_s, number, shared, messages)
    feeds = _feeds(bounds, steps, makers, ends, number, messages, total)
    tasks = device, first, seconds[0], seconds[1]
    starting = _starting(last)
    found = run_events(tasks, arrays, feeds, starting, source, message_s, latency_s, limit_s)
    return found[0], total + messages


@numba.njit(cache=True, nogil=True)
def _messages(bounds, steps, makers, ends, link_s, number, shared, total):  # type: ignore[no-untyped-def]
    """The messages of a plan as ``run_events`` wants them."""
    awaits, receiver, seconds = (
        np.zeros(total, np.int64),
        np.zeros(total, np.int64),
        np.zeros(total),
    )
    out, into = np.zeros(total, dtype=np.int64), np.zeros(total, dtype=np.int64)
    at = 0
    for k, s in enumerate(steps):
        for m in range(bounds[s, 2], bounds[s, 3]):
            src, dst, maps = ends[m]
            for x in range(makers.shape[1]):
                awaits[at] += maps >> x & 1 and makers[k, x] >= 0
            receiver[at], seconds[at] = number[k, dst], link_s[m]
            if not shared:
                out[at], into[at] = src, dst
            at += 1
    return awaits, receiver, seconds, out, into


@numba.njit(cache=True, nogil=True)
def _feeds(bounds, steps, makers, ends, number, messages, tasks):  # type: ignore[no-untyped-def]
    """First of every task (T + 1), and messages that await it, in their order."""
    first, found = np.zeros(tasks + 1, dtype=np.int64), np.zeros(0, dtype=np.int64)
    for filling in (False, True):
        at = 0
        if filling:
            for t in range(tasks):
                first[t + 1] += first[t]
            found = np.zeros(first[tasks], dtype=np.int64)
            fill = first.copy()
        for k, s in enumerate(steps):
            for m in range(bounds[s, 2], bounds[s, 3]):
                src, _, maps = ends[m]
                for x in range(makers.shape[1]):
                    if maps >> x & 1 and makers[k, x] >= 0:
                        task = number[makers[k, x], src]
                        if filling:
                            found[fill[task]] = at
                            fill[task] += 1
                        else:
                            first[task + 1] += 1
                at += 1
    return first, found


@numba.njit(cache=True, nogil=True)
def _starting(last):  # type: ignore[no-untyped-def]
    """Devices with tasks by their last step, the latest first; of several the last device."""
    count = 0
    found = np.zeros(len(last), dtype=np.int64)
    for d in range(len(last) - 1, -1, -1):
        if last[d] < 0:
            continue
        at = count
        while at > 0 and last[found[at - 1]] < last[d]:
            found[at] = found[at - 1]
            at -= 1
        found[at] = d
        count += 1
    return found[:count]
