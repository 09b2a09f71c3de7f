"""Rectangles of feature maps: cut out, and put into place. The only place that slices by tiles."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from nptp_opt.geometry import Tile

Crop = tuple[Tile, Tensor]
"""A rectangle of a tensor, and its elements (N, C, rows, columns)."""


def crop(held: Crop, tile: Tile) -> Tensor:
    """View of ``tile``, which lies within what is ``held``; (N, C, 0, 0) where it is empty."""
    region, values = held
    if tile.is_empty:
        return values[..., :0, :0]
    return values[
        ..., tile.y0 - region.y0 : tile.y1 - region.y0, tile.x0 - region.x0 : tile.x1 - region.x0
    ]


def paste(parts: Iterable[Crop], into: Crop) -> None:
    """Write what ``parts`` have of the rectangle ``into`` to their places in it."""
    for part in parts:
        common = into[0].intersect(part[0])
        if not common.is_empty:
            crop(into, common).copy_(crop(part, common))
