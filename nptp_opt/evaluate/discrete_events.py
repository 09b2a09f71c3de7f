"""Discrete-event simulation of a plan without barriers, compiled: events in the order of time.

Each device works through its pieces in order and starts one when the messages that it is the first
to read are there. A message is handed over when its sender has computed the pieces that it reads
from and has handed over those before it; links serve one message after the other, in the order in
which messages become ready. Events of one time happen in the order in which they arose.

Legend of shapes: D devices, T pieces sorted by device, then in the plan's order, M messages.
"""

from __future__ import annotations

from heapq import heappop, heappush

import numba
import numpy as np

from nptp_opt.cost.compiled import meets

READY, ARRIVED, DONE, FREE = 0, 1, 2, 3
"""Kinds of events: of a message, a message, a piece, a device."""


@numba.njit(cache=True, nogil=True)
def run_events(pieces, messages, feeds, starting, source, message_s, latency_s, limit_s):  # type: ignore[no-untyped-def]
    """Seconds in all, pieces done, stretches [kind, index], and their [start, end].

    Ends early, with infinite seconds, once a device or a link cannot be done by ``limit_s``.
    ``pieces``: device (T), first piece of every device (D + 1), seconds (T). ``messages``: piece
    of the sender that it awaits, -1 for none; piece of the receiver; seconds on the links; link
    out; link in (M). ``message_s`` (M): what handing it over, and encoding it, takes of its sender.
    ``feeds``: first of every piece (T + 1), message (at most M). ``starting``
    (D): devices, who begins first. The kind of a stretch is 0 for a piece and 1 for a message.
    """
    awaits, receiver, seconds, out, into = messages
    waiting = _initial_state(pieces, receiver)
    busy, left_s = waiting[2], waiting[3]
    free_s = np.zeros((2, max(out.max(), into.max()) + 1 if len(out) else 1))
    to_send_s = np.zeros(free_s.shape)
    for message in range(len(out)):
        to_send_s[0, out[message]] += seconds[message]
        to_send_s[1, into[message]] += seconds[message]
    shown = (np.zeros((len(pieces[0]) + len(awaits), 2), dtype=np.int64),
             np.zeros((len(pieces[0]) + len(awaits), 2)))  # fmt: skip
    count = np.zeros(3, dtype=np.int64)  # events, stretches, pieces done
    events = [(0.0, 0, FREE, source)]
    events.pop()
    busy[source] = True
    _hand_over(events, count, np.flatnonzero(awaits < 0), source, 0.0, message_s)
    for d in starting:
        _start_next(events, count, shown, pieces, waiting, d, 0.0)
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
            _hand_over(events, count, fed, pieces[0][item], now, message_s)
        elif kind == ARRIVED:
            waiting[1][receiver[item]] -= 1
            _start_next(events, count, shown, pieces, waiting, pieces[0][receiver[item]], now)
        else:
            busy[item] = False
            if now + left_s[item] > limit_s:
                now = np.inf
                break
            _start_next(events, count, shown, pieces, waiting, item, now)
    return now, count[2], shown[0][: count[1]], shown[1][: count[1]]


@numba.njit(cache=True, nogil=True)
def _initial_state(pieces, receiver):  # type: ignore[no-untyped-def]
    """Before all: next piece of every device, missing messages of every piece, who is busy, and
    seconds that every device has to compute."""
    device, first, seconds = pieces
    left_s = np.zeros(len(first) - 1)
    for piece in range(len(device)):
        left_s[device[piece]] += seconds[piece]
    missing = np.zeros(len(device), dtype=np.int64)
    for piece in receiver:
        missing[piece] += 1
    return first[:-1].copy(), missing, np.zeros(len(first) - 1, dtype=np.bool_), left_s


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
    """One after the other; then the device is free for its next piece."""
    for message in messages:
        now += message_s[message]
        _push(events, count, now, READY, message)
    _push(events, count, now, FREE, device)


@numba.njit(cache=True, nogil=True)
def _start_next(events, count, shown, pieces, waiting, at, now):  # type: ignore[no-untyped-def]
    """Let a device begin its next piece if it can."""
    _, first, seconds = pieces
    following, missing, busy, left_s = waiting
    piece = following[at]
    if busy[at] or piece == first[at + 1] or missing[piece] > 0:
        return
    following[at] += 1
    left_s[at] -= seconds[piece]
    _push(events, count, now + seconds[piece], DONE, piece)
    busy[at] = True
    _show(count, shown, 0, piece, now, now + seconds[piece])


