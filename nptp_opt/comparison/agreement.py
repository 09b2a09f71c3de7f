"""Contradictions between stored results: what one run proves must hold for all others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from nptp_opt.comparison import planning
from nptp_opt.comparison.records import Record

WITHIN: dict[str, frozenset[str]] = {
    "strip": frozenset({"strip"}),
    "grid": frozenset({"strip", "grid"}),
    "column": frozenset({"strip", "column"}),
    "guillotine": frozenset({"strip", "grid", "column", "guillotine"}),
    "dissection": frozenset({"strip", "grid", "column", "guillotine", "dissection"}),
    **planning.WITHIN,
}
"""Families whose partitions belong to a family, itself included."""

TOLERANCE = 2e-6
"""Relative; twice the gap to which methods prove."""


def disagreements(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Every bound that a value of a family within it undercuts, the worst first.

    Two different proven optima of one family are such a case.
    """
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record.instance, []).append(record)
    contradictions = [fault for group in groups.values() for fault in _contradictions(group)]
    return sorted(contradictions, key=lambda fault: -fault["excess"])


def agreements(records: Sequence[Record]) -> list[dict[str, Any]]:
    """By family: on how many instances at least two contenders proved an optimum."""
    proven: dict[tuple[str, str], set[str]] = {}
    for record in records:
        if record.proven and record.family:
            proven.setdefault((record.family, record.instance), set()).add(record.contender)
    bad = {(fault["family"], fault["instance"]) for fault in disagreements(records)}
    rows = []
    for family in WITHIN:
        several = [k for k, who in proven.items() if k[0] == family and len(who) > 1]
        if several:
            wrong = sum(k in bad for k in several)
            agreed = len(several) - wrong
            rows.append({"family": family, "compared": len(several), "agreed": agreed})
    return rows


def _contradictions(group: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """The highest bound of each family against the lowest value within it."""
    group = list(group)
    for family, within in WITHIN.items():
        bounds = [r for r in group if r.family == family and r.bound_s is not None]
        values = [r for r in group if r.family in within and r.value_s is not None]
        if not bounds or not values:
            continue
        bound = max(bounds, key=lambda r: r.bound_s or 0.0)
        value = min(values, key=lambda r: r.value_s or 0.0)
        assert bound.bound_s is not None and value.value_s is not None
        excess = bound.bound_s / value.value_s - 1
        if excess > TOLERANCE:
            yield {
                "instance": value.instance,
                "family": family,
                "bound_by": bound.contender,
                "bound_s": bound.bound_s,
                "value_by": value.contender,
                "value_s": value.value_s,
                "excess": excess,
            }
