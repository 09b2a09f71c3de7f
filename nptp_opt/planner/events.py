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
    """Stretches (kind, index, start, end) in the order of their start: kind 0 a task, 1 a message.

    ``tasks``: device (T), first task of every device (D + 1), seconds ahead and after (T).
    ``messages``: awaited tasks (M), task of the receiver, seconds on the links, link out, link in.
    ``feeds``: first of every task (T + 1), message (F). ``starting`` (D): devices, who begins
    first. Returns how many tasks were done, too.
    """
    device, first, ahead_s, rest_s = tasks
    awaits, receiver, seconds, out, into = messages
    ahead, awaited = ahead_s > 0, awaits.copy()
    missing = np.zeros(len(device), dtype=np.int64)
    for m in range(len(awaits)):
        missing[receiver[m]] += 1
    following, busy = first[:-1].copy(), np.zeros(len(first) - 1, dtype=np.bool_)
    free_s = np.zeros((2, max(out.max(), into.max()) + 1 if len(out) else 1))
    kinds = np.zeros((2 * len(device) + len(awaits), 2), dtype=np.int64)
    times = np.zeros((len(kinds), 2))
    events = [(0.0, 0, FREE, -1)]
    events.pop()
    count, done, shown = 0, 0, 0

    busy[source] = True
    handed_s = 0.0
    for m in range(len(awaits)):
        if awaits[m] == 0:
            handed_s += message_s
            heappush(events, (handed_s, count, READY, m))
            count += 1
    heappush(events, (handed_s, count, FREE, source))
    count += 1
    for d in starting:
        # Before all else; -1 - d does not free the source, which may be handing over.
        heappush(events, (-1.0, count, FREE, -1 - d))
        count += 1
    now = 0.0
    while len(events):
        at_s, _, kind, item = heappop(events)
        now = max(now, at_s)
        if kind == READY:
            starts = max(now, free_s[0, out[item]], free_s[1, into[item]])
            free_s[0, out[item]] = free_s[1, into[item]] = starts + seconds[item]
            kinds[shown], times[shown] = (1, item), (now, starts + seconds[item] + latency_s)
            shown += 1
            heappush(events, (times[shown - 1, 1], count, ARRIVED, item))
            count += 1
            continue
        if kind == DONE:
            done += 1
            handed_s = now
            for m in feeds[1][feeds[0][item] : feeds[0][item + 1]]:
                awaited[m] -= 1
                if awaited[m] == 0:
                    handed_s += message_s
                    heappush(events, (handed_s, count, READY, m))
                    count += 1
            heappush(events, (handed_s, count, FREE, device[item]))
            count += 1
            continue
        if kind == ARRIVED:
            missing[receiver[item]] -= 1
            at = device[receiver[item]]
        else:
            at = item if item >= 0 else -1 - item
            busy[at] = busy[at] and item < 0
        task = following[at]
        if busy[at] or task == first[at + 1]:
            continue
        if ahead[task]:
            ahead[task] = False
            then, ends, item = FREE, now + ahead_s[task], at
        elif missing[task] == 0:
            following[at] += 1
            then, ends, item = DONE, now + rest_s[task], task
        else:
            continue
        busy[at] = True
        kinds[shown], times[shown] = (0, task), (now, ends)
        shown += 1
        heappush(events, (ends, count, then, item))
        count += 1
    return now, done, kinds[:shown], times[:shown]
