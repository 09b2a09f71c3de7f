"""Discrete-event simulation of a plan without barriers, compiled: events in the order of time.

Each device works through its pieces in order and starts one when the messages that it is the first
to read are there. A message is handed over when its sender has computed the pieces that it reads
from and has handed over those before it; links serve one message after the other, in the order in
which messages become ready. Events of one time happen in the order in which they arose.

Legend of shapes: D devices, T pieces sorted by device, then in the plan's order, M messages.
"""

from __future__ import annotations

import numpy as np

from nptp_opt.compiling import compiled, inner
from nptp_opt.cost.compiled import meets
from nptp_opt.evaluate.event_queue import has_events, no_events, pop, push

READY, ARRIVED, DONE, FREE = 0, 1, 2, 3
"""Kinds of events: of a message, a message, a piece, a device."""

FOLLOWING, BUSY = 0, 1
"""Columns of a device's state."""


@compiled
def run_events(pieces, messages, feeds, starting, source, message_s, latency_s, limit_s):  # type: ignore[no-untyped-def]
    """Seconds in all, pieces done, stretches [kind, index], and their [start, end].

    Ends early, with infinite seconds, once a device or a link cannot be done by ``limit_s``.
    ``pieces``: device (T), first piece of every device (D + 1), seconds (T). ``messages``: piece
    of the sender that it awaits, -1 for none; piece of the receiver; seconds on the links; link
    out; link in (M). ``message_s`` (M): what handing it over, and encoding it, takes of its sender.
    ``feeds``: first of every piece (T + 1), message (at most M). ``starting``
    (D): devices, who begins first. The kind of a stretch is 0 for a piece and 1 for a message.
    """
    device, first, piece_s = pieces
    awaits, receiver, link_s, out, into = messages
    fed_from, fed = feeds
    state, missing, left_s = _before_all(device, first, piece_s, receiver)
    free_s, to_send_s = _links(link_s, out, into)
    shown = np.zeros((len(device) + len(awaits), 2), dtype=np.int64)
    shown_s = np.zeros(shown.shape)
    heap_s, events, place = no_events(2 * len(shown) + len(first))
    unasked = np.flatnonzero(awaits < 0)
    _hand_over(unasked, 0, len(unasked), message_s, source, 0.0, heap_s, events, place)
    state[source, BUSY] = 1
    count = done = 0
    for d in starting:
        count = _begin(d, 0.0, first, piece_s, state, missing, left_s, heap_s, events, place,
                       shown, shown_s, count)  # fmt: skip
    now = 0.0
    while has_events(place):
        now, kind, item = pop(heap_s, events, place, now)
        d = -1
        if kind == READY:
            start = max(now, free_s[0, out[item]], free_s[1, into[item]])
            if start + max(to_send_s[0, out[item]], to_send_s[1, into[item]]) > limit_s:
                return np.inf, done, shown[:count], shown_s[:count]
            for side, link in enumerate((out[item], into[item])):
                to_send_s[side, link] -= link_s[item]
                free_s[side, link] = start + link_s[item]
            arrives = start + link_s[item] + latency_s
            count = _show(shown, shown_s, count, 1, item, now, arrives)
            push(heap_s, events, place, now, arrives, ARRIVED, item)
        elif kind == DONE:
            done += 1
            _hand_over(fed, fed_from[item], fed_from[item + 1], message_s, device[item], now,
                       heap_s, events, place)  # fmt: skip
        elif kind == ARRIVED:
            missing[receiver[item]] -= 1
            d = device[receiver[item]]
        else:
            state[item, BUSY] = 0
            if now + left_s[item] > limit_s:
                return np.inf, done, shown[:count], shown_s[:count]
            d = item
        if d >= 0:
            count = _begin(d, now, first, piece_s, state, missing, left_s, heap_s, events, place,
                           shown, shown_s, count)  # fmt: skip
    return now, done, shown[:count], shown_s[:count]


@compiled
def _before_all(device, first, piece_s, receiver):  # type: ignore[no-untyped-def]
    """Next piece of every device and whether it is busy (D, 2), missing messages of every piece
    (T), and seconds that every device has to compute (D)."""
    state, left_s = np.zeros((len(first) - 1, 2), dtype=np.int64), np.zeros(len(first) - 1)
    for d in range(len(state)):
        state[d, FOLLOWING] = first[d]
    for piece in range(len(device)):
        left_s[device[piece]] += piece_s[piece]
    missing = np.zeros(len(device), dtype=np.int64)
    for piece in receiver:
        missing[piece] += 1
    return state, missing, left_s


@compiled
def _links(link_s, out, into):  # type: ignore[no-untyped-def]
    """When every link is free, and its seconds of sending: (2, links), out and in."""
    links = 1
    for message in range(len(out)):
        links = max(links, out[message] + 1, into[message] + 1)
    to_send_s = np.zeros((2, links))
    for message in range(len(out)):
        to_send_s[0, out[message]] += link_s[message]
        to_send_s[1, into[message]] += link_s[message]
    return np.zeros((2, links)), to_send_s


@inner
def _show(shown, shown_s, count, kind, item, start, end):  # type: ignore[no-untyped-def]
    shown[count, 0], shown[count, 1] = kind, item
    shown_s[count, 0], shown_s[count, 1] = start, end
    return count + 1


@inner
def _hand_over(messages, begin, end, message_s, device, now, heap_s, events, place):  # type: ignore[no-untyped-def]
    """One of ``messages`` after the other; then the device is free for its next piece."""
    at_s = now
    for k in range(begin, end):
        at_s += message_s[messages[k]]
        push(heap_s, events, place, now, at_s, READY, messages[k])
    push(heap_s, events, place, now, at_s, FREE, device)


@inner
def _begin(  # type: ignore[no-untyped-def]
    d, now, first, piece_s, state, missing, left_s, heap_s, events, place, shown, shown_s, count
):
    """Let a device begin its next piece if it can; how many stretches there are then."""
    piece = state[d, FOLLOWING]
    if state[d, BUSY] or piece == first[d + 1] or missing[piece] > 0:
        return count
    state[d, FOLLOWING], state[d, BUSY] = piece + 1, 1
    left_s[d] -= piece_s[piece]
    push(heap_s, events, place, now, now + piece_s[piece], DONE, piece)
    return _show(shown, shown_s, count, 0, piece, now, now + piece_s[piece])


@compiled
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


@compiled
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


@inner
def _last_piece(origin, piece_tile, begin, end, part):  # type: ignore[no-untyped-def]
    """The last of a device's pieces of a step that meets a rectangle; the only one in any case."""
    for piece in range(end - 1, begin, -1):
        if meets(piece_tile[origin[piece]], part):
            return piece
    return begin if end > begin else -1


@compiled
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


@compiled
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
