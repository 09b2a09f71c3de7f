"""The report as one HTML file: data, styles and script inside, nothing from the network."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from importlib import resources
from typing import Any

from nptp_opt.comparison.measures import gap_curves, profiles
from nptp_opt.comparison.records import Record
from nptp_opt.comparison.tables import BAD, RULES, TITLES
from nptp_opt.layer.result import TracePoint

FIELDS = (
    "instance contender seed ended value_s bound_s gap root_bound_s time_s measured_s wall_s "
    "peak_mib columns rows nodes message partitions trace"
).split()

TRACE_POINTS = 40
"""Most points of a run's value and bound over time; the last is always kept."""

Partition = tuple[str, list[list[Any]]]


def page(records: Sequence[Record], tables: dict[str, list[dict[str, Any]]]) -> str:
    """The page's text."""
    content = {
        "rules": RULES,
        "titles": TITLES,
        "bad": sorted(BAD),
        "tables": tables,
        "curves": _curves(records),
        "fields": FIELDS,
        "runs": [_run(record) for record in records],
    }
    # "</" would end the script element that holds the data.
    data = json.dumps(content, separators=(",", ":"), allow_nan=False).replace("</", "<\\/")
    return _part("page.html").replace("/*SCRIPT*/", _part("page.js")).replace("/*DATA*/", data)


def _part(name: str) -> str:
    return resources.files("nptp_opt.comparison").joinpath(name).read_text("utf-8")


def _curves(records: Sequence[Record]) -> dict[str, Any]:
    curves = {}
    for kind in ("layer", "network"):
        group = [record for record in records if record.row["kind"] == kind]
        if group:
            curves[kind] = {
                "time": profiles(group, "time"),
                "value": profiles(group, "value"),
                "gap": gap_curves(group),
            }
            executed = [record for record in group if record.measured_s is not None]
            if executed:
                curves[kind]["measured"] = profiles(executed, "measured")
    return curves


def _run(record: Record) -> list[Any]:
    own = {
        "contender": record.contender,
        "ended": record.row["status"] or record.row["harness"],
        "gap": record.gap,
        "time_s": record.time_s,
        "measured_s": record.measured_s,
        "message": record.row["fault"] or record.row["message"],
        "partitions": _partitions(record.row["tiles"]),
        "trace": _thin(record.trace),
    }
    return [own[name] if name in own else record.row[name] for name in FIELDS]


def _thin(trace: Sequence[TracePoint]) -> list[TracePoint]:
    step = max(1, math.ceil(len(trace) / TRACE_POINTS))
    return [*trace[:-1][::step], *trace[-1:]]


def _partitions(tiles: list[dict[str, Any]] | None) -> list[Partition]:
    """A layer's one partition, or that of every segment of a plan."""
    if not tiles:
        return []
    if "segment" in tiles[0]:
        return [(part["segment"], _rectangles(part["tiles"])) for part in tiles]
    return [("", _rectangles(tiles))]


def _rectangles(tiles: list[dict[str, Any]]) -> list[list[Any]]:
    return [[t["device"], t["y0"], t["y1"], t["x0"], t["x1"]] for t in tiles]