@numba.njit(cache=True, nogil=True)
def run_steps(store, steps, makers, shared, fixed, limit_s):  # type: ignore[no-untyped-def]
    """Seconds of a plan of ``steps`` (S), numbers in a ``store`` of evaluated ones, and how many
    pieces and messages it has; infinite seconds as soon as they are seen to be above ``limit_s``.

    ``makers`` (S, X): places in the plan of the steps that make the maps, -1 for none. ``fixed``:
    devices, source, seconds of handing over and of latency.
    """
    n, source, message_s, latency_s = fixed
    pieces, messages, feeds, starting, _, encode_s = plan_arrays(store, steps, makers, shared, n)
    sending_s = message_s + encode_s
    found = run_events(pieces, messages, feeds, starting, source, sending_s, latency_s, limit_s)
    return found[0], len(pieces[0]) + len(messages[0])


@numba.njit(cache=True, nogil=True)
def plan_arrays(store, steps, makers, shared, n):  # type: ignore[no-untyped-def]
    """A plan of steps in a ``store`` as ``run_events`` wants it, every piece's step (T), and the
    seconds that messages are encoded in (M).

    The store: bounds (first piece, end, first message, end, first part) of every step; devices of
    pieces, their seconds, their rectangles (·, 4); messages' [src, dst, piece that reads it, first
    part, end] (·, 5), numbers within the step; their seconds on the links and of encoding (·, 2);
    parts' [map, rectangle] (·, 5).
    """
    bounds, piece_device, piece_s, piece_tile, ends, link_s, parts = store
    first = np.zeros(n + 1, dtype=np.int64)
    total = 0
    for s in steps:
        total += bounds[s, 3] - bounds[s, 2]
        for t in range(bounds[s, 0], bounds[s, 1]):
            first[piece_device[t] + 1] += 1
    for d in range(n):
        first[d + 1] += first[d]
    begin = np.zeros((len(steps), n), dtype=np.int64)
    device, step_of = np.zeros(first[n], dtype=np.int64), np.zeros(first[n], dtype=np.int64)
    origin, seconds = np.zeros(first[n], dtype=np.int64), np.zeros(first[n])
    fill = first[:-1].copy()
    last = np.full(n, -1)
    for k, s in enumerate(steps):
        for d in range(n):
            begin[k, d] = fill[d]
        for t in range(bounds[s, 0], bounds[s, 1]):
            d = piece_device[t]
            at = fill[d]
            fill[d] += 1
            device[at], origin[at], step_of[at], last[d] = d, t, k, k
            seconds[at] = piece_s[t]
    awaits = np.full(total, -1)
    receiver, link = np.zeros(total, dtype=np.int64), np.zeros(total)
    encode_s = np.zeros(total)
    out, into = np.zeros(total, dtype=np.int64), np.zeros(total, dtype=np.int64)
    at = 0
    for k, s in enumerate(steps):
        for m in range(bounds[s, 2], bounds[s, 3]):
            src, dst, piece, part, end = ends[m]
            for p in range(bounds[s, 4] + part, bounds[s, 4] + end):
                maker = makers[k, parts[p, 0]]
                if maker >= 0:
                    made = begin[maker, src], begin[maker + 1, src]
                    done = _last_piece(origin, piece_tile, made[0], made[1], parts[p, 1:])
                    awaits[at] = max(awaits[at], done)
            receiver[at] = begin[k, dst] + bounds[s, 0] + piece - origin[begin[k, dst]]
            link[at], encode_s[at] = link_s[m]
            if not shared:
                out[at], into[at] = src, dst
            at += 1
    pieces = device, first, seconds
    messages = awaits, receiver, link, out, into
    return pieces, messages, _feeds(awaits, first[n]), _starting(last), step_of, encode_s


@numba.njit(cache=True, nogil=True, inline="always")
def _last_piece(origin, piece_tile, begin, end, part):  # type: ignore[no-untyped-def]
    """The last of a device's pieces of a step that meets a rectangle; the only one in any case."""
    for piece in range(end - 1, begin, -1):
        if meets(piece_tile[origin[piece]], part):
            return piece
    return begin if end > begin else -1


@numba.njit(cache=True, nogil=True)
def _feeds(awaits, pieces):  # type: ignore[no-untyped-def]
    """First of every piece (T + 1), and messages that await it, in their order."""
    first = np.zeros(pieces + 1, dtype=np.int64)
    for piece in awaits:
        if piece >= 0:
            first[piece + 1] += 1
    for piece in range(pieces):
        first[piece + 1] += first[piece]
    found, fill = np.zeros(first[pieces], dtype=np.int64), first.copy()
    for message, piece in enumerate(awaits):
        if piece >= 0:
            found[fill[piece]] = message
            fill[piece] += 1
    return first, found


@numba.njit(cache=True, nogil=True)
def _starting(last):  # type: ignore[no-untyped-def]
    """Devices with pieces by their last step, the latest first; of several the last device."""
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
