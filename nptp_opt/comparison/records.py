"""Rows of a results file as the report reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from nptp_opt.comparison.planning import family
from nptp_opt.comparison.store import COLUMNS, Store
from nptp_opt.errors import InputError
from nptp_opt.layer.result import TracePoint, relative_gap

NEEDED = tuple(name for name in COLUMNS if name not in {"spec", "termination"})


@dataclass(frozen=True)
class Record:
    """One stored run. ``contender`` is method, solver, and limit where the file has several."""

    contender: str
    family: str | None
    row: Mapping[str, Any]
    execution: Mapping[str, Any] | None = None
    """What ``report --execute`` kept of the plan's execution."""

    @property
    def instance(self) -> str:
        return str(self.row["instance"])

    @property
    def case(self) -> tuple[str, int]:
        """What contenders are compared on: instance and seed."""
        return self.instance, int(self.row["seed"])

    @property
    def limit_s(self) -> float:
        return float(self.row["time_limit_s"])

    @property
    def value_s(self) -> float | None:
        """The evaluated value; None where there is none, or where the check found a fault."""
        if self.row["fault"] is not None or self.row["value_s"] is None:
            return None
        return float(self.row["value_s"])

    @property
    def bound_s(self) -> float | None:
        """Bound over the method's family."""
        return None if self.row["bound_s"] is None else float(self.row["bound_s"])

    @property
    def measured_s(self) -> float | None:
        """Median latency of the executed plan; None where it was not, or failed."""
        if self.value_s is None or self.execution is None:
            return None
        seconds: float | None = self.execution["measured_s"]
        return seconds

    @property
    def proven(self) -> bool:
        """Status optimal, with a result that the check confirms."""
        return self.row["status"] == "optimal" and self.value_s is not None

    @property
    def time_s(self) -> float:
        """Build and solve time of a proven run; the time limit for any other.

        What a network builds is its model, which belongs to no planner: it does not count.
        """
        build_s = self.row["build_s"] if self.row["kind"] == "layer" else None
        spent = (build_s or 0.0) + (self.row["solve_s"] or 0.0)
        return min(self.limit_s, spent) if self.proven else self.limit_s

    @property
    def gap(self) -> float:
        """Final gap; 1 without a value or a bound."""
        gap = relative_gap(self.value_s, self.bound_s)
        return 1.0 if gap is None else gap

    @cached_property
    def trace(self) -> tuple[TracePoint, ...]:
        """Value and bound over time; empty for a run without a value.

        What came in the grace after the limit counts as if it had come at the limit.
        """
        points = self.row["trace"] if self.value_s is not None else None
        return tuple((min(at, self.limit_s), value, bound) for at, value, bound in points or ())


def load_records(store: Store, how: str | None = None) -> list[Record]:
    """All rows, with the executions of one kind; raises InputError for a file without any row.

    ``how`` is "local" or "emulated"; by default the emulated ones where there are any.
    """
    rows = store.executions()
    if how is None:
        how = "emulated" if any(row["how"] == "emulated" for row in rows) else "local"
    executions = {row["key"]: row for row in rows if row["how"] == how}
    return records_of(store.rows(NEEDED), str(store.path), executions)


def records_of(
    rows: Sequence[Mapping[str, Any]],
    where: str = "results",
    executions: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Record]:
    """Records of rows, contenders named so that they can be told apart."""
    if not rows:
        raise InputError(f"{where}: holds no finished run yet")
    families = _families()
    several = len({row["time_limit_s"] for row in rows}) > 1
    return [
        Record(
            contender=_label(row, several),
            family=families.get(row["method"]) if row["kind"] == "layer" else family(row["method"]),
            row=row,
            execution=(executions or {}).get(row["key"]),
        )
        for row in rows
    ]


def _label(row: Mapping[str, Any], with_limit: bool) -> str:
    name = row["method"] if row["solver"] is None else f"{row['method']}/{row['solver']}"
    return f"{name} {row['time_limit_s']:g}s" if with_limit else str(name)


def _families() -> dict[str, str]:
    """Family of every registered method by name."""
    from nptp_opt.layer import registry
    from nptp_opt.layer.solve import solve_layer as _registers_all  # noqa: F401

    return {spec.name: spec.family for spec in registry.specs()}


def by_contender(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Records grouped by contender, in order of appearance."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record.contender, []).append(record)
    return groups


def shared_cases(records: Sequence[Record]) -> list[Record]:
    """Records of the instances and seeds on which every contender has a run."""
    groups = by_contender(records).values()
    shared = set.intersection(*({record.case for record in group} for group in groups))
    return [record for record in records if record.case in shared]


def best_values(records: Iterable[Record]) -> dict[str, float]:
    """Best value of any contender by instance."""
    best: dict[str, float] = {}
    for record in records:
        if record.value_s is not None:
            best[record.instance] = min(record.value_s, best.get(record.instance, record.value_s))
    return best
