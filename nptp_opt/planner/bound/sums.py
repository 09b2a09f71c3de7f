"""Least sums over all devices, with two of them apart: the one that attains the level before a run
(the giver) and the one that attains the level after it (the largest). They may be the same."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

from nptp_opt.cost import FloatArray
from nptp_opt.geometry import IntArray
from nptp_opt.planner.bound.ends import End
from nptp_opt.planner.bound.multipliers import Sides, TilePrice, proposed
from nptp_opt.planner.bound.tiles import least_reduced

SAFETY = 1e-10
"""Relative margin by which sums of floats are lowered."""


@dataclass(frozen=True)
class Least:
    """Reduced prices of one end's tiles under some multipliers.

    ``fixed`` [start, variant] are the multipliers times the sums; ``ordinary`` [start, class,
    variant], ``tiles`` and ``largest`` [family, start, class, variant] the least reduced price of
    any tile of an ordinary device, of any tile, and of one that attains the level.
    """

    fixed: FloatArray
    ordinary: FloatArray
    tiles: FloatArray
    largest: FloatArray


def reduced(
    end: End,
    areas: IntArray,
    counts: IntArray,
    price: TilePrice,
    sides: Sides,
    largest: TilePrice | None = None,
) -> Least:
    """Least reduced prices of tiles of at most ``areas[1]`` pixels, of at least ``areas[0]`` for
    the largest, which may have prices of its own."""
    height, width = end.size
    full, rest = filled(areas[1], counts, height * width)
    y = proposed(end, areas[1], counts, price, sides, rest)
    sums = np.array([0, width, width, height, height, 4, 0])
    sums[0], sums[6] = np.minimum(full, rest).sum(), np.maximum(full - rest, 0).sum()
    any_area = np.stack([np.ones_like(areas[1]), areas[1]])
    tables = end.reduced
    starts = price.starts
    tiles = least_reduced(tables, any_area, starts, price.arrays, y, rest, False)
    apart = least_reduced(tables, areas, starts, (largest or price).arrays, y, rest, False)
    size = np.abs(np.where(np.isfinite(tiles[0]), tiles[0], 0.0))
    margin = SAFETY * (np.abs(y) @ sums + np.einsum("scv,c->sv", size, counts))
    return Least(y @ sums - margin, tiles[0], tiles, apart)


def filled(cap: IntArray, counts: IntArray, area: int) -> tuple[IntArray, int]:
    """Areas of tiles that fill the map in the order of their caps, and the last one's."""
    sizes = np.sort(np.repeat(cap, counts))[::-1]
    full = np.minimum(np.cumsum(sizes), area)
    areas = np.diff(full, prepend=0)
    return areas, int(areas[areas > 0][-1])


@numba.njit(cache=True)
def least_sums(fixed, ordinary, giver, largest, counts, owners):  # type: ignore[no-untyped-def]
    """``[family, start, giver, largest]``: most over the variants of the least sum over devices.

    ``ordinary`` [start, class, variant]; ``giver`` [family, start, class, variant] for the giver
    when it is not the largest; ``largest`` [family + 1, start, class, variant]: the first for the
    largest when it is not the giver, the others for the one that is both, which comes last in the
    answer. At least ``owners`` devices have a tile. Infinite where a class is too small.
    """
    families, starts, classes, variants = giver.shape
    out = np.full((families, starts, classes, classes + 1), -np.inf)
    for start in range(starts):
        for v in range(variants):
            each = ordinary[start, :, v]
            order = np.argsort(each)
            for one in range(classes):
                for two in range(classes + 1):
                    both = two == classes
                    rest, taken, total = owners - 1, 0, fixed[start, v]
                    for c in order:
                        left = counts[c] - (c == one) - (c == two)
                        count = left if each[c] < 0 else min(left, rest - (not both) - taken)
                        if count > 0:
                            total += count * each[c]
                            taken += count
                    for f in range(families):
                        value = total
                        if both:
                            value += largest[f + 1, start, one, v]
                        else:
                            value += min(0.0, giver[f, start, one, v]) + largest[0, start, two, v]
                        out[f, start, one, two] = max(out[f, start, one, two], value)
    for one in range(classes):
        if counts[one] < 2:
            out[:, :, one, one] = np.inf
    return out


@numba.njit(cache=True)
def least_shifted(fixed, ordinary, giver, counts, owners, shift):  # type: ignore[no-untyped-def]
    """``[2, start, before, giver]``: as ``least_sums``, with ``shift`` [start, before, giver] added
    to what any device but the giver pays for its tile; ``giver`` [2, start, class, variant] for the
    giver that is not the largest, and for the one that is."""
    starts, classes, variants = ordinary.shape
    out = np.full((2, *shift.shape), -np.inf)
    for start in range(starts):
        for v in range(variants):
            order = np.argsort(ordinary[start, :, v])
            for i in range(shift.shape[1]):
                for one in range(classes):
                    taken, total = 0, fixed[start, v]
                    for c in order:
                        price = ordinary[start, c, v] + shift[start, i, one]
                        left = counts[c] - (c == one)
                        count = left if price < 0 else min(left, owners - 1 - taken)
                        if count > 0:
                            total += count * price
                            taken += count
                    other = total + min(0.0, giver[0, start, one, v])
                    same = total + giver[1, start, one, v]
                    out[0, start, i, one] = max(out[0, start, i, one], other)
                    out[1, start, i, one] = max(out[1, start, i, one], same)
    return out
