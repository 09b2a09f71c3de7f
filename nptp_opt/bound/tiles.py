"""Least prices over all tiles of the end of a run. Compiled: a bound evaluates millions of tiles.

Tables are those of ``bound.tables``: [tensor, contacts, length].
"""

from __future__ import annotations

import numba
import numpy as np

from nptp_opt.bound.tables import BOTH, HIGH, LOW, longest, shortest

SAMPLED = 12
"""Widths, about, of the tiles that rates are taken over: they only propose."""


@numba.njit(cache=True)
def kinds(tables, low, high):  # type: ignore[no-untyped-def]
    """How many contacts differ: 3 where both borders of an axis are alike, in the tables and in
    their multipliers ``low`` and ``high``, else 4."""
    return 3 if (tables[:, LOW] == tables[:, HIGH]).all() and (low == high).all() else 4


@numba.njit(cache=True)
def least_reduced(tables, areas, starts, prices, y, bend, per_pixel):  # type: ignore[no-untyped-def]
    """``[family, start, class, variant]``: least of price - y . a - G(area) over all tiles with an
    area within the class' range, infinite where there is none. G(area) is ``y[0]`` per pixel up to
    ``bend`` pixels and ``y[6]`` per pixel beyond; with ``per_pixel``, the least rate up to
    ``bend`` that a tile bears: of (price - y . a - G(area)) / min(area, bend), over some tiles.

    ``tables`` are rows and columns of the path and of joins' operands, rows concave; ``areas`` [2,
    class] the least and the most pixels; ``starts`` rise. ``prices``: seconds per computed pixel
    [class, tensor], fixed ones [start, class], the families, which weight seconds and pixels of the
    need, both [family, start, class], and seconds per pixel of operands [operand, start]; ``y`` is
    [start, variant, 7]. For one width the price is concave in the height, and G is linear on either
    side of ``bend``: the least value lies at an end of one of the ranges.
    """
    rows, columns, skip_rows, skip_columns = tables
    variants, classes = y.shape[1], areas.shape[1]
    best = np.full((prices[2].shape[0], len(starts), classes, variants), np.inf)
    height, width = rows.shape[2] - 1, columns.shape[2] - 1
    kinds_y, kinds_x = kinds(rows, y[..., 1], y[..., 2]), kinds(columns, y[..., 3], y[..., 4])
    step = 1 + width // SAMPLED if per_pixel else 1
    heights, scratch = np.zeros(4, dtype=np.int64), (np.zeros(variants), np.zeros(len(starts)))
    turned = np.ascontiguousarray(y.transpose(0, 2, 1))
    for cls in range(classes):
        twin = _twin(areas, prices, cls)
        if twin < cls:
            best[:, :, cls] = best[:, :, twin]
            continue
        for fx in range(kinds_x):
            for w in range(shortest(width, fx), longest(width, fx) + 1, step):
                for fy in range(kinds_y):
                    low = max(shortest(height, fy), -(-areas[0, cls] // w))
                    tallest = min(areas[1, cls] // w, longest(height, fy))
                    at_bend = bend // w
                    heights[:] = tallest, at_bend, at_bend + 1, 0 if per_pixel else low
                    for k in range(4):
                        h = heights[k]
                        if h < low or h > tallest or (k > 0 and h == tallest):
                            continue
                        tile = rows[:, fy, h], columns[:, fx, w]
                        shape = h, w, fy, fx
                        skipped = skip_rows[:, fy, h] * skip_columns[:, fx, w]
                        rates = prices, turned, bend, per_pixel
                        _reduce(tile, shape, skipped, starts, cls, rates, best, scratch)
    return best


@numba.njit(cache=True)
def _worked(tile, pixel_s, starts, seconds):  # type: ignore[no-untyped-def]
    """Fill ``seconds`` [start] of computing a tile's regions of all tensors behind each start."""
    rows, columns = tile
    work, done = 0.0, len(rows)
    for s in range(len(starts) - 1, -1, -1):
        while done > starts[s] + 1:
            done -= 1
            work += pixel_s[done] * rows[done] * columns[done]
        seconds[s] = work


@numba.njit(cache=True)
def _twin(areas, prices, cls):  # type: ignore[no-untyped-def]
    """The first class that is priced like this one."""
    for other in range(cls):
        alike = (areas[:, other] == areas[:, cls]).all()
        alike = alike and (prices[0][other] == prices[0][cls]).all()
        alike = alike and (prices[1][:, other] == prices[1][:, cls]).all()
        alike = alike and (prices[2][:, :, other] == prices[2][:, :, cls]).all()
        if alike and (prices[3][:, :, other] == prices[3][:, :, cls]).all():
            return other
    return cls


@numba.njit(cache=True, fastmath={"nnan", "nsz"})
def _reduce(tile, shape, skipped, starts, cls, rates, best, scratch):  # type: ignore[no-untyped-def]
    """Lower ``best`` [family, start, class, variant] to the reduced price of one tile."""
    h, w, fy, fx = shape
    prices, y, bend, per_pixel = rates
    gains, worked = scratch
    top, bottom = w * (fy in (LOW, BOTH)), w * (fy in (BOTH, HIGH))
    left, right = h * (fx in (LOW, BOTH)), h * (fx in (BOTH, HIGH))
    corners = (top + bottom) * (left + right) / (w * h)
    pixel_s, fixed_s, by_work, by_need, joined = prices
    rows, columns = tile
    small = float(min(w * h, bend))
    more = w * h - small
    scale = 1.0 / small if per_pixel else 1.0
    _worked(tile, pixel_s[cls], starts, worked)
    for s in range(len(starts)):
        seconds, need = worked[s] + fixed_s[s, cls], rows[starts[s]] * columns[starts[s]]
        m, fetched = y[s], 0.0
        for k in range(len(skipped)):
            fetched += joined[k, s] * skipped[k]
        for v in range(len(gains)):
            gain = m[0, v] * small + m[6, v] * more + m[5, v] * corners
            gain += m[1, v] * top + m[2, v] * bottom + m[3, v] * left + m[4, v] * right
            gains[v] = gain
        for f in range(len(best)):
            price = by_work[f, s, cls] * seconds + by_need[f, s, cls] * need + fetched
            out = best[f, s, cls]
            for v in range(len(gains)):
                out[v] = min(out[v], (price - gains[v]) * scale)


@numba.njit(cache=True)
def least_own(tables, areas, starts, prices, extras, before, link, wait_s, overlap):  # type: ignore[no-untyped-def]
    """A device with a tile of at least ``areas`` [interval, class] pixels: least seconds of
    computing [interval, start, class], and least seconds with fetching what it needs beyond what it
    may own [interval, start, before, class]. Infinite where no tile is that large.

    ``tables`` are rising. Areas mostly are; every interval counts the tiles of those above it, too.
    ``prices`` are seconds per pixel [class, tensor] and fixed ones [start, class], ``link`` seconds
    [start, class] of fetching a pixel; ``before`` two arrays [start, before, class]: the most
    pixels that it owns, and that any other device owns, which is the most that one message brings;
    both rise. ``extras`` are layers k with their tables: they count from tensor ``at[k]`` on, per
    pixel [k, class] and at most ``most_s``.
    """
    rows, columns = tables
    at, extra_rows, extra_columns, extra_s, most_s = extras
    intervals, classes = areas.shape
    height, width = rows.shape[2] - 1, columns.shape[2] - 1
    seconds = np.full((intervals, len(starts), classes), np.inf)
    total = np.full((intervals, *before[0].shape), np.inf)
    worked = np.zeros(len(starts))
    tried = np.zeros((4, 4, width + 1), dtype=np.int64)
    for cls in range(classes):
        tried[:] = 0
        for j in range(intervals - 1, -1, -1):
            if j < intervals - 1:
                seconds[j, :, cls], total[j, :, :, cls] = (
                    seconds[j + 1, :, cls],
                    total[j + 1, :, :, cls],
                )
            area = areas[j, cls]
            for fx in range(4):  # from the widest on: the first tiles had better be good ones
                for w in range(longest(width, fx), shortest(width, fx) - 1, -1):
                    for fy in range(4):
                        h = height if fy == BOTH else max(1, -(-area // w))
                        if h > longest(height, fy) or h * w < area or h == tried[fy, fx, w]:
                            continue
                        tried[fy, fx, w] = h
                        _worked((rows[:, fy, h], columns[:, fx, w]), prices[0][cls], starts, worked)
                        for e in range(len(at)):
                            more = extra_rows[e, fy, h] * extra_columns[e, fx, w] * extra_s[e, cls]
                            worked += min(more, most_s[e]) * (starts < at[e])
                        tile = rows[:, fy, h], columns[:, fx, w]
                        rates = prices[1], before, link, wait_s, overlap
                        _own(tile, worked, starts, rates, cls, (seconds[j], total[j]))
    return seconds, total


@numba.njit(cache=True)
def _own(tile, worked, starts, rates, cls, found):  # type: ignore[no-untyped-def]
    """Lower ``found`` to what one tile takes."""
    rows, columns = tile
    fixed_s, (owned, others), link, wait_s, overlap = rates
    seconds, total = found
    for s in range(len(starts)):
        own = worked[s] + fixed_s[s, cls]
        seconds[s, cls] = min(seconds[s, cls], own)
        need = rows[starts[s]] * columns[starts[s]]
        for i in range(owned.shape[1]):
            if own >= total[s, i, cls]:
                break  # the more was owned, the shorter it takes
            more = max(0.0, need - owned[s, i, cls])
            comm = more * link[s, cls]
            if comm > 0.0:
                comm += wait_s * np.ceil(more / max(1.0, others[s, i, cls]))
            both = max(comm, own) if overlap else comm + own
            total[s, i, cls] = min(total[s, i, cls], both)


@numba.njit(cache=True)
def least_giving(tables, kept, areas, starts, prices, weights):  # type: ignore[no-untyped-def]
    """``[2, start, weight, interval, class]``: least of w0 x computing - w1 x seconds of what a
    tile keeps, of any tile of ``areas[1]`` to ``areas[2]`` pixels [interval, class], or none where
    the first is 0; and of tiles with at least ``areas[0]`` (infinite where there is none). The
    ranges widen from interval to interval.

    ``tables`` are concave rows, and columns; ``kept`` convex tables of rows and tables of columns;
    ``prices`` seconds per pixel [class, tensor], fixed ones [start, class] and those of a kept
    pixel [start, class]. So again the ends of the height's range suffice.
    """
    classes, width = areas.shape[2], tables[1].shape[2] - 1
    shape = len(starts), len(weights)
    best = np.full((2, *shape, *areas.shape[1:]), np.inf)
    best[0] = np.where(areas[1] > 0, np.inf, 0.0)
    scratch = np.zeros(shape), np.zeros(shape), np.zeros(shape), np.zeros(len(starts))
    for cls in range(classes):
        for fx in range(4):
            for w in range(shortest(width, fx), longest(width, fx) + 1):
                for fy in range(4):
                    at = w, fy, fx, cls
                    _giving(tables, kept, areas, at, starts, prices, weights, best, scratch)
    for j in range(1, areas.shape[1]):
        best[0, :, :, j] = np.minimum(best[0, :, :, j], best[0, :, :, j - 1])
    return best


@numba.njit(cache=True)
def _giving(tables, kept, areas, at, starts, prices, weights, best, scratch):  # type: ignore[no-untyped-def]
    """Lower ``best`` to the tiles of one width and contacts. In ``best[0]`` later intervals have a
    tile from the first one on that it fits."""
    w, fy, _, cls = at
    height = tables[0].shape[2] - 1
    low, top = shortest(height, fy), longest(height, fy)
    high, small, least, worked = scratch
    last, lower, first = 0, 0, 0  # heights that ``high``, ``small`` and ``least`` are prices of
    for j in range(areas.shape[1]):
        tallest = min(areas[2, j, cls] // w, top)
        lowest, attained = max(low, -(-areas[1, j, cls] // w)), max(low, -(-areas[0, j, cls] // w))
        if tallest < lowest:
            continue
        if lowest != lower:
            lower = lowest
            _give(tables, kept, (lower, *at), starts, prices, weights, small, worked)
            best[0, :, :, j, cls] = np.minimum(best[0, :, :, j, cls], small)
        if tallest != last:
            last = tallest
            _give(tables, kept, (last, *at), starts, prices, weights, high, worked)
            best[0, :, :, j, cls] = np.minimum(best[0, :, :, j, cls], high)
        if tallest >= attained:
            if attained != first:
                first = attained
                _give(tables, kept, (first, *at), starts, prices, weights, least, worked)
            ends = np.minimum(high, least)
            best[1, :, :, j, cls] = np.minimum(best[1, :, :, j, cls], ends)


@numba.njit(cache=True)
def _give(tables, kept, at, starts, prices, weights, out, worked):  # type: ignore[no-untyped-def]
    """Fill ``out`` [start, weight] with one tile's price."""
    h, w, fy, fx, cls = at
    rows, columns = tables
    pixel_s, fixed_s, kept_s = prices
    _worked((rows[:, fy, h], columns[:, fx, w]), pixel_s[cls], starts, worked)
    for s in range(len(starts)):
        seconds = worked[s] + fixed_s[s, cls]
        keeps = kept_s[s, cls] * kept[0][starts[s], fy, h] * kept[1][starts[s], fx, w]
        for v in range(len(weights)):
            out[s, v] = weights[v, 0] * seconds - weights[v, 1] * keeps


@numba.njit(cache=True)
def least_of_pairs(base, comm, seconds, total, kept, sent, sends, can):  # type: ignore[no-untyped-def]
    """``[start, before]``: least over the pairs of giver and largest of the most of ``base`` and
    ``comm`` + ``seconds`` [start, before, giver, largest], ``total`` of the largest and what the
    giver takes, ``sends`` [2, start, before, giver] or ``kept`` [2, start, weight, giver] and
    ``sent`` [weight, start, before, giver]; the second where the two are one (the last entry of
    ``largest``)."""
    starts, intervals, classes = total.shape
    found = np.full((starts, intervals), np.inf)
    for s in range(starts):
        for i in range(intervals):
            for one in range(classes):
                if not can[s, i, one]:
                    continue
                gives, both = sends[0, s, i, one], sends[1, s, i, one]
                for v in range(len(sent)):
                    gives = max(gives, sent[v, s, i, one] + kept[0, s, v, one])
                    both = max(both, sent[v, s, i, one] + kept[1, s, v, one])
                if min(gives, both) >= found[s, i]:
                    continue
                for two in range(classes + 1):
                    b = one if two == classes else two
                    given = both if two == classes else gives
                    slowest = max(total[s, i, b], given, base[s, i, one, two])
                    slowest = max(slowest, comm[s, i, one, two] + seconds[s, b])
                    found[s, i] = min(found[s, i], slowest)
    return found


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
