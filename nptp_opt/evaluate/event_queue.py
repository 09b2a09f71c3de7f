"""Compiled: events in the order of time, those of one time in the order in which they arose.

A binary heap, and a queue of the events of the present moment: these arose after all in the heap
that are due at the same time, so they come after them, and cost no search. ``heap_s`` holds the
seconds of the heap's events; a row of ``events`` holds [when it arose, kind, item] of one in the
heap, and beside it [kind, item] of one in the queue; ``place`` holds what the constants name.

Arrays are passed one by one: compiled code counts references to every array that it takes out of a
tuple, which took twenty times as long as all the rest.
"""

from __future__ import annotations

import numpy as np

from nptp_opt.compiling import compiled, inner

IN_HEAP, AROSE, NEXT, LAST = 0, 1, 2, 3
"""Places of: how many events the heap holds, and how many went there so far; where the queue's next
event stands, and where the one after its last will."""


@compiled
def no_events(most):  # type: ignore[no-untyped-def]
    """``heap_s``, ``events`` and ``place``, with room for so many events in all."""
    events = np.empty((most, 5), dtype=np.int64)
    return np.empty(most), events, np.zeros(4, dtype=np.int64)


@inner
def has_events(place):  # type: ignore[no-untyped-def]
    """Is any still to come?"""
    return place[IN_HEAP] > 0 or place[NEXT] < place[LAST]


@inner
def push(heap_s, events, place, now, at_s, kind, item):  # type: ignore[no-untyped-def]
    """Add an event at ``at_s``, which is ``now`` or later."""
    if at_s == now:
        at = place[LAST]
        events[at, 3], events[at, 4] = kind, item
        place[LAST] += 1
        return
    k = place[IN_HEAP]
    place[IN_HEAP] += 1
    while k > 0 and heap_s[(k - 1) // 2] > at_s:  # of equal ones the parent arose before
        _move(heap_s, events, (k - 1) // 2, k)
        k = (k - 1) // 2
    heap_s[k] = at_s
    events[k, 0], events[k, 1], events[k, 2] = place[AROSE], kind, item
    place[AROSE] += 1


@inner
def pop(heap_s, events, place, now):  # type: ignore[no-untyped-def]
    """The time of the next event, its kind and its item."""
    if place[NEXT] < place[LAST] and not (place[IN_HEAP] > 0 and heap_s[0] <= now):
        at = place[NEXT]
        place[NEXT] += 1
        return now, events[at, 3], events[at, 4]
    at_s, kind, item = heap_s[0], events[0, 1], events[0, 2]
    place[IN_HEAP] -= 1
    last = place[IN_HEAP]  # it sinks from the top
    k, child = 0, 1
    while child < last:
        if child + 1 < last and _before(heap_s, events, child + 1, child):
            child += 1
        if not _before(heap_s, events, child, last):
            break
        _move(heap_s, events, child, k)
        k, child = child, 2 * child + 1
    _move(heap_s, events, last, k)
    return at_s, kind, item


@inner
def _before(heap_s, events, one, other):  # type: ignore[no-untyped-def]
    if heap_s[one] != heap_s[other]:
        return heap_s[one] < heap_s[other]
    return events[one, 0] < events[other, 0]


@inner
def _move(heap_s, events, start, end):  # type: ignore[no-untyped-def]
    heap_s[end] = heap_s[start]
    for column in range(3):
        events[end, column] = events[start, column]
