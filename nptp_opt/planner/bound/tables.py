"""Least regions of tiles by size and border contacts, and least prices over all tiles.

Tables are [contacts of one axis (0, 1, 2), length]: what a range of that length reads at least,
wherever it lies. Compiled: a bound evaluates millions of tiles.
"""

from __future__ import annotations

import numba
import numpy as np

NONE, LOW, BOTH, HIGH = range(4)
"""Border contacts of a range of one axis: at neither end, at its first, at both, at its last."""


@numba.njit(cache=True)
def longest(n, contacts):  # type: ignore[no-untyped-def]
    """The longest range of an axis of ``n`` with these contacts."""
    return n - 2 if contacts == NONE else n - 1 + (contacts == BOTH)


@numba.njit(cache=True)
def shortest(n, contacts):  # type: ignore[no-untyped-def]
    """The shortest range of an axis of ``n`` with these contacts."""
    return n if contacts == BOTH else 1


@numba.njit(cache=True)
def least_lengths(first, last):  # type: ignore[no-untyped-def]
    """``[contacts, length]``: shortest hull of what a range reads; ``first`` and ``last`` per
    single output. Lengths that such a range cannot have are -1."""
    n = len(first)
    table = np.full((4, n + 1), -1.0)
    table[BOTH, n] = max(0, last[n - 1] - first[0])
    if first.max() == first.min() and last.max() == last.min():
        table[LOW, 1:n] = table[BOTH, n]
        table[HIGH, 1:n] = table[BOTH, n]
        table[NONE, 1 : max(1, n - 1)] = table[BOTH, n]
        return table
    for length in range(1, n):
        table[LOW, length] = max(0, last[length - 1] - first[0])
        table[HIGH, length] = max(0, last[n - 1] - first[n - length])
    for length in range(1, n - 1):
        least = last[length] - first[1]
        for a in range(2, n - length):
            least = min(least, last[a + length - 1] - first[a])
        table[NONE, length] = max(0, least)
    return table


@numba.njit(cache=True)
def most_kept(first, last, size):  # type: ignore[no-untyped-def]
    """``[contacts, length]``: most positions of an axis of ``size`` that outputs of a range read
    and none outside it; never decreasing, and convex by raising."""
    n = len(first)
    lowest, highest = np.full(size, n), np.full(size, -1)
    for o in range(n):
        for r in range(first[o], last[o]):
            lowest[r] = min(lowest[r], o)
            highest[r] = max(highest[r], o)
    table = np.zeros((4, n + 1))
    for a in range(n):
        until = np.zeros(n)
        for r in range(size):
            if highest[r] >= 0 and lowest[r] >= a:
                until[highest[r]] += 1.0
        kept = 0.0
        for b in range(a + 1, n + 1):
            kept += until[b - 1]
            f = (LOW if b < n else BOTH) if a == 0 else (NONE if b < n else HIGH)
            table[f, b - a] = max(table[f, b - a], kept)
    return -concave(-_growing(table))


@numba.njit(cache=True)
def _growing(table):  # type: ignore[no-untyped-def]
    out = table.copy()
    for f in range(4):
        for length in range(1, table.shape[1]):
            out[f, length] = max(out[f, length], out[f, length - 1])
    return out


@numba.njit(cache=True)
def most_lengths(first, last):  # type: ignore[no-untyped-def]
    """``[length]``: longest hull of what a range of that length reads; never decreasing."""
    n = len(first)
    table = np.zeros(n + 1)
    if first.max() == first.min() and last.max() == last.min():
        table[1:] = max(0, last[0] - first[0])
        return table
    for length in range(1, n + 1):
        most = table[length - 1]
        for a in range(n - length + 1):
            most = max(most, float(last[a + length - 1] - first[a]))
        table[length] = most
    return table


@numba.njit(cache=True)
def rising(table):  # type: ignore[no-untyped-def]
    """The table made never decreasing in the length, by lowering entries."""
    out = table.copy()
    for f in (NONE, LOW, HIGH):
        for length in range(longest(table.shape[1] - 1, f) - 1, 0, -1):
            out[f, length] = min(out[f, length], out[f, length + 1])
    return out


