"""Rectangles of feature maps: cut out, and put into place. The only place that slices by tiles.

Elements are torch tensors or numpy arrays; both are sliced and assigned to alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from nptp_opt.geometry import Tile

if TYPE_CHECKING:
    from torch import Tensor

Array = np.ndarray[Any, Any]

Crop = tuple[Tile, "Tensor"]
"""A rectangle of a tensor, and its elements (N, C, rows, columns)."""

ArrayCrop = tuple[Tile, Array]
"""The same in numpy."""

Values = TypeVar("Values", "Tensor", Array)


def crop(held: tuple[Tile, Values], tile: Tile) -> Values:
    """View of ``tile``, which lies within what is ``held``; (N, C, 0, 0) where it is empty."""
    region, values = held
    if tile.is_empty:
        return values[..., :0, :0]
    return values[
        ..., tile.y0 - region.y0 : tile.y1 - region.y0, tile.x0 - region.x0 : tile.x1 - region.x0
    ]


def paste(parts: Iterable[tuple[Tile, Values]], into: tuple[Tile, Values]) -> None:
    """Write what ``parts`` have of the rectangle ``into`` to their places in it."""
    for part in parts:
        common = into[0].intersect(part[0])
        if not common.is_empty:
            crop(into, common)[:] = crop(part, common)
