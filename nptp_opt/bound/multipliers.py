"""Multipliers of the sums that every partition satisfies, as proposals: whatever they are, what
they prove is computed from them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from nptp_opt.bound.ends import End
from nptp_opt.bound.tables import BOTH, HIGH, LOW, NONE
from nptp_opt.bound.tiles import least_reduced
from nptp_opt.cost import FloatArray
from nptp_opt.geometry import IntArray
from nptp_opt.search.lp import ColumnLP

SCALES = np.array([0.0, 0.4, 0.7, 1.0])
"""Multiples of the proposed multipliers that are tried; deep runs want smaller ones."""

BENT_SCALES = [3, 4]
BENDS = np.array([0.5, 0.8])
"""Proposals and parts of the area's multiplier that are tried for pixels beyond the last tile's."""

UNIT_GRID = {2: 48, 4: 24}
"""Widths of the tiles that proposals are computed from, for up to so many classes; 12 for more."""

TILTS = 8
"""Parts into which the share of vertical sides is rounded for proposals."""


@dataclass(frozen=True)
class TilePrice:
    """Prices of any tile: seconds per pixel [class, tensor] of every tensor that is computed, and
    what is fixed [start, class]; weights of these seconds and of a pixel of the need, both [family,
    start, class], for some ``starts``; seconds [operand, start] of fetching a pixel of what joins
    read. The first family is that of ordinary devices."""

    starts: IntArray
    pixel: FloatArray
    fixed: FloatArray
    by_work: FloatArray
    by_need: FloatArray
    joined: FloatArray

    @property
    def arrays(self) -> tuple[FloatArray, ...]:
        return self.pixel, self.fixed, self.by_work, self.by_need, self.joined

    @property
    def ordinary(self) -> tuple[FloatArray, ...]:
        return self.pixel, self.fixed, self.by_work[:1], self.by_need[:1], self.joined


@dataclass(frozen=True)
class Sides:
    """Half the price [start] of a cut across the whole map, ``across`` or ``along`` it, and the
    part of it that falls to the tile behind the cut (whose first end is then no border)."""

    across: FloatArray
    top: FloatArray
    along: FloatArray
    left: FloatArray


def proposed(
    end: End, cap: IntArray, counts: IntArray, price: TilePrice, sides: Sides, rest: int
) -> FloatArray:
    """Multipliers [start, variant, 7] of area, top, bottom, left, right, corners, and of pixels
    beyond ``rest``, for tiles of at most ``cap`` [class] pixels."""
    height, width = end.size
    y = _borders(cap, counts, sides, height * width)
    y[:, :, 1:6] /= np.array([width, width, height, height, 4])
    tables, areas = end.reduced, np.array([np.ones_like(cap), cap])
    rates = least_reduced(tables, areas, price.starts, price.ordinary, y, height * width, True)[0]
    return np.concatenate([*_linear(y, rates), _bent(tables, areas, price, y, rates, rest)], axis=1)


def _linear(y: FloatArray, rates: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Variants of ``y`` whose multiplier of the area is what a tile's pixel costs at least, in the
    cheapest or in the dearest class (a source that needs nothing must not set it)."""
    low, high = y.copy(), y.copy()
    low[:, :, 0] = low[:, :, 6] = rates.min(axis=1)
    high[:, :, 0] = high[:, :, 6] = np.where(np.isfinite(rates), rates, -np.inf).max(axis=1)
    return low, high


def _bent(
    tables: tuple[FloatArray, ...],
    areas: IntArray,
    price: TilePrice,
    y: FloatArray,
    rates: FloatArray,
    rest: int,
) -> FloatArray:
    """Variants of ``y`` that charge less for pixels beyond ``rest`` and as much as tiles bear for
    those before: tiles that do not fill the map evenly cost more than their part of it."""
    if rest >= areas[1].max():
        return y[:, :0]
    bent = np.repeat(y[:, BENT_SCALES], len(BENDS), axis=1)
    least = rates.min(axis=1)[:, BENT_SCALES, None]
    bent[:, :, 6] = (least * BENDS).reshape(len(y), -1)
    rates = least_reduced(tables, areas, price.starts, price.ordinary, bent, rest, True)[0]
    bent[:, :, 0] = rates.min(axis=1)
    bent[:, :, 6] = np.minimum(bent[:, :, 0], bent[:, :, 6])
    return bent