@numba.njit(cache=True)
def concave(table):  # type: ignore[no-untyped-def]
    """The table where it is concave in the length, else a line below it (it may be negative)."""
    out = table.copy()
    for f in (NONE, LOW, HIGH):
        top = longest(table.shape[1] - 1, f)
        bent = False
        for length in range(2, top):
            if 2 * table[f, length] < table[f, length - 1] + table[f, length + 1]:
                bent = True
        if not bent:
            continue
        slope = (table[f, top] - table[f, 1]) / (top - 1)
        base = table[f, 1] - slope
        for length in range(1, top + 1):
            base = min(base, table[f, length] - slope * length)
        for length in range(1, top + 1):
            out[f, length] = base + slope * length
    return out


@numba.njit(cache=True)
def kinds(tables, low, high):  # type: ignore[no-untyped-def]
    """How many contacts differ: 3 where both borders of an axis are alike, in the tables and in
    their multipliers ``low`` and ``high``, else 4."""
    return 3 if (tables[:, LOW] == tables[:, HIGH]).all() and (low == high).all() else 4


@numba.njit(cache=True)
def least_reduced(rows, columns, cap, prices, y, bend, per_pixel):  # type: ignore[no-untyped-def]
    """``[start, variant, class]``: least of price - y . a - G(area) over all tiles within ``cap``,
    infinite where there is none. G(area) is ``y[0]`` per pixel up to ``bend`` pixels and
    ``y[6]`` per pixel beyond; with ``per_pixel``, the least rate up to ``bend`` that a tile
    bears: of (price - y . a - G(area)) / min(area, bend).

    ``rows`` and ``columns`` are tables [tensor, contacts, length], ``rows`` concave. ``prices`` are
    seconds per pixel [class, tensor], fixed ones and those of the need [start, class]; ``y`` is
    [start, variant, 7]. For one width the price is concave in the height, and G is linear on either
    side of ``bend``: the least value lies at an end of one of the two ranges.
    """
    best = np.full((y.shape[0], y.shape[1], len(cap)), np.inf)
    height, width = rows.shape[2] - 1, columns.shape[2] - 1
    kinds_y, kinds_x = kinds(rows, y[..., 1], y[..., 2]), kinds(columns, y[..., 3], y[..., 4])
    heights = np.zeros(4, dtype=np.int64)
    for cls in range(len(cap)):
        own = prices[0][cls], prices[1][:, cls], prices[2][:, cls]
        twin = _twin(cap, prices, cls)
        wanted = np.ones(len(best), dtype=np.bool_)
        if twin < cls:
            wanted[:] = prices[2][:, cls] != prices[2][:, twin]
            best[~wanted, :, cls] = best[~wanted, :, twin]
            if not wanted.any():
                continue
        for fx in range(kinds_x):
            for w in range(shortest(width, fx), longest(width, fx) + 1):
                for fy in range(kinds_y):
                    low = shortest(height, fy)
                    tallest = min(cap[cls] // w, longest(height, fy))
                    at_bend = bend // w
                    heights[:] = tallest, at_bend, at_bend + 1, 0 if per_pixel else 1
                    for k in range(4):
                        h = heights[k]
                        if h < low or h > tallest or (k > 0 and h == tallest):
                            continue
                        tile = rows[:, fy, h], columns[:, fx, w]
                        _reduce(
                            tile, own, wanted, y, (h, w, fy, fx), bend, per_pixel, best[:, :, cls]
                        )
    return best


@numba.njit(cache=True)
def _twin(cap, prices, cls):  # type: ignore[no-untyped-def]
    """The first class whose prices differ from this one's by those of needs at most."""
    for other in range(cls):
        alike = (prices[0][other] == prices[0][cls]).all()
        if cap[other] == cap[cls] and alike and (prices[1][:, other] == prices[1][:, cls]).all():
            return other
    return cls


@numba.njit(cache=True)
def _reduce(tile, prices, wanted, y, shape, bend, per_pixel, best):  # type: ignore[no-untyped-def]
    """Lower ``best`` [start, variant] to the reduced price of one tile."""
    h, w, fy, fx = shape
    top, bottom = fy in (LOW, BOTH), fy in (BOTH, HIGH)
    left, right = fx in (LOW, BOTH), fx in (BOTH, HIGH)
    corners = (int(top) + int(bottom)) * (int(left) + int(right))
    pixel_s, fixed_s, byte_s = prices
    rows, columns = tile
    small = min(w * h, bend)
    more = w * h - small
    scale = 1.0 / small if per_pixel else 1.0
    work = 0.0
    for start in range(len(rows) - 2, -1, -1):
        work += pixel_s[start + 1] * rows[start + 1] * columns[start + 1]
        if start >= len(best) or not wanted[start]:
            continue
        price = work + fixed_s[start] + byte_s[start] * rows[start] * columns[start]
        for v in range(best.shape[1]):
            m = y[start, v]
            less = m[0] * small + m[6] * more + m[5] * corners
            less += w * (m[1] * top + m[2] * bottom) + h * (m[3] * left + m[4] * right)
            best[start, v] = min(best[start, v], (price - less) * scale)


@numba.njit(cache=True)
def least_within(rows, columns, area, pixel_s, fixed_s, extras):  # type: ignore[no-untyped-def]
    """Per [start, class] the least seconds and the least need of any tile of at least ``area``.

    ``rows`` and ``columns`` are rising tables. ``extras`` are layers k with their tables: they
    count from tensor ``at[k]`` on, ``extra_s`` per pixel and at most ``most_s``. Infinite where no
    tile is that large.
    """
    seconds = np.full((rows.shape[0] - 1, len(area)), np.inf)
    need = seconds.copy()
    height, width = rows.shape[2] - 1, columns.shape[2] - 1
    at, extra_rows, extra_columns, extra_s, most_s = extras
    for cls in range(len(area)):
        for fx in range(4):
            for w in range(shortest(width, fx), longest(width, fx) + 1):
                for fy in range(4):
                    h = height if fy == BOTH else max(1, -(-area[cls] // w))
                    if h > longest(height, fy) or h * w < area[cls]:
                        continue
                    tile = rows[:, fy, h] * columns[:, fx, w]
                    extra = np.minimum(
                        extra_rows[:, fy, h] * extra_columns[:, fx, w] * extra_s[:, cls], most_s
                    )
                    work = 0.0
                    for start in range(len(seconds) - 1, -1, -1):
                        work += pixel_s[cls, start + 1] * tile[start + 1]
                        for k in range(len(at)):
                            work += extra[k] * (at[k] == start + 1)
                        seconds[start, cls] = min(seconds[start, cls], work + fixed_s[start, cls])
                        need[start, cls] = min(need[start, cls], tile[start])
    return seconds, need


@numba.njit(cache=True)
def least_giving(rows, columns, kept, caps, prices, weights):  # type: ignore[no-untyped-def]
    """``[start, weight, interval, class]``: min(0, least of w0 x computing - w1 x seconds of what
    a tile keeps) over all tiles within ``caps`` [interval, class].

    ``rows`` are concave, ``kept`` are convex tables of rows and tables of columns, ``prices`` as in
    ``least_reduced`` with those of a kept pixel. So again the ends of the height's range suffice.
    """
    starts, height, width = rows.shape[0] - 1, rows.shape[2] - 1, columns.shape[2] - 1
    best = np.zeros((starts, len(weights), *caps.shape))
    for cls in range(caps.shape[1]):
        pixel_s, fixed_s, kept_s = prices[0][cls], prices[1][:, cls], prices[2][:, cls]
        for fx in range(4):
            for w in range(shortest(width, fx), longest(width, fx) + 1):
                for fy in range(4):
                    before = 0
                    for j in range(-1, len(caps)):
                        h = min(caps[j, cls] // w, longest(height, fy)) if j >= 0 else 1
                        if h < shortest(height, fy) or h == before or h * w > caps[-1, cls]:
                            continue
                        before = h
                        at = 0
                        while caps[at, cls] < h * w:
                            at += 1
                        work = 0.0
                        for start in range(starts - 1, -1, -1):
                            k = start + 1
                            work += pixel_s[k] * rows[k, fy, h] * columns[k, fx, w]
                            keeps = kept_s[start] * kept[0][start, fy, h] * kept[1][start, fx, w]
                            for v in range(len(weights)):
                                price = weights[v, 0] * (work + fixed_s[start])
                                price -= weights[v, 1] * keeps
                                best[start, v, at, cls] = min(best[start, v, at, cls], price)
    for j in range(1, len(caps)):
        best[:, :, j] = np.minimum(best[:, :, j], best[:, :, j - 1])
    return best


@numba.njit(cache=True)
def most_needs(rows, columns, caps):  # type: ignore[no-untyped-def]
    """Per cap [interval, class] the largest need of any tile of at most so many pixels; tables by
    length alone, rising."""
    height, width = len(rows) - 1, len(columns) - 1
    best = np.zeros(caps.shape)
    for j in range(caps.shape[0]):
        for cls in range(caps.shape[1]):
            for w in range(1, width + 1):
                need = rows[min(height, caps[j, cls] // w)] * columns[w]
                best[j, cls] = max(best[j, cls], need)
    return best
