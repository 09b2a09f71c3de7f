"""Lower prices of every run of a path, by the level of the partition after it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from nptp_opt.cluster import Cluster
from nptp_opt.cost import FloatArray
from nptp_opt.geometry import IntArray
from nptp_opt.network.ir import Layer
from nptp_opt.planner.bound.chain import Chain
from nptp_opt.planner.bound.devices import Levels, classes_of
from nptp_opt.planner.bound.ends import End, end_of
from nptp_opt.planner.bound.tables import (
    BOTH,
    HIGH,
    LOW,
    NONE,
    least_giving,
    least_reduced,
    least_within,
    most_needs,
)
from nptp_opt.search.lp import ColumnLP

SCALES = np.array([0.0, 0.4, 0.7, 1.0])
"""Multiples of the proposed multipliers that are tried; deep runs want smaller ones."""

ONE_AFTER_THE_OTHER = np.array([[1.0, 1.0], [1.0, 0.5]])
OVERLAPPED = np.array([[0.0, 1.0], [0.5, 0.5]])
"""Weights of computing and sending whose sum is at most a step's makespan."""

SAFETY = 1e-10
"""Relative margin by which sums of floats are lowered."""

BENT_SCALES = [3, 4]
BENDS = np.array([0.5, 0.8])
"""Proposals and parts of the area's multiplier that are tried for pixels beyond the last tile's."""

UNIT_GRID = 48
TILTS = 8
"""Parts into which the share of vertical sides is rounded for proposals."""


Tables = tuple[FloatArray, FloatArray, IntArray, tuple[FloatArray, FloatArray, FloatArray]]
"""Rows, columns, caps and prices, as ``least_reduced`` takes them."""