def _borders(cap: IntArray, counts: IntArray, sides: Sides, area: int) -> FloatArray:
    """Proposed sums [start, proposal, 7] of the borders' and corners' prices; of the area 0. The
    last takes every side for an inner one, on borders too."""
    total = sides.across + sides.along
    relative = tuple(round(float(c) / area, 6) for c in cap)
    share = np.divide(sides.along, total, out=np.full_like(total, 0.5), where=total > 0)
    tilts = np.round(share * TILTS).astype(np.int64).tolist()
    counted = tuple(counts.tolist())
    known = {tilt: unit_multipliers(relative, counted, tilt / TILTS) for tilt in {*tilts}}
    unit = np.array([known[tilt] for tilt in tilts])
    sums = np.zeros((len(total), len(SCALES) + 1, unit.shape[1]))
    sums[:, :-1] = SCALES[None, :, None] * unit[:, None]
    sums[:, -1, 1], sums[:, -1, 2] = -2 * (1 - share), -2 * share
    sums *= total[:, None, None]
    top, left = sides.top[:, None], sides.left[:, None]
    y = np.zeros((*sums.shape[:2], 7))
    y[..., 1], y[..., 2] = sums[..., 1] * top, sums[..., 1] * (1 - top)
    y[..., 3], y[..., 4] = sums[..., 2] * left, sums[..., 2] * (1 - left)
    y[..., 5] = sums[..., 3]
    return y


def sides_of(end: End, counts: IntArray, price: TilePrice) -> Sides:
    """What cuts cost ordinary devices."""
    rows, columns, skips = end.rows, end.columns, end.skips
    operands = skips.rows, skips.columns[:, BOTH, -1]
    across = _side(rows, columns[:, BOTH, -1], operands, counts, price)
    operands = skips.columns, skips.rows[:, BOTH, -1]
    along = _side(columns, rows[:, BOTH, -1], operands, counts, price)
    return Sides(*across, *along)


def _side(
    axis: FloatArray,
    other: FloatArray,
    operands: tuple[FloatArray, FloatArray],
    counts: IntArray,
    price: TilePrice,
) -> tuple[FloatArray, FloatArray]:
    weight, size = counts / counts.sum(), axis.shape[2] - 1
    need = price.by_need[0] @ counts / np.maximum(1, (price.by_need[0] > 0) @ counts)

    def of(contacts: int, length: int) -> FloatArray:
        region = axis[:, contacts, length] * other
        computed = np.cumsum((price.pixel * region)[:, :0:-1], axis=1)[:, ::-1][:, price.starts]
        worked = (price.by_work[0] * computed.T) @ weight
        joined = (operands[0][:, contacts, length] * operands[1]) @ price.joined
        return np.asarray(worked + need * region[price.starts] + joined)

    if size < 2:
        return np.zeros_like(need), np.full_like(need, 0.5)
    half = size // 2
    cut = of(LOW, half) + of(HIGH, size - half) - of(BOTH, size)
    even = np.full_like(cut, 0.5)
    if size < 3 or (axis[:, LOW] == axis[:, HIGH]).all():
        return np.maximum(cut, 0.0) / 2, even
    inner = max(1, min(half, size - 2))
    first, last = (np.maximum(of(NONE, inner) - of(f, inner), 0.0) for f in (LOW, HIGH))
    part = np.divide(first, first + last, out=even, where=first + last > 0)
    return np.maximum(cut, 0.0) / 2, part


@lru_cache(maxsize=4096)
def unit_multipliers(
    caps: tuple[float, ...], counts: tuple[int, ...], tilt: float
) -> tuple[float, ...]:
    """Multipliers of the inner sides of a unit square's partition with tiles of at most ``caps``.

    A side between tiles costs its length, times ``tilt`` where it is vertical and ``1 - tilt``
    where it is horizontal.
    """
    lp = ColumnLP(n_equal=4, limits=np.array(counts, dtype=float), penalty=20.0)
    grid = next((size for most, size in UNIT_GRID.items() if len(caps) <= most), 12)
    widths = np.arange(1, grid + 1) / grid
    u, fy, fx = (axis.ravel() for axis in np.meshgrid(widths, range(3), range(3)))
    fits = np.where(fx == 2, u == 1, u < 1)
    u, fy, fx = u[fits], fy[fits], fx[fits]
    for cls, cap in enumerate(caps):
        tallest = np.minimum(cap / u, 1.0)
        for height in (tallest, np.minimum(tallest, 1.0 / grid)):
            v = np.where(fy == 2, 1.0, height)
            ok = (v <= tallest) & (v > 0)
            cost = (1 - tilt) * (2 - fy) * u + tilt * (2 - fx) * v
            rows = np.stack([u * v, fy * u / 2, fx * v / 2, fy * fx / 4], axis=1)
            lp.add(cost[ok], rows[ok], np.full(int(ok.sum()), cls))
    return tuple(float(value) for value in lp.duals()[:4])
