"""One partition of one map, drawn to scale unless it would be a line; halos hatched over it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from nptp_opt.geometry import Tile
from nptp_opt.plot.colours import (
    COLOURS,
    HALO,
    INK,
    MOST_LABELS,
    device_keys,
    legend_columns,
    name_colour,
    paint,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


MOST_SLENDER = 16
"""Ratio of a map's sides above which it fills its panel: a linear layer's map has one column."""

NARROW = 0.15
"""Part of the map's width below which a name is turned."""


def draw_partition(
    tiles: Mapping[int, Tile],
    height: int,
    width: int,
    names: Sequence[str],
    *,
    halos: Sequence[tuple[int, Tile]] = (),
    title: str = "",
    legend: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Draw ``tiles`` (by device number) on a ``height x width`` map, row 0 at the top.

    ``halos`` are rectangles with the device that receives each. Above ``MOST_LABELS`` devices
    names are in a ``legend``, where that is wanted.
    """
    import matplotlib.pyplot as plt
    from matplotlib.patches import Rectangle

    ax = ax or plt.figure(layout="constrained").add_subplot()
    for device, tile in tiles.items():
        corner = (tile.x0, tile.y0)
        ax.add_patch(Rectangle(corner, tile.width, tile.height, lw=0.8, **paint(device)))
    for device, tile in halos:
        colour = COLOURS[device % len(COLOURS)]
        ax.add_patch(Rectangle((tile.x0, tile.y0), tile.width, tile.height, lw=0.4, fc=colour,
                               ec=INK, hatch=HALO))  # fmt: skip
    if len(names) <= MOST_LABELS:
        _label(ax, tiles, names, width)
    elif legend:
        keys = device_keys(names, tiles)
        ax.legend(handles=keys, fontsize=6, loc="upper left", bbox_to_anchor=(1.01, 1.0),
                  ncols=legend_columns(len(keys)))  # fmt: skip
    slender = max(height, width) > MOST_SLENDER * min(height, width)
    aspect = "auto" if slender else "equal"
    ax.set(xlim=(0, width), ylim=(height, 0), aspect=aspect, xticks=[], yticks=[])
    ax.set_title(title, fontsize=7, parse_math=False)
    return ax


def _label(ax: Axes, tiles: Mapping[int, Tile], names: Sequence[str], width: int) -> None:
    """In the middle of each tile, upright where it is narrow."""
    for device, tile in tiles.items():
        middle = (tile.x0 + tile.width / 2, tile.y0 + tile.height / 2)
        narrow = tile.width < NARROW * width and tile.height > tile.width
        ax.text(*middle, names[device], ha="center", va="center", fontsize=6, parse_math=False,
                rotation=90 * narrow, color=name_colour(device))  # fmt: skip
