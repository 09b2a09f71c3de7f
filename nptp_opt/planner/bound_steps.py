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
from nptp_opt.planner.bound_chain import Chain
from nptp_opt.planner.bound_devices import Levels, classes_of
from nptp_opt.planner.bound_ends import End, end_of
from nptp_opt.planner.bound_tables import (
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
        for j in range(len(caps)):
            self._price(found, end, j, caps[j], least[j])
        return found

    def _price(self, found: Prices, end: End, j: int, cap: IntArray, wanted: IntArray) -> None:
        """Fill in what partitions of one interval cost."""
        computing, possible = self._computing(end.at), cap >= wanted
        seconds, need = self._attained(end, wanted, computing)
        found.attained_s[:, j] = np.where(possible, seconds, np.inf)
        found.least_need[:, j] = np.where(possible, need, np.inf)
        if not possible.any():
            found.barred[j] = np.inf
        if np.isinf(found.barred[j]):
            return
        owners = int(found.owners[j])
        found.needed[:, j] = self._total(end, cap, owners, self._moving(end.at))
        found.mean_s[:, j] = self._total(end, cap, owners, self._both(end.at))
        if not self.cluster.shared:
            found.sending_s[j] = self._total(end, cap, owners, self._sending(end.at))[0]

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

    def _sending(self, at: int) -> TilePrice:
        """Seconds of the source in a first run: it computes, and sends what the others need."""
        computing, source = self._computing(at), self.classes.source
        own = np.zeros(len(self.classes.members))
        own[source] = 1.0
        byte_s = self.chain.pixel_bytes[0] * self.classes.seconds_per_byte(up=True)[source]
        need = np.zeros((at, len(own)))
        need[0] = (1.0 - own) * byte_s
        return TilePrice(computing.pixel * own[:, None], computing.fixed * own, need)

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

    def _total(self, end: End, cap: IntArray, owners: int, price: TilePrice) -> FloatArray:
        """Lower bound [start] of the total price over all partitions within ``cap``, which have at
        least ``owners`` tiles."""
        counts, (height, width) = self.classes.counts, end.size
        sums = np.array([height * width, width, width, height, height, 4])
        tables = end.concave_rows, end.columns, cap, (price.pixel, price.fixed, price.need)
        y = _multipliers(end, cap, counts, price) / sums
        y = _with_area(y, least_reduced(*tables, y, True))
        least = least_reduced(*tables, y, False)
        margin = SAFETY * (
            np.abs(y) @ sums + np.where(np.isfinite(least), np.abs(least), 0) @ counts
        )
        return np.asarray((y @ sums + _least_sum(least, counts, owners) - margin).max(axis=1))


def _least_sum(least: FloatArray, counts: IntArray, owners: int) -> FloatArray:
    """Least sum of ``least`` [..., class] over choices of at least ``owners`` devices."""
    order = np.argsort(least, axis=-1)
    each, count = np.take_along_axis(least, order, axis=-1), counts[order]
    forced = np.clip(owners - (np.cumsum(count, axis=-1) - count), 0, count)
    taken = np.where(each < 0, count, forced)
    return np.asarray((np.where(taken > 0, each, 0.0) * taken).sum(axis=-1))


def _with_area(y: FloatArray, per_pixel: FloatArray) -> FloatArray:
    """Variants of ``y`` whose multiplier of the area is what a tile's pixel costs at least, in the
    cheapest or in the dearest class (a source that needs nothing must not set it)."""
    low, high = y.copy(), y.copy()
    low[:, :, 0] = np.minimum.reduce(per_pixel, axis=2)
    high[:, :, 0] = np.where(np.isfinite(per_pixel), per_pixel, -np.inf).max(axis=2)
    return np.concatenate([low, high], axis=1)


def _multipliers(end: End, cap: IntArray, counts: IntArray, price: TilePrice) -> FloatArray:
    """Proposed multipliers [start, scale, sum] of the borders and corners; of the area 0."""
    rows, columns = end.rows, end.columns
    across, top = _side(rows, columns[:, BOTH, -1], counts, price)
    along, left = _side(columns, rows[:, BOTH, -1], counts, price)
    total = across + along
    size = end.size[0] * end.size[1]
    relative = tuple(round(float(c) / size, 6) for c in cap)
    share = np.divide(along, total, out=np.full_like(total, 0.5), where=total > 0)
    tilts = np.round(share * TILTS).astype(np.int64)
    counted = tuple(counts.tolist())
    known = {int(t): unit_multipliers(relative, counted, int(t) / TILTS) for t in np.unique(tilts)}
    unit = np.array([known[int(t)] for t in tilts]) * total[:, None]
    sums = np.stack(
        [
            0 * total,
            unit[:, 1] * top,
            unit[:, 1] * (1 - top),
            unit[:, 2] * left,
            unit[:, 2] * (1 - left),
            unit[:, 3],
        ],
        axis=1,
    )
    return np.asarray(SCALES[None, :, None] * sums[:, None, :])


def _side(
    axis: FloatArray, other: FloatArray, counts: IntArray, price: TilePrice
) -> tuple[FloatArray, FloatArray]:
    """Half the price [start] of a cut of ``axis`` across the whole map, and the part of it that
    falls to the tile behind the cut (whose first end is no border)."""
    weight, size = counts / counts.sum(), axis.shape[2] - 1
    pixel = weight @ price.pixel
    need = price.need @ counts / np.maximum(1, (price.need > 0) @ counts)

    def of(lengths: FloatArray) -> FloatArray:
        region = lengths * other
        computed = np.cumsum((pixel * region)[:0:-1])[::-1]
        return np.asarray(computed + need * region[:-1])

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
