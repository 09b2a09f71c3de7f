"""Drawings of partitions: every tile can be seen, whatever the map's shape."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure

from nptp_opt.geometry import Tile
from nptp_opt.plot.partition import draw_partition


@pytest.mark.parametrize(("height", "width"), [(4096, 1), (1, 300), (28, 28)])
def test_every_half_of_a_map_can_be_seen(height: int, width: int) -> None:
    """The map of a linear layer, 4096 x 1, was a line drawn to scale."""
    figure = Figure(figsize=(2, 2), dpi=100)
    middle = height // 2 if height > 1 else 1
    tiles = {0: Tile(0, middle, 0, width)}
    tiles[1] = Tile(middle, height, 0, width) if height > 1 else Tile(0, 0, 0, 0)
    ax = draw_partition(tiles, height, width, ["a", "b"], ax=figure.add_subplot())
    figure.canvas.draw()
    for tile, patch in zip(tiles.values(), ax.patches, strict=True):
        extent = patch.get_window_extent()
        assert tile.is_empty or min(extent.width, extent.height) > 20
