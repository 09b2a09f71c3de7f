"""The report as one dictionary of tables, and its forms in Markdown and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from nptp_opt.comparison import measures
from nptp_opt.comparison.agreement import agreements, disagreements
from nptp_opt.comparison.records import Record
from nptp_opt.plot.tables import cell

RULES = (
    "A run that proved nothing counts with its time limit. Times are build plus solve in seconds, "
    "of networks without loading the model; "
    f"time_s is their shifted geometric mean with a shift of {measures.SHIFT_S:g} s. Means are "
    "over the instances and seeds that every contender of the same kind has run (shared). ratio "
    "is the geometric mean of value / best value of any contender. Optimal means proven within "
    "the contender's own family."
)

TITLES = {
    "disagreements": "Contradictions: a bound above a value that it should bound",
    "agreement": "Agreement of proven optima",
    "summary": "Contenders",
    "usage": "What plans cost and use (geometric means)",
    "executed": "Measured latencies of executed plans",
    "unexecuted": "Plans that could not be executed",
    "sizes": "Model sizes (medians)",
    "roots": "Bounds at the root, as a part of the family's best value",
    "wins": "Pairwise wins by value (row against column)",
    "failures": "Runs that did not finish",
    "faults": "Runs whose result the check rejects",
}

BAD = frozenset({"disagreements", "faults", "unexecuted"})
"""Tables that are shown in red."""

CSV_FIELDS = tuple(
    "instance kind method solver seed time_limit_s harness status message fault value_s bound_s "
    "any_bound_s root_bound_s synchronous_s nodes rows columns nonzeros integers build_s solve_s "
    "bound_s_seconds "
    "wall_s cpu_s peak_mib stdout_bytes started_at tool key".split()
)
MEASURED_FIELDS = ("how", "measured_s", "fastest_s", "slowest_s", "repeats")


def tables(records: Sequence[Record]) -> dict[str, list[dict[str, Any]]]:
    """All tables by name; layers and networks are compared apart."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in TITLES}
    for kind in ("layer", "network"):
        group = [record for record in records if record.row["kind"] == kind]
        if group:
            found["disagreements"] += disagreements(group)
            found["agreement"] += agreements(group)
            found["summary"] += measures.summary(group)
            found["usage"] += measures.usage(group) if kind == "network" else []
            found["executed"] += measures.executed(group)
            found["sizes"] += measures.sizes(group)
            found["roots"] += measures.roots(group)
            found["wins"] += measures.wins(group)
    found["failures"] = _failures(records)
    found["faults"] = [
        {"instance": r.instance, "contender": r.contender, "fault": r.row["fault"]}
        for r in records
        if r.row["fault"] is not None
    ]
    found["unexecuted"] = [
        {"instance": r.instance, "contender": r.contender, "message": r.execution["message"]}
        for r in records
        if r.execution is not None and r.execution["measured_s"] is None
    ]
    return found


def _failures(records: Sequence[Record]) -> list[dict[str, Any]]:
    """How often each contender failed in one way, and an instance where it did."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for r in records:
        harness, message = r.row["harness"], r.row["message"] or ""
        if harness != "finished":
            row = {"contender": r.contender, "harness": harness, "runs": 0, "first": r.instance}
            kept = found.setdefault((r.contender, harness, message), row | {"message": message})
            kept["runs"] += 1
    return list(found.values())


def alike(rows: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Rows by their columns: who beat whom has others for layers than for networks."""
    found: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(tuple(row), []).append(row)
    return list(found.values())


def to_markdown(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """The tables as Markdown, contradictions first."""
    parts = [f"# Comparison\n\n{RULES}\n"]
    for name, title in TITLES.items():
        if found[name]:
            blocks = (_markdown_table(block) for block in alike(found[name]))
            parts.append(f"## {title}\n\n" + "\n\n".join(blocks) + "\n")
    if not found["disagreements"]:
        parts.insert(1, "No contradictions.\n")
    return "\n".join(parts)


def _markdown_table(rows: Sequence[Mapping[str, Any]]) -> str:
    keys = list(rows[0])
    lines = ["| " + " | ".join(keys) + " |", "|" + "---|" * len(keys)]
    for row in rows:
        cells = (cell(row.get(key)).replace("|", "\\|") for key in keys)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def to_csv(records: Sequence[Record]) -> str:
    """One line per run."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*CSV_FIELDS, *measures.USED, *MEASURED_FIELDS])
    for record in records:
        measured = record.execution or {}
        own = [record.row[name] for name in CSV_FIELDS]
        notes = record.row["notes"] or {}
        used = [notes.get(name) for name in measures.USED]
        writer.writerow([*own, *used, *(measured.get(name) for name in MEASURED_FIELDS)])
    return text.getvalue()
