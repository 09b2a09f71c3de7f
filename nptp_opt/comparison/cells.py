"""What a cell of a results file may hold: reports compute with it, and files come from others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from nptp_opt.comparison.runs import HARNESS
from nptp_opt.files import Strict

MOST = 1e15
"""Of any number: sums and ratios of such ones are finite."""

KINDS: Mapping[str, type | tuple[type, ...]] = {"TEXT": str, "REAL": (int, float), "INTEGER": int}

WORDS = {"harness": HARNESS, "kind": ("layer", "network"), "how": ("local", "emulated")}
"""The values of columns that have few."""

Number = Annotated[float, Field(ge=-MOST, le=MOST, allow_inf_nan=False)]


class Rectangle(Strict):
    """A tile as the page draws it."""

    device: str
    y0: int
    y1: int
    x0: int
    x1: int


class Segment(Strict):
    """A plan's partition, by its segment's last layer."""

    segment: str
    tiles: list[Rectangle]


PARSED: Mapping[str, TypeAdapter[Any]] = {
    "tiles": TypeAdapter(list[Rectangle] | list[Segment]),
    "trace": TypeAdapter(list[tuple[Number, Number | None, Number | None]]),
    "notes": TypeAdapter(dict[str, str | Number | None]),
    "spec": TypeAdapter(dict[str, Any]),
}
"""Columns of JSON."""


def cell_fault(name: str, declared: str, value: Any) -> str | None:
    """What is wrong with a parsed cell of a column that SQLite knows by ``declared``."""
    kind, *more = declared.split()
    if value is None:
        return f"{name} is empty" if more else None
    if name in PARSED:
        return _parsed_fault(name, value)
    fits = isinstance(value, KINDS[kind]) and value in WORDS.get(name, (value,))
    least = -MOST if "bound" in name else 0  # a relaxation may be below nothing by rounding
    finite = not isinstance(value, (int, float)) or least <= value <= MOST
    return None if fits and finite else f"{name} is {value!r}"


def _parsed_fault(name: str, value: Any) -> str | None:
    try:
        PARSED[name].validate_python(value)
    except ValidationError as error:
        return f"{name}: {error.errors()[0]['msg']}"
    return None


def row_fault(row: Mapping[str, Any], columns: Mapping[str, str]) -> str | None:
    """The first cell of a row that no run writes, in words."""
    faults = (cell_fault(name, columns[name], value) for name, value in row.items())
    fault = next((each for each in faults if each), None)
    if fault is None and row.get("kind") == "network":
        used = (row.get("notes") or {}).values()
        return "notes: a network's are numbers" if any(isinstance(v, str) for v in used) else None
    return fault
