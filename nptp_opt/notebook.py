"""What a notebook shows of a result: a small table, without any library."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any


def short(value: Any) -> str:
    """A figure as people read it: four digits, a dash for what is unknown."""
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def html_table(title: str, rows: Mapping[str, Any]) -> str:
    """A table of two columns: names, and figures with units in their names."""
    lines = (
        f"<tr><th style='text-align:left'>{escape(name)}</th><td>{escape(short(value))}</td></tr>"
        for name, value in rows.items()
    )
    return f"<table><caption>{escape(title)}</caption>{''.join(lines)}</table>"
