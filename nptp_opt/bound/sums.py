"""Least sums over all devices, with two of them apart: the one that attains the level before a run
(the giver) and the one that attains the level after it (the largest). They may be the same."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

from nptp_opt.bound.ends import End
from nptp_opt.bound.multipliers import Sides, TilePrice, proposed
from nptp_opt.bound.tiles import least_reduced
from nptp_opt.cost import FloatArray
from nptp_opt.geometry import IntArray

SAFETY = 1e-10
"""Relative margin by which sums of floats are lowered."""


@dataclass(frozen=True)
class Least:
    """Reduced prices of one end's tiles under some multipliers.

    ``fixed`` [start, variant] are the multipliers times the sums; ``ordinary`` [start, class,
    variant], ``tiles`` and ``largest`` [family, start, class, variant] the least reduced price of
    any tile of an ordinary device, of any tile, and of one that attains the level. Devices of the
    classes that ``must`` have a tile, for all others cannot fill the map.
    """

    fixed: FloatArray
    ordinary: FloatArray
    tiles: FloatArray
    largest: FloatArray
    must: npt.NDArray[np.bool_]


def reduced(
    end: End,
    areas: IntArray,
    counts: IntArray,
    price: TilePrice,
    sides: Sides,
    largest: TilePrice | None = None,
) -> Least:
    """Least reduced prices of tiles of ``areas[1]`` to ``areas[2]`` pixels, of at least
    ``areas[0]`` for the largest, which may have prices of its own."""
    height, width = end.size
    least, floor, most = areas
    full, rest = filled(most, counts, height * width)
    y = proposed(end, most, counts, price, sides, rest)
    sums = np.array([0, width, width, height, height, 4, 0])
    sums[0], sums[6] = np.minimum(full, rest).sum(), np.maximum(full - rest, 0).sum()
    any_area, large = np.array([np.maximum(1, floor), most]), np.array([least, most])
    tables = end.reduced
    starts = price.starts
    tiles = least_reduced(tables, any_area, starts, price.arrays, y, rest, False)
    apart = least_reduced(tables, large, starts, (largest or price).arrays, y, rest, False)
    size = np.abs(np.where(np.isfinite(tiles[0]), tiles[0], 0.0))
    margin = SAFETY * (np.abs(y) @ sums + np.einsum("scv,c->sv", size, counts))
    return Least(y @ sums - margin, tiles[0], tiles, apart, floor > 0)


def filled(cap: IntArray, counts: IntArray, area: int) -> tuple[IntArray, int]:
    """Areas of tiles that fill the map in the order of their caps, and the last one's."""
    sizes = np.sort(np.repeat(cap, counts))[::-1]
    areas = np.minimum(np.cumsum(sizes), area)
    areas[1:] -= areas[:-1].copy()
    return areas, int(areas[areas > 0][-1])


@numba.njit(cache=True)
def least_sums(fixed, ordinary, giver, largest, counts, owners, must):  # type: ignore[no-untyped-def]
    """``[family, start, giver, largest]``: most over the variants of the least sum over devices.

    ``ordinary`` [start, class, variant]; ``giver`` [family, start, class, variant] for the giver
    when it is not the largest; ``largest`` [family + 1, start, class, variant]: the first for the
    largest when it is not the giver, the others for the one that is both, which comes last in the
    answer. At least ``owners`` devices have a tile, and all of the classes that ``must``. Infinite
    where a class is too small.
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
                    left, rest = _others(counts, one, two), owners - 1 - (not both)
                    total = fixed[start, v] + _ordinary(each, 0.0, order, left, rest, must)
                    for f in range(families):
                        value = total
                        if both:
                            value += largest[f + 1, start, one, v]
                        else:
                            given = giver[f, start, one, v]
                            value += given if must[one] else min(0.0, given)
                            value += largest[0, start, two, v]
                        out[f, start, one, two] = max(out[f, start, one, two], value)
    for one in range(classes):
        if counts[one] < 2:
            out[:, :, one, one] = np.inf
    return out


@numba.njit(cache=True)
def _others(counts, one, two):  # type: ignore[no-untyped-def]
    """Devices of every class but one device of class ``one``, and one of class ``two`` if any."""
    left = counts.copy()
    left[one] -= 1
    if two < len(left):
        left[two] -= 1
    return left


@numba.njit(cache=True)
def _ordinary(each, shift, order, left, rest, must):  # type: ignore[no-untyped-def]
    """Least sum of ``each`` [class] + ``shift`` over devices, ``left`` of every class: those that
    ``must`` have a tile, those that gain by one, and until there are ``rest`` the cheapest."""
    taken, total = 0, 0.0
    for c in range(len(each)):
        if left[c] > 0 and (must[c] or each[c] + shift < 0.0):
            total += left[c] * (each[c] + shift)
            taken += left[c]
    for c in order:
        if not (must[c] or each[c] + shift < 0.0):
            count = min(left[c], rest - taken)
            if count > 0:
                total += count * (each[c] + shift)
                taken += count
    return total


@numba.njit(cache=True)
def least_shifted(fixed, ordinary, giver, counts, owners, must, shift):  # type: ignore[no-untyped-def]
    """``[2, start, before, giver]``: as ``least_sums``, with ``shift`` [start, before, giver] added
    to what any device but the giver pays for its tile; ``giver`` [2, start, class, variant] for the
    giver that is not the largest, and for the one that is."""
    starts, classes, variants = ordinary.shape
    out = np.full((2, *shift.shape), -np.inf)
    for start in range(starts):
        for v in range(variants):
            each = ordinary[start, :, v]
            order = np.argsort(each)
            for i in range(shift.shape[1]):
                for one in range(classes):
                    left, more = _others(counts, one, classes), shift[start, i, one]
                    total = fixed[start, v] + _ordinary(each, more, order, left, owners - 1, must)
                    other = giver[0, start, one, v]
                    other = total + (other if must[one] else min(0.0, other))
                    same = total + giver[1, start, one, v]
                    out[0, start, i, one] = max(out[0, start, i, one], other)
                    out[1, start, i, one] = max(out[1, start, i, one], same)
    return out