@dataclass(frozen=True)
class TilePrice:
    """A price of tiles: seconds per pixel [class, tensor] of every tensor that is computed, and
    what is fixed and what a pixel of the need costs, both [start, class] for the first starts."""

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

    At least ``owners`` [interval] devices own something. ``giving_s`` [start, weight, interval,
    class]: least weighted seconds of a device that computes a tile or none, less those of sending
    what it keeps; ``sending_s`` [interval] of the source that sends all the others need and
    computes. ``joined`` [start]: neighbours read something in common.
    """

    barred: FloatArray
    needed: FloatArray
    mean_s: FloatArray
    attained_s: FloatArray
    least_need: FloatArray
    most_need: FloatArray
    unread: FloatArray
    owners: IntArray
    giving_s: FloatArray
    sending_s: FloatArray
    joined: npt.NDArray[np.bool_]


class Pricing:
    """Prices the runs of one chain on one cluster; ``read`` are pixels that every plan computes."""

    def __init__(
        self, chain: Chain, cluster: Cluster, read: dict[str, int], *, overlap: bool
    ) -> None:
        self.chain, self.cluster, self.read = chain, cluster, read
        self.classes = classes_of(chain, cluster)
        self.weights = OVERLAPPED if overlap else ONE_AFTER_THE_OTHER

    def balanced_s(self, layer: Layer) -> float:
        """Seconds of a layer's read pixels at perfect balance, nothing fixed."""
        speed = float(self.classes.flop_per_s(layer) @ self.classes.counts)
        return self.read[layer.name] * layer.flop_per_pixel / speed

    def prices(self, at: int, levels: Levels) -> Prices:
        """Prices of all runs that end at tensor ``at``."""
        end, classes = end_of(self.chain, at), self.classes
        moving = at if self.cluster.shared else 1
        caps, least = levels.caps(classes, end.size), levels.attained(classes, end.size)
        owners = np.array(
            [fewest_owners(cap, classes.counts, self.chain.areas[at]) for cap in caps]
        )
        found = Prices(
            barred=np.where(owners > classes.counts.sum(), np.inf, 0.0),
            needed=np.zeros((at, len(caps))),
            mean_s=np.zeros((at, len(caps))),
            attained_s=np.full((at, *caps.shape), np.inf),
            least_need=np.full((at, *caps.shape), np.inf),
            most_need=np.zeros((at, *caps.shape)),
            unread=np.array(self.chain.areas[:at], dtype=np.float64) - end.read,
            owners=owners,
            giving_s=self._giving(end, caps),
            sending_s=np.zeros(len(caps)),
            joined=end.joined,
        )
        for k, tables in end.most.items():
            found.most_need[k] = most_needs(*tables, caps)
        self._attain(found, end, caps, least)
        found.needed[:moving], found.mean_s[:] = (
            self._totals(end, caps, found, price)
            for price in (self._moving(at, moving), self._both(at))
        )
        if not self.cluster.shared:
            found.sending_s[:] = self._totals(end, caps, found, self._sending(at))[0]
        return found

    def _attain(self, found: Prices, end: End, caps: IntArray, least: IntArray) -> None:
        """Fill in what the device that attains the level computes and needs."""
        computing, possible = self._computing(end.at), caps >= least
        for j, wanted in enumerate(least):
            seconds, need = self._attained(end, wanted, computing)
            found.attained_s[:, j] = np.where(possible[j], seconds, np.inf)
            found.least_need[:, j] = np.where(possible[j], need, np.inf)
        found.barred[~possible.any(axis=1)] = np.inf

    def _computing(self, at: int) -> TilePrice:
        classes = self.classes
        nothing = np.zeros((len(classes.members), 1))
        pixel = np.hstack([nothing, classes.pixel_s[:, :at]])
        fixed = np.cumsum(classes.fixed_s[:, at - 1 :: -1], axis=1)[:, ::-1].T
        return TilePrice(pixel, fixed, np.zeros_like(fixed))

    def _moving(self, at: int, starts: int) -> TilePrice:
        """Pixels of the need; the source has the input."""
        need = np.ones((starts, len(self.classes.members)))
        need[0, self.classes.source] = 0.0
        return TilePrice(np.zeros((need.shape[1], at + 1)), np.zeros_like(need), need)

    def _both(self, at: int) -> TilePrice:
        """Seconds weighted by share (switched), or of the medium and the weighted computing."""
        classes, computing, moving = self.classes, self._computing(at), self._moving(at, at)
        share = classes.share
        bytes_ = np.array(self.chain.pixel_bytes[:at], dtype=float)[:, None]
        byte_s = np.tile(
            classes.seconds_per_byte() * (1.0 if self.cluster.shared else share), (at, 1)
        )
        if not self.cluster.shared:
            byte_s[0] += classes.seconds_per_byte(up=True)[classes.source] * share[classes.source]
        need = moving.need * bytes_ * byte_s
        return TilePrice(computing.pixel * share[:, None], computing.fixed * share, need)

    def _sending(self, at: int) -> TilePrice:
        """Seconds of the source in a first run: it computes, and sends what the others need."""
        computing, source = self._computing(at), self.classes.source
        own = np.zeros(len(self.classes.members))
        own[source] = 1.0
        byte_s = self.chain.pixel_bytes[0] * self.classes.seconds_per_byte(up=True)[source]
        need = (1.0 - own[None]) * byte_s
        return TilePrice(computing.pixel * own[:, None], computing.fixed[:1] * own, need)

    def _giving(self, end: End, caps: IntArray) -> FloatArray:
        """Least [start, weight, interval, class] over tiles and none (switched networks only)."""
        if self.cluster.shared:
            return np.zeros((end.at, 0, *caps.shape))
        computing = self._computing(end.at)
        bytes_ = np.array(self.chain.pixel_bytes[: end.at], dtype=float)[:, None]
        keeping = bytes_ * self.classes.seconds_per_byte(up=True)
        prices = computing.pixel, computing.fixed, keeping
        return np.asarray(
            least_giving(end.concave_rows, end.columns, end.kept, caps, prices, self.weights)
        )

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

    def _totals(self, end: End, caps: IntArray, found: Prices, price: TilePrice) -> FloatArray:
        """Lower bounds [start, interval] of the total price over all partitions."""
        sides = _sides(end, self.classes.counts, price)
        totals = np.zeros((len(price.need), len(caps)))
        for j in np.flatnonzero(np.isfinite(found.barred)):
            totals[:, j] = self._total(end, caps[j], int(found.owners[j]), price, sides)
        return totals

    def _total(
        self, end: End, cap: IntArray, owners: int, price: TilePrice, sides: Sides
    ) -> FloatArray:
        """Lower bound [start] of the total price over all partitions within ``cap``, which have at
        least ``owners`` tiles."""
        counts, (height, width) = self.classes.counts, end.size
        area = height * width
        full, rest = _filled(cap, counts, area)
        sums = np.array([0, width, width, height, height, 4, 0])
        tables = end.concave_rows, end.columns, cap, (price.pixel, price.fixed, price.need)
        y = _multipliers(cap, counts, sides, area)
        y[:, :, 1:6] /= sums[1:6]
        rates = least_reduced(*tables, y, area, True)
        y = np.concatenate([*_linear(y, rates), _bent(tables, y, rates, rest)], axis=1)
        least = least_reduced(*tables, y, rest, False)
        sums[0], sums[6] = np.minimum(full, rest).sum(), np.maximum(full - rest, 0).sum()
        margin = SAFETY * (
            np.abs(y) @ sums + np.where(np.isfinite(least), np.abs(least), 0) @ counts
        )
        return np.asarray((y @ sums + _least_sum(least, counts, owners) - margin).max(axis=1))


def _filled(cap: IntArray, counts: IntArray, area: int) -> tuple[IntArray, int]:
    """Areas of tiles that fill the map in the order of their caps, and the last one's."""
    sizes = np.sort(np.repeat(cap, counts))[::-1]
    filled = np.minimum(np.cumsum(sizes), area)
    areas = np.diff(filled, prepend=0)
    return areas, int(areas[areas > 0][-1])


def _least_sum(least: FloatArray, counts: IntArray, owners: int) -> FloatArray:
    """Least sum of ``least`` [..., class] over choices of at least ``owners`` devices."""
    order = np.argsort(least, axis=-1)
    each, count = np.take_along_axis(least, order, axis=-1), counts[order]
    forced = np.clip(owners - (np.cumsum(count, axis=-1) - count), 0, count)
    taken = np.where(each < 0, count, forced)
    return np.asarray((np.where(taken > 0, each, 0.0) * taken).sum(axis=-1))


