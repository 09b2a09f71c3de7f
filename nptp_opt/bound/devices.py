"""Devices as the plan's bound sees them: classes, and the levels of partitions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from nptp_opt.bound.chain import Chain
from nptp_opt.cluster import Cluster
from nptp_opt.cost import FloatArray, Links, Speed, layer_speed, speeds_of
from nptp_opt.geometry import IntArray
from nptp_opt.network.ir import Layer

EPS = 1e-9
"""Relative slack by which counts of pixels are rounded, so that rounding excludes no partition."""

LOW, EVEN = 1.3, 0.9
"""Up to the first, levels are spaced evenly in the logarithm of what they exceed the second by:
plans have low ones, where they compute. Those of few owners are as far apart as their ratios."""

NARROW = 1e-3
"""Relative width below which an interval of levels is not split."""


@dataclass(frozen=True)
class Classes:
    """Devices that the bound need not tell apart; the source and the sink are always alone.

    ``share`` is what each device computes of a map at perfect balance (they sum to 1 over all
    devices); ``pixel_s`` and ``fixed_s`` are [class, layer of the path].
    """

    cluster: Cluster
    members: tuple[tuple[int, ...], ...]
    share: FloatArray
    pixel_s: FloatArray
    fixed_s: FloatArray

    @property
    def counts(self) -> IntArray:
        return np.array([len(group) for group in self.members])

    @property
    def source(self) -> int:
        return self._of(self.cluster.source)

    @property
    def sink(self) -> int:
        return self._of(self.cluster.sink)

    def _of(self, device: int) -> int:
        return next(k for k, group in enumerate(self.members) if device in group)

    def flop_per_s(self, layer: Layer) -> FloatArray:
        return np.array([speed.flop_per_s for speed in self.speeds(layer)])

    def speeds(self, layer: Layer) -> list[Speed]:
        return [layer_speed(self.cluster.devices[group[0]], layer) for group in self.members]

    def weighted_pixel_s(self, layer: Layer) -> float:
        """Seconds that a pixel of ``layer`` adds at least to the mean weighted by share, and so to
        the makespan of any step that computes it."""
        return float((self.share * layer.flop_per_pixel / self.flop_per_s(layer)).min())

    def seconds_per_byte(self, *, up: bool = False) -> FloatArray:
        """Per class, of its own link's way ``up`` or down, or of the medium."""
        links, first = Links.of(self.cluster), [group[0] for group in self.members]
        return np.asarray(1.0 / (links.up if up else links.down)[first])


def classes_of(chain: Chain, cluster: Cluster) -> Classes:
    """Classes of equal speed and overhead on every layer, and of equal link."""
    speeds = speeds_of(cluster.devices, chain.layers)
    others = [layer for layer in chain.network.shared_out if layer not in chain.layers]
    flop = np.array([layer.flop_per_pixel for layer in chain.layers])
    pixel_s, fixed_s = flop / speeds.flop_per_s, speeds.overhead_s
    share = balanced_shares(pixel_s @ np.array(chain.areas[1:]))
    groups: dict[tuple[object, ...], list[int]] = {}
    for i, device in enumerate(cluster.devices):
        place = i == cluster.source, i == cluster.sink
        link = device.up_mbit_per_s, device.down_mbit_per_s
        off = tuple(layer_speed(device, layer) for layer in others)
        groups.setdefault((place, link, tuple(pixel_s[i]), tuple(fixed_s[i]), off), []).append(i)
    members = tuple(tuple(group) for group in groups.values())
    first = [group[0] for group in members]
    return Classes(cluster, members, share[first], pixel_s[first], fixed_s[first])


def balanced_shares(seconds: FloatArray) -> FloatArray:
    """Shares at perfect balance of devices that take ``seconds`` (n,) for all; even ones where
    nothing is computed (pads, shuffles): any that sum to 1 would do."""
    if not seconds.all():
        return np.full(len(seconds), 1.0 / len(seconds))
    rate = 1.0 / seconds
    return np.asarray(rate / rate.sum())


@dataclass(frozen=True)
class Levels:
    """Intervals of a partition's level: max over devices of (part of the map) / ``share``.

    It is at least 1, and 1 / share where one device owns all.
    """

    low: FloatArray
    high: FloatArray

    def caps(self, classes: Classes, size: tuple[int, int]) -> IntArray:
        """Most pixels [interval, class] that a device owns: of the largest rectangle that fits."""
        most = self.high[:, None] * classes.share * (size[0] * size[1])
        return np.asarray(products(*size)[0][np.floor(_within(most, size)).astype(np.int64)])

    def attained(self, classes: Classes, size: tuple[int, int]) -> IntArray:
        """Least pixels [interval, class] of the device that attains the level; more than the map
        has where it cannot."""
        least = self.low[:, None] * classes.share * (size[0] * size[1])
        up = np.ceil(least * (1 - EPS) - EPS).astype(np.int64).clip(1, size[0] * size[1] + 1)
        return np.asarray(products(*size)[1][up])


def _within(pixels: FloatArray, size: tuple[int, int]) -> FloatArray:
    return np.minimum(pixels * (1 + EPS) + EPS, float(size[0] * size[1]))


@lru_cache(maxsize=256)
def products(height: int, width: int) -> tuple[IntArray, IntArray]:
    """Per number of pixels the area of the largest tile with at most, the smallest with at least
    so many; the number of pixels plus 1 where none is that large."""
    area = height * width
    found = np.zeros(area + 2, dtype=np.bool_)
    sizes = np.arange(1, height + 1)[:, None] * np.arange(1, width + 1)
    found[sizes.ravel()] = True
    found[0] = found[area + 1] = True
    at = np.arange(area + 2)
    most = np.maximum.accumulate(np.where(found, at, 0))
    least = np.minimum.accumulate(np.where(found, at, area + 1)[::-1])[::-1]
    return most, least


def levels_of(share: FloatArray, count: int) -> Levels:
    """``count`` intervals over all levels and some more of low ones; those of single devices are
    narrow."""
    alone = 1.0 / np.unique(share)
    fine = EVEN + np.geomspace(1.0 - EVEN, alone[0] - EVEN, count)
    spaced = np.geomspace(1.0, alone[0], count)
    marks = np.concatenate(
        [[1.0], fine[fine <= LOW], spaced[spaced > LOW], alone, alone * (1 - 1e-4)]
    )
    marks = np.unique(marks[(marks >= 1.0) & (marks <= alone.max() * (1 + EPS))])
    return Levels(marks[:-1], marks[1:]) if len(marks) > 1 else Levels(np.ones(1), np.ones(1))


def split(levels: Levels, parts: int) -> tuple[Levels, IntArray]:
    """Every interval in equal parts (in ratio), but those narrow already; and the first of each."""
    marks, first = [levels.low[:1]], []
    for low, high in zip(levels.low, levels.high, strict=True):
        count = parts if high > low * (1 + NARROW) else 1
        first.append(sum(map(len, marks)) - 1)
        marks.append(np.geomspace(low, high, count + 1)[1:])
    found = np.concatenate(marks)
    found[[*first, -1]] = [*levels.low, levels.high[-1]]
    return Levels(found[:-1], found[1:]), np.array([*first, len(found) - 1])
