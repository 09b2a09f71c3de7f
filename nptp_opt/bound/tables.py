"""Least regions of tiles by size and border contacts.

Tables are [contacts of one axis (0 to 3), length]: what a range of that length reads at least,
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
def least_in_pieces(first, last):  # type: ignore[no-untyped-def]
    """As ``least_lengths`` for a range that may be computed in three pieces, each with a hull of
    its own: the two widest gaps between what neighbouring outputs read are left out."""
    n = len(first)
    table = np.full((4, n + 1), np.inf)
    for a in range(n):
        widest, second = 0, 0
        for b in range(a + 1, n + 1):
            gap = first[b - 1] - last[b - 2] if b > a + 1 else 0
            widest, second = max(widest, gap), max(second, min(widest, gap))
            f = contacts_of(a, b, n)
            table[f, b - a] = min(table[f, b - a], max(0, last[b - 1] - first[a] - widest - second))
    return np.where(np.isinf(table), -1.0, table)


@numba.njit(cache=True)
def contacts_of(a, b, n):  # type: ignore[no-untyped-def]
    """Border contacts of the range ``[a, b)`` of an axis of ``n``."""
    if a == 0:
        return LOW if b < n else BOTH
    return NONE if b < n else HIGH


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
            f = contacts_of(a, b, n)
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
def least_per_output(first, last):  # type: ignore[no-untyped-def]
    """Fewest positions per output that any set of outputs reads; ``first`` and ``last`` per output.

    Where windows follow one another ranges read least; elsewhere a set reads what one output does.
    """
    n = len(first)
    for o in range(n):
        if last[o] <= first[o]:
            return 0.0
    for o in range(1, n):
        if first[o] < first[o - 1] or last[o] < last[o - 1]:
            return (last - first).min() / n
    least = float(last[0] - first[0])
    for a in range(n):
        count = last[a] - first[a]
        least = min(least, float(count))
        for b in range(a + 1, n):
            count += last[b] - max(first[b], last[b - 1])
            least = min(least, count / (b - a + 1))
    return least
