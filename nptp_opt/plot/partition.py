"""One partition of one map, drawn to scale unless it would be a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from nptp_opt.geometry import Tile

if TYPE_CHECKING:
    from matplotlib.axes import Axes


MOST_SLENDER = 16
"""Ratio of a map's sides above which it fills its panel: a linear layer's map has one column."""


def draw_partition(
    tiles: Mapping[int, Tile],
    height: int,
    width: int,
    names: Sequence[str],
    *,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw ``tiles`` (by device number) on a ``height x width`` map, row 0 at the top."""
    import matplotlib.pyplot as plt
    from matplotlib.patches import Rectangle

    ax = ax or plt.figure().add_subplot()
    colours = plt.get_cmap("tab20")
    for device, tile in tiles.items():
        corner = (tile.x0, tile.y0)
        face = colours(device % 20)
        ax.add_patch(Rectangle(corner, tile.width, tile.height, fc=face, ec="black", lw=0.8))
        middle = (tile.x0 + tile.width / 2, tile.y0 + tile.height / 2)
        ax.text(*middle, names[device], ha="center", va="center", fontsize=6, parse_math=False)
    slender = max(height, width) > MOST_SLENDER * min(height, width)
    aspect = "auto" if slender else "equal"
    ax.set(xlim=(0, width), ylim=(height, 0), aspect=aspect, xticks=[], yticks=[])
    ax.set_title(title, fontsize=7, parse_math=False)
    return ax
