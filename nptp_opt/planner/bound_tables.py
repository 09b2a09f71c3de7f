"""Least regions of tiles by size and border contacts, and least prices over all tiles.

Tables are [contacts of one axis (0, 1, 2), length]: what a range of that length reads at least,
wherever it lies. Compiled: a bound evaluates millions of tiles.
"""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True)
def least_lengths(first, last):  # type: ignore[no-untyped-def]
    """``[contacts, length]``: shortest hull of what a range reads; ``first`` and ``last`` per
    single output. Lengths that such a range cannot have are -1."""
    n = len(first)
    table = np.full((3, n + 1), -1.0)
    table[2, n] = max(0, last[n - 1] - first[0])
    if first.max() == first.min() and last.max() == last.min():
        table[1, 1:n] = table[2, n]
        table[0, 1 : max(1, n - 1)] = table[2, n]
        return table
    for length in range(1, n):
        low = last[length - 1] - first[0]
        high = last[n - 1] - first[n - length]
        table[1, length] = max(0, min(low, high))
    for length in range(1, n - 1):
        least = last[length] - first[1]
        for a in range(2, n - length):
            least = min(least, last[a + length - 1] - first[a])
        table[0, length] = max(0, least)
    return table


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
    n = table.shape[1] - 1
    for f in range(2):
        top = n - 2 + f
        for length in range(top - 1, 0, -1):
            out[f, length] = min(out[f, length], out[f, length + 1])
    return out


@numba.njit(cache=True)
def concave(table):  # type: ignore[no-untyped-def]
    """The table where it is concave in the length, else a line below it (it may be negative)."""
    out = table.copy()
    n = table.shape[1] - 1
    for f in range(2):
        top = n - 2 + f
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
def least_reduced(rows, columns, cap, prices, y, per_pixel):  # type: ignore[no-untyped-def]
    """``[start, variant, class]``: min(0, least of price - y . a) over all tiles within ``cap``;
    with ``per_pixel`` the least of (price - y . a) / area.

    ``rows`` and ``columns`` are tables [tensor, contacts, length], ``rows`` concave. ``prices`` are
    seconds per pixel [class, tensor], fixed ones and those of the need [start, class]; ``y`` is
    [start, variant, 4]. For one width the price is concave in the height, so its least value lies
    at an end of the range.
    """
    best = np.full((y.shape[0], y.shape[1], len(cap)), np.inf if per_pixel else 0.0)
    height, width = rows.shape[2] - 1, columns.shape[2] - 1
    for cls in range(len(cap)):
        own = prices[0][cls], prices[1][:, cls], prices[2][:, cls]
        for fx in range(3):
            for w in range(width if fx == 2 else 1, width - 1 + fx):
                for fy in range(3):
                    tallest = min(cap[cls] // w, height - 2 + fy)
                    if tallest < (height if fy == 2 else 1):
                        continue
                    tile = rows[:, fy, tallest], columns[:, fx, w]
                    _reduce(tile, own, y, (tallest, w, fy, fx), per_pixel, best[:, :, cls])
                    if fy < 2 and tallest > 1 and not per_pixel:
                        tile = rows[:, fy, 1], columns[:, fx, w]
                        _reduce(tile, own, y, (1, w, fy, fx), per_pixel, best[:, :, cls])
    return best


@numba.njit(cache=True)
def _reduce(tile, prices, y, shape, per_pixel, best):  # type: ignore[no-untyped-def]
    """Lower ``best`` [start, variant] to the reduced price of one tile."""
    h, w, fy, fx = shape
    pixel_s, fixed_s, byte_s = prices
    rows, columns = tile
    scale = 1.0 / (w * h) if per_pixel else 1.0
    work = 0.0
    for start in range(len(best) - 1, -1, -1):
        work += pixel_s[start + 1] * rows[start + 1] * columns[start + 1]
        price = work + fixed_s[start] + byte_s[start] * rows[start] * columns[start]
        for v in range(best.shape[1]):
            m = y[start, v]
            less = m[0] * (w * h) + m[1] * (fy * w) + m[2] * (fx * h) + m[3] * (fy * fx)
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
        for fx in range(3):
            for w in range(width if fx == 2 else 1, width - 1 + fx):
                for fy in range(3):
                    h = height if fy == 2 else max(1, -(-area[cls] // w))
                    if h > height - 2 + fy or h * w < area[cls]:
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
