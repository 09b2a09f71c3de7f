"""Candidates on a coarse grid: partitions whose cuts lie between pixels on every map.

A template's cuts are rounded on each map anew. Where a fraction is none of a small map's, its tiles
are uneven there, and where two maps round it to different places, devices exchange what they would
hold already. So the best guillotine partitions are sought on a grid of a few cells whose lines are
lines of the smallest map, for every useful number of devices, fastest first: the least largest
time of any device (its cells, with a rim to recompute inside the map, over its speed), then, among
those with times within a factor of that, the shortest cuts.

Both are dynamic programmes over (set of devices, rectangle): a rectangle is one device's, or two
rectangles' on the two sides of a cut, each with its share of the set. Equal devices are counted,
not told apart (``search.subsets``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numba
import numpy as np

from nptp_opt.cluster import Cluster
from nptp_opt.cost import FloatArray
from nptp_opt.geometry import IntArray
from nptp_opt.network.ir import Network
from nptp_opt.planner.candidates.catalogue import distinct, useful_counts
from nptp_opt.planner.candidates.templates import Box, Template
from nptp_opt.search.subsets import DevicePool, Subsets

FEWEST, MOST = 4, 8
"""Cells of the grid along an axis."""

RIMS = (0.0, 0.4)
"""Cells that a tile computes beyond each side inside the map: none, or those of a fused run."""

SLACKS = (1.0, 1.1, 1.25)
"""How much more time than the least the devices may take, to shorten the cuts."""

MOST_WORK = 5e7
"""Splits of sets and rectangles in one table: some tenths of a second."""

ROUNDING = 1e-9
"""Times that differ by less, relatively, are the same."""

Rect = tuple[int, int, int, int]
"""y0, y1, x0, x1 in cells."""


def coarse_templates(network: Network, cluster: Cluster) -> list[Template]:
    """The best partitions among every useful number of devices, fastest first."""
    counts = useful_counts(len(cluster.devices))
    return distinct(_on_grid(network, cluster, counts), network.spatial)


def _on_grid(network: Network, cluster: Cluster, counts: Sequence[int]) -> Iterator[Template]:
    maps = [(layer.height, layer.width) for layer in network.spatial]
    if not maps:
        return
    height, width = (cells([size[axis] for size in maps]) for axis in (0, 1))
    if height < 2 or width < 2:
        return
    speed = [device.gflops for device in cluster.devices]
    order = sorted(range(len(speed)), key=lambda i: (-speed[i], i != cluster.source, i))
    for count in counts:
        group = Group.of(order[:count], speed)
        if group.subsets.split_count * splits(height, width) > MOST_WORK:
            continue
        for rim in RIMS:
            yield from _within(group, loads(height, width, rim))


def cells(lengths: Sequence[int]) -> int:
    """Cells along an axis: the most, up to ``MOST``, that divide the least length of a map.

    Maps too small to be shared out are not looked at. Where no number divides it, as many as fit.
    """
    least = min((length for length in lengths if length >= FEWEST), default=1)
    parts = [n for n in range(FEWEST, MOST + 1) if least % n == 0]
    return max(parts, default=min(least, MOST))


def splits(height: int, width: int) -> int:
    """Ways to cut any rectangle of the grid in two."""
    ranges = [size * (size + 1) // 2 for size in (height, width)]
    cuts = [(size - 1) * size * (size + 1) // 6 for size in (height, width)]
    return ranges[0] * cuts[1] + cuts[0] * ranges[1]


def loads(height: int, width: int, rim: float) -> FloatArray:
    """Cells that every rectangle [y0, y1, x0, x1] computes, with ``rim`` beyond inner sides."""
    rows, columns = _lengths(height, rim), _lengths(width, rim)
    return np.asarray(rows[:, :, None, None] * columns)


def _lengths(size: int, rim: float) -> FloatArray:
    low, high = np.meshgrid(np.arange(size + 1), np.arange(size + 1), indexing="ij")
    return np.where(low < high, high - low + rim * ((low > 0).astype(float) + (high < size)), 0.0)


@dataclass(frozen=True)
class Group:
    """Devices that share a map, those of one speed together."""

    members: tuple[tuple[int, ...], ...]
    speeds: tuple[float, ...]

    @classmethod
    def of(cls, devices: Sequence[int], speed: Sequence[float]) -> Group:
        """``devices`` by their speed, each speed's in the given order."""
        speeds = tuple(dict.fromkeys(speed[i] for i in devices))
        members = (tuple(i for i in devices if speed[i] == value) for value in speeds)
        return cls(tuple(members), speeds)

    @cached_property
    def subsets(self) -> Subsets:
        return Subsets(tuple(len(members) for members in self.members))

    @cached_property
    def parts(self) -> tuple[IntArray, IntArray]:
        """The proper parts of set 0, 1, ... behind each other; where each set's begin and end."""
        found = [np.zeros(0, dtype=np.int64)]
        found += [self.subsets.parts(s) for s in range(1, self.subsets.count)]
        return np.concatenate(found), np.cumsum([0, *(len(parts) for parts in found)])


