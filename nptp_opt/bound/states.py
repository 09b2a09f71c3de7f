"""What a state of the bound is: what devices own of a tensor, by the interval of its level."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from nptp_opt.bound.chain import Chain
from nptp_opt.bound.devices import Levels, classes_of, split
from nptp_opt.bound.fits import can_fit
from nptp_opt.cluster import Cluster
from nptp_opt.cost import FloatArray
from nptp_opt.geometry import IntArray
from nptp_opt.network.ir import Layer


@dataclass(frozen=True)
class Owned:
    """What devices own of a tensor: pixels [interval, class]. The one that attains the level owns
    at least ``least`` (where it ``can``), none more than ``most`` and so none less than what all
    others leave, ``floor``."""

    least: IntArray
    floor: IntArray
    most: IntArray
    can: npt.NDArray[np.bool_]

    @property
    def areas(self) -> IntArray:
        """``least``, ``floor`` and ``most``."""
        return np.stack([self.least, self.floor, self.most])

    def within(self, low: int, high: int) -> IntArray:
        """These [3, class] over the intervals ``low`` to ``high``."""
        least = self.least[low:high].min(axis=0)
        return np.stack([least, self.floor[high - 1], self.most[high - 1]])


class States:
    """The states of one chain on one cluster; ``read`` are pixels that every plan computes.

    Sums over all devices are priced per interval of ``levels``, what one device does per part of
    these.
    """

    def __init__(
        self,
        chain: Chain,
        cluster: Cluster,
        read: dict[str, int],
        levels: Levels,
        *,
        parts: int,
        overlap: bool,
    ) -> None:
        self.chain, self.cluster, self.read = chain, cluster, read
        self.overlap = overlap
        self.levels, self.first = split(levels, parts)
        self.classes = classes_of(chain, cluster)
        self.wait_s = cluster.network.latency_s
        self._owned: dict[int, Owned] = {}

    def balanced_s(self, layer: Layer) -> float:
        """Seconds of a layer's read pixels at perfect balance, nothing fixed.

        In the mean weighted by share: it adds up over the layers of a step, whoever is fast at
        which of them. Perfect balances of single layers do not.
        """
        return self.read[layer.name] * self.classes.weighted_pixel_s(layer)

    def owned(self, tensor: int) -> Owned:
        """By intervals of the level; tensor 0 belongs to the source, in every interval."""
        if tensor not in self._owned:
            self._owned[tensor] = self._partitioned(tensor) if tensor else self._undivided()
        return self._owned[tensor]

    def _partitioned(self, tensor: int) -> Owned:
        size = self.chain.sizes[tensor]
        most = self.levels.caps(self.classes, size)
        counts = self.classes.counts
        floor = np.maximum(0, self.chain.areas[tensor] - (most @ counts)[:, None] + most)
        least = np.maximum(floor, self.levels.attained(self.classes, size))
        fits = [can_fit(*size, tuple(cap), tuple(counts.tolist())) for cap in most.tolist()]
        return Owned(least, floor, most, (most >= least) & np.array(fits)[:, None])

    def _undivided(self) -> Owned:
        shape = len(self.levels.low), len(self.classes.members)
        most, can = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.bool_)
        most[:, self.classes.source] = self.chain.areas[0]
        can[:, self.classes.source] = True
        return Owned(most, most, most, can)

    @cached_property
    def weighted_s(self) -> FloatArray:
        """Seconds [tensor] that layers beside the path add to the weighted mean of a run over it,
        or to the makespans of steps of their own."""
        found = np.zeros(self.chain.length + 1)
        for beside in self.chain.beside:
            found[beside.position] += self.balanced_s(beside.layer)
        return found