def _linear(y: FloatArray, rates: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Variants of ``y`` whose multiplier of the area is what a tile's pixel costs at least, in the
    cheapest or in the dearest class (a source that needs nothing must not set it)."""
    low, high = y.copy(), y.copy()
    low[:, :, 0] = low[:, :, 6] = rates.min(axis=2)
    high[:, :, 0] = high[:, :, 6] = np.where(np.isfinite(rates), rates, -np.inf).max(axis=2)
    return low, high


def _bent(tables: Tables, y: FloatArray, rates: FloatArray, rest: int) -> FloatArray:
    """Variants of ``y`` that charge less for pixels beyond ``rest`` and as much as tiles bear for
    those before: tiles that do not fill the map evenly cost more than their part of it."""
    if rest >= tables[2].max():
        return y[:, :0]
    bent = np.repeat(y[:, BENT_SCALES], len(BENDS), axis=1)
    bent[:, :, 6] = (rates.min(axis=2)[:, BENT_SCALES, None] * BENDS).reshape(len(y), -1)
    bent[:, :, 0] = least_reduced(*tables, bent, rest, True).min(axis=2)
    bent[:, :, 6] = np.minimum(bent[:, :, 0], bent[:, :, 6])
    return bent


def _multipliers(cap: IntArray, counts: IntArray, sides: Sides, area: int) -> FloatArray:
    """Proposed sums [start, proposal, 7] of the borders' and corners' prices; of the area 0. The
    last takes every side for an inner one, on borders too."""
    total = sides.across + sides.along
    relative = tuple(round(float(c) / area, 6) for c in cap)
    share = np.divide(sides.along, total, out=np.full_like(total, 0.5), where=total > 0)
    tilts = np.round(share * TILTS).astype(np.int64)
    counted = tuple(counts.tolist())
    known = {int(t): unit_multipliers(relative, counted, int(t) / TILTS) for t in np.unique(tilts)}
    unit = np.array([known[int(t)] for t in tilts])
    alike = np.stack([0 * share, -2 * (1 - share), -2 * share, 0 * share], axis=1)
    tried = np.concatenate([SCALES[None, :, None] * unit[:, None], alike[:, None]], axis=1)
    sums = tried * total[:, None, None]
    top, left = sides.top[:, None], sides.left[:, None]
    y = [
        np.zeros_like(sums[..., 0]),
        sums[..., 1] * top,
        sums[..., 1] * (1 - top),
        sums[..., 2] * left,
        sums[..., 2] * (1 - left),
        sums[..., 3],
        np.zeros_like(sums[..., 0]),
    ]
    return np.stack(y, axis=2)


@dataclass(frozen=True)
class Sides:
    """Half the price [start] of a cut across the whole map, ``across`` or ``along`` it, and the
    part of it that falls to the tile behind the cut (whose first end is then no border)."""

    across: FloatArray
    top: FloatArray
    along: FloatArray
    left: FloatArray


def _sides(end: End, counts: IntArray, price: TilePrice) -> Sides:
    rows, columns = end.rows, end.columns
    across = _side(rows, columns[:, BOTH, -1], counts, price)
    along = _side(columns, rows[:, BOTH, -1], counts, price)
    return Sides(*across, *along)


def _side(
    axis: FloatArray, other: FloatArray, counts: IntArray, price: TilePrice
) -> tuple[FloatArray, FloatArray]:
    weight, size = counts / counts.sum(), axis.shape[2] - 1
    pixel, starts = weight @ price.pixel, len(price.need)
    need = price.need @ counts / np.maximum(1, (price.need > 0) @ counts)

    def of(lengths: FloatArray) -> FloatArray:
        region = lengths * other
        computed = np.cumsum((pixel * region)[:0:-1])[::-1]
        return np.asarray(computed[:starts] + need * region[:starts])

    if size < 2:
        return np.zeros_like(need), np.full_like(need, 0.5)
    half = size // 2
    cut = of(axis[:, LOW, half]) + of(axis[:, HIGH, size - half]) - of(axis[:, BOTH, size])
    even = np.full_like(cut, 0.5)
    if size < 3 or (axis[:, LOW] == axis[:, HIGH]).all():
        return np.maximum(cut, 0.0) / 2, even
    inner = max(1, min(half, size - 2))
    first, last = (
        np.maximum(of(axis[:, NONE, inner]) - of(axis[:, f, inner]), 0.0) for f in (LOW, HIGH)
    )
    part = np.divide(first, first + last, out=even, where=first + last > 0)
    return np.maximum(cut, 0.0) / 2, part


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


def fewest_owners(cap: IntArray, counts: IntArray, area: int) -> int:
    """Fewest devices that can own a map of ``area`` pixels within ``cap`` each."""
    sizes = np.sort(np.repeat(cap, counts))[::-1]
    return int(np.searchsorted(np.cumsum(sizes), area)) + 1