def _within(group: Group, load: FloatArray) -> Iterator[Template]:
    least = least_time(group, load)
    count = sum(len(members) for members in group.members)
    for slack in SLACKS:
        boxes = shortest_cuts(group, load, least * slack)
        if boxes:  # fewer cells than devices have none
            yield Template(f"coarse-{count}", boxes)


def least_time(group: Group, load: FloatArray) -> float:
    """The least largest time of any device of the group where all take part; infinite if never."""
    seconds = np.array([load / speed for speed in group.speeds])
    table = _table(seconds, group.subsets.strides, *group.parts, False)
    return float(table[*_whole(load), group.subsets.full])


def shortest_cuts(group: Group, load: FloatArray, most: float) -> dict[int, Box]:
    """Boxes by device with the shortest cuts where no device's time is above ``most``; empty where
    there are none."""
    fits = [load / speed <= most * (1 + ROUNDING) for speed in group.speeds]
    lengths = np.where(fits, 0.0, np.inf)
    table = _table(lengths, group.subsets.strides, *group.parts, True)
    whole = _whole(load)
    if table[*whole, group.subsets.full] == np.inf:
        return {}
    pool, (_, height, _, width) = DevicePool(group.members), whole
    return {
        pool.take(cls): (y0 / height, y1 / height, x0 / width, x1 / width)
        for cls, (y0, y1, x0, x1) in _traced(group, table, group.subsets.full, whole)
    }


def _whole(load: FloatArray) -> Rect:
    return 0, load.shape[1] - 1, 0, load.shape[3] - 1


def _traced(group: Group, table: FloatArray, s: int, rect: Rect) -> Iterator[tuple[int, Rect]]:
    """Classes of devices and their rectangles behind one entry of a table of lengths."""
    subsets = group.subsets
    if subsets.vectors[s].sum() == 1:
        yield int(subsets.classes_in(s)[0]), rect
        return
    for one, other, length in halves(rect):
        for part in subsets.parts(s):
            if table[*one, part] + table[*other, s - part] + length == table[*rect, s]:
                yield from _traced(group, table, int(part), one)
                yield from _traced(group, table, s - int(part), other)
                return
    raise AssertionError("a table entry has no partition behind it")


def halves(rect: Rect) -> Iterator[tuple[Rect, Rect, int]]:
    """The two sides of every cut through a rectangle, and its length."""
    y0, y1, x0, x1 = rect
    for y in range(y0 + 1, y1):
        yield (y0, y, x0, x1), (y, y1, x0, x1), x1 - x0
    for x in range(x0 + 1, x1):
        yield (y0, y1, x0, x), (y0, y1, x, x1), y1 - y0


@numba.njit(cache=True, nogil=True)
def _table(alone, strides, parts, starts, adding):  # type: ignore[no-untyped-def]
    """Best values [y0, y1, x0, x1, set]; ``alone`` [class, y0, y1, x0, x1] those of one device.

    A set's value is the larger one of its two parts', or, if ``adding``, their sum with the cut.
    """
    height, width = alone.shape[1] - 1, alone.shape[3] - 1
    table = np.full((height + 1, height + 1, width + 1, width + 1, len(starts) - 1), np.inf)
    for h in range(1, height + 1):
        for w in range(1, width + 1):
            for y0 in range(height - h + 1):
                for x0 in range(width - w + 1):
                    y1, x1 = y0 + h, x0 + w
                    best = table[y0, y1, x0, x1]
                    for c in range(len(strides)):
                        best[strides[c]] = alone[c, y0, y1, x0, x1]
                    for y in range(y0 + 1, y1):
                        sides = table[y0, y, x0, x1], table[y, y1, x0, x1]
                        _share(best, sides, w, parts, starts, adding)
                    for x in range(x0 + 1, x1):
                        sides = table[y0, y1, x0, x], table[y0, y1, x, x1]
                        _share(best, sides, h, parts, starts, adding)
    return table


@numba.njit(cache=True, nogil=True)
def _share(best, sides, length, parts, starts, adding):  # type: ignore[no-untyped-def]
    """Lower the values ``best`` of all sets by sharing them out to two sides of a cut."""
    one, other = sides
    for s in range(len(best)):
        for k in range(starts[s], starts[s + 1]):
            a, b = one[parts[k]], other[s - parts[k]]
            best[s] = min(best[s], a + b + length if adding else max(a, b))
