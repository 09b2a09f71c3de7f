"""Lower prices of every run of a path, by the level of the partition after it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from nptp_opt.cluster import Cluster
from nptp_opt.cost import FloatArray
from nptp_opt.geometry import IntArray
from nptp_opt.network.ir import Layer
from nptp_opt.planner.bound_chain import Chain
from nptp_opt.planner.bound_devices import Levels, classes_of
from nptp_opt.planner.bound_ends import End, end_of
from nptp_opt.planner.bound_tables import least_reduced, least_within, most_needs
from nptp_opt.search.lp import ColumnLP

SCALES = np.array([0.0, 0.4, 0.7, 1.0])
"""Multiples of the proposed multipliers that are tried; deep runs want smaller ones."""

SAFETY = 1e-10
"""Relative margin by which sums of floats are lowered."""

UNIT_GRID = 48
TILTS = 8
"""Parts into which the share of vertical sides is rounded for proposals."""


@dataclass(frozen=True)
class TilePrice:
    """A price of tiles: seconds per pixel [class, tensor] of every tensor that is computed, and
    what is fixed and what a pixel of the need costs, both [start, class]."""

    pixel: FloatArray
    fixed: FloatArray
    need: FloatArray


@dataclass(frozen=True)
class Prices:
    """Lower prices of all runs [start, interval] that end at one tensor.

    ``needed`` pixels over all devices (of tensor 0, over all but the source), ``mean_s`` seconds
    weighted by share. The rest is also by class of the device that attains the level after:
    seconds that it computes, pixels that it needs at least, and at most. ``barred`` is infinite
    for intervals that hold no partition; ``unread`` [start] pixels may be read by nobody.
    """

    barred: FloatArray
    needed: FloatArray
    mean_s: FloatArray
    attained_s: FloatArray
    least_need: FloatArray
    most_need: FloatArray
    unread: FloatArray


def _no_prices(unread: FloatArray, intervals: int, classes: int) -> Prices:
    shape = len(unread), intervals
    by_class = np.zeros((3, *shape, classes))
    barred = np.zeros(intervals)
    needed, mean = np.zeros(shape), np.zeros(shape)
    return Prices(barred, needed, mean, by_class[0], by_class[1], by_class[2], unread)


class Pricing:
    """Prices the runs of one chain on one cluster; ``read`` are pixels that every plan computes."""

    def __init__(self, chain: Chain, cluster: Cluster, read: dict[str, int]) -> None:
        self.chain, self.cluster, self.read = chain, cluster, read
        self.classes = classes_of(chain, cluster)

    def balanced_s(self, layer: Layer) -> float:
        """Seconds of a layer's read pixels at perfect balance, nothing fixed."""
        speed = float(self.classes.flop_per_s(layer) @ self.classes.counts)
        return self.read[layer.name] * layer.flop_per_pixel / speed

    def prices(self, at: int, levels: Levels) -> Prices:
        """Prices of all runs that end at tensor ``at``."""
        end, classes = end_of(self.chain, at), self.classes
        area = self.chain.areas[at]
        caps, least = levels.caps(classes, end.size), levels.attained(classes, end.size)
        unread = np.array(self.chain.areas[:at], dtype=np.float64) - end.read
        found = _no_prices(unread, len(caps), len(classes.members))
        computing, moving, both = self._computing(at), self._moving(at), self._both(at)
        for k, tables in end.most.items():
            found.most_need[k] = most_needs(*tables, caps)
        for j, (cap, wanted) in enumerate(zip(caps, least, strict=True)):
            possible = cap >= wanted
            seconds, need = self._attained(end, wanted, computing)
            found.attained_s[:, j] = np.where(possible, seconds, np.inf)
            found.least_need[:, j] = np.where(possible, need, np.inf)
            if cap @ classes.counts < area or not possible.any():
                found.barred[j] = np.inf
                continue
            found.needed[:, j] = self._total(end, cap, moving)
            found.mean_s[:, j] = self._total(end, cap, both)
        return found

    def _computing(self, at: int) -> TilePrice:
        classes = self.classes
        nothing = np.zeros((len(classes.members), 1))
        pixel = np.hstack([nothing, classes.pixel_s[:, :at]])
        fixed = np.cumsum(classes.fixed_s[:, at - 1 :: -1], axis=1)[:, ::-1].T
        return TilePrice(pixel, fixed, np.zeros_like(fixed))

    def _moving(self, at: int) -> TilePrice:
        """Pixels of the need; the source has the input."""
        need = np.ones((at, len(self.classes.members)))
        need[0, self.classes.source] = 0.0
        return TilePrice(np.zeros((need.shape[1], at + 1)), np.zeros_like(need), need)

    def _both(self, at: int) -> TilePrice:
        """Seconds weighted by share (switched), or of the medium and the weighted computing."""
        classes, computing, moving = self.classes, self._computing(at), self._moving(at)
        share = classes.share
        bytes_ = np.array(self.chain.pixel_bytes[:at], dtype=float)[:, None]
        byte_s = np.tile(
            classes.seconds_per_byte() * (1.0 if self.cluster.shared else share), (at, 1)
        )
        if not self.cluster.shared:
            byte_s[0] += classes.seconds_per_byte(up=True)[classes.source] * share[classes.source]
        need = moving.need * bytes_ * byte_s
        return TilePrice(computing.pixel * share[:, None], computing.fixed * share, need)

    def _attained(
        self, end: End, wanted: IntArray, computing: TilePrice
    ) -> tuple[FloatArray, FloatArray]:
        """Least seconds and least need [start, class] of a device with at least ``wanted``."""
        extras, classes = end.extras, self.classes
        extra_s = np.array([x.flop_per_pixel / classes.flop_per_s(x) for x in extras.layers])
        most_s = np.array([self.balanced_s(layer) for layer in extras.layers])
        extra_s = extra_s.reshape(len(most_s), len(classes.members))
        layers = extras.at, extras.rows, extras.columns, extra_s, most_s
        seconds, need = least_within(*end.rising, wanted, computing.pixel, computing.fixed, layers)
        return seconds, need

    def _total(self, end: End, cap: IntArray, price: TilePrice) -> FloatArray:
        """Lower bound [start] of the total price over all partitions within ``cap``."""
        counts, (height, width) = self.classes.counts, end.size
        sums = np.array([height * width, 2 * width, 2 * height, 4])
        tables = end.concave_rows, end.columns, cap, (price.pixel, price.fixed, price.need)
        y = _multipliers(end, cap, counts, price) / sums
        y = _with_area(y, least_reduced(*tables, y, True))
        least = least_reduced(*tables, y, False)
        margin = SAFETY * (np.abs(y) @ sums + np.abs(least) @ counts)
        return np.asarray((y @ sums + least @ counts - margin).max(axis=1))


