"""Figures as files, the same bytes for the same figure: without dates in them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nptp_opt.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Kind = Literal["png", "svg", "pdf"]

KINDS: tuple[Kind, ...] = ("png", "svg", "pdf")

DATED = {
    "png": (),
    "svg": ("Date", "Creator", "Format", "Type"),
    "pdf": ("CreationDate", "Creator"),
}
"""What matplotlib writes of itself and of the day."""

DPI = 150


def write_figure_file(figure: Figure, path: Path, kind: Kind) -> None:
    """The figure at ``path``; raises InputError where that cannot be written."""
    import matplotlib

    unset: dict[str, Any] = dict.fromkeys(DATED[kind])
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "nptp-opt"}):
        figure.savefig(buffer, format=kind, dpi=DPI, metadata=unset or None)
    write_bytes(path, buffer.getvalue())


def write_report_figure(figure: Figure, folder: Path, name: str) -> None:
    """For a report: ``folder/name.svg`` and ``folder/name.pdf``."""
    write_figure_file(figure, folder / f"{name}.svg", "svg")
    write_figure_file(figure, folder / f"{name}.pdf", "pdf")


def new_axes(width: float = 7.0, height: float = 4.4) -> tuple[Figure, Axes]:
    """A figure of so many inches, which no window manager knows of, and its axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()
