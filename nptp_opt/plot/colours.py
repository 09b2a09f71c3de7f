"""How figures show devices: by colour and hatch, named on the spot or, where many, by a legend."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.artist import Artist

COLOURS = ("#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#f0e442", "#d55e00", "#0072b2", "#a6a6a6")
"""Okabe and Ito's, as in the viewer: told apart by all kinds of colour vision."""

HATCHES = ("", "////", "\\\\\\\\", "----", "||||", "xxxx", "++++", "....")
"""From the ninth device on with a pattern: 64 devices look different."""

HALO = "//////"
"""Of what is sent, over the tiles."""

MOST_LABELS = 12
"""Devices up to which names stand in the figure itself."""

INK = "#1b1f24"


def paint(device: int) -> dict[str, Any]:
    """Face colour and hatch of a device's patches."""
    hatch = HATCHES[device // len(COLOURS) % len(HATCHES)]
    return {"facecolor": COLOURS[device % len(COLOURS)], "hatch": hatch, "edgecolor": INK}


def name_colour(device: int) -> str:
    """What is read on a device's colour."""
    return "white" if COLOURS[device % len(COLOURS)] == "#0072b2" else INK


def device_keys(names: Sequence[str], devices: Iterable[int]) -> list[Artist]:
    """What a legend of these devices shows."""
    from matplotlib.patches import Patch

    return [Patch(**paint(i), linewidth=0.5, label=names[i]) for i in sorted(set(devices))]


def legend_columns(count: int, rows: int = 16) -> int:
    """Columns of a legend with so many entries at most ``rows`` high."""
    return -(-count // rows)