def _with_area(y: FloatArray, per_pixel: FloatArray) -> FloatArray:
    """Variants of ``y`` whose multiplier of the area is what a tile's pixel costs at least, in the
    cheapest or in the dearest class (a source that needs nothing must not set it)."""
    low, high = y.copy(), y.copy()
    low[:, :, 0] = np.minimum.reduce(per_pixel, axis=2)
    high[:, :, 0] = np.where(np.isfinite(per_pixel), per_pixel, -np.inf).max(axis=2)
    return np.concatenate([low, high], axis=1)


def _multipliers(end: End, cap: IntArray, counts: IntArray, price: TilePrice) -> FloatArray:
    """Proposed multipliers [start, scale, sum] of the borders and corners; of the area 0."""
    across, along = _sides(end, counts, price)
    total = across + along
    size = end.size[0] * end.size[1]
    relative = tuple(round(float(c) / size, 6) for c in cap)
    share = np.divide(along, total, out=np.full_like(total, 0.5), where=total > 0)
    tilts = np.round(share * TILTS).astype(np.int64)
    counted = tuple(counts.tolist())
    unit = {int(t): unit_multipliers(relative, counted, int(t) / TILTS) for t in np.unique(tilts)}
    y = np.array([unit[int(t)] for t in tilts])[:, None] * (SCALES[:, None] * total)[
        ..., None
    ].swapaxes(0, 1)
    y[:, :, 0] = 0.0
    return y


def _sides(end: End, counts: IntArray, price: TilePrice) -> tuple[FloatArray, FloatArray]:
    """Price [start] of one side along a cut across the whole map (either way)."""
    weight = counts / counts.sum()
    pixel = weight @ price.pixel
    need = price.need @ counts / np.maximum(1, (price.need > 0) @ counts)
    rows, columns = end.rows, end.columns

    def of(region: FloatArray) -> FloatArray:
        computed = np.cumsum((pixel * region)[:0:-1])[::-1]
        return np.asarray(computed + need * region[:-1])

    whole = of(rows[:, 2, -1] * columns[:, 2, -1])
    across = _halves(rows)
    along = _halves(columns)
    cut_y = sum(of(half * columns[:, 2, -1]) for half in across) - whole if across else 0 * whole
    cut_x = sum(of(rows[:, 2, -1] * half) for half in along) - whole if along else 0 * whole
    return np.maximum(cut_y, 0.0) / 2, np.maximum(cut_x, 0.0) / 2


def _halves(tables: FloatArray) -> list[FloatArray]:
    """Regions [tensor] of the two halves of an axis; none where it cannot be cut."""
    size = tables.shape[2] - 1
    return [tables[:, 1, size // 2], tables[:, 1, size - size // 2]] if size > 1 else []


@lru_cache(maxsize=4096)
def unit_multipliers(
    caps: tuple[float, ...], counts: tuple[int, ...], tilt: float
) -> tuple[float, ...]:
    """Multipliers of the inner sides of a unit square's partition with tiles of at most ``caps``.

    A side between tiles costs its length, times ``tilt`` where it is vertical and ``1 - tilt``
    where it is horizontal. They only propose: what they prove is computed from them.
    """
    lp = ColumnLP(n_equal=4, limits=np.array(counts, dtype=float), penalty=20.0)
    widths = np.arange(1, UNIT_GRID + 1) / UNIT_GRID
    u, fy, fx = (axis.ravel() for axis in np.meshgrid(widths, range(3), range(3)))
    fits = np.where(fx == 2, u == 1, u < 1)
    u, fy, fx = u[fits], fy[fits], fx[fits]
    for cls, cap in enumerate(caps):
        tallest = np.minimum(cap / u, 1.0)
        for height in (tallest, np.minimum(tallest, 1.0 / UNIT_GRID)):
            v = np.where(fy == 2, 1.0, height)
            ok = (v <= tallest) & (v > 0)
            cost = (1 - tilt) * (2 - fy) * u + tilt * (2 - fx) * v
            rows = np.stack([u * v, fy * u / 2, fx * v / 2, fy * fx / 4], axis=1)
            lp.add(cost[ok], rows[ok], np.full(int(ok.sum()), cls))
    return tuple(float(value) for value in lp.duals()[:4])
