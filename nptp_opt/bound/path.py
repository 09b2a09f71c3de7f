"""The cheapest way along a path under lower prices, and what follows the path."""

from __future__ import annotations

import itertools

import numpy as np

from nptp_opt.bound.chain import longest_chain
from nptp_opt.bound.devices import classes_of, levels_of
from nptp_opt.bound.ends import end_of
from nptp_opt.bound.states import States
from nptp_opt.bound.steps import SOME, Runs, fewest_owners
from nptp_opt.cluster import Cluster
from nptp_opt.cost import FloatArray, gather_compute_s, layer_speed
from nptp_opt.cost.reduction import partial_bytes
from nptp_opt.geometry import IntArray
from nptp_opt.network.ir import Layer, Network

Pixels = dict[str, int]

EQUAL = 1e-12
"""Relative gain below which a run is not priced exactly: single devices make many equal ones."""

MOST_INTERVALS, LEAST_INTERVALS = 24, 8
"""Intervals of levels, beside some more of low ones: more are tighter and slower."""

RUN_INTERVALS = 60_000
"""Runs times classes of devices times intervals: what sets the time."""

PARTS = {5: 8}
"""Parts of an interval for what one device does, for up to so many classes of devices, and 4 for
more or on one medium: a partition that drifts by one of them per run gives nothing away."""


class PathBound:
    """Bounds a network's latency on a cluster; ``read`` are pixels that every plan computes."""

    def __init__(
        self,
        network: Network,
        cluster: Cluster,
        read: Pixels,
        *,
        overlap: bool,
        intervals: int | None = None,
        parts: int | None = None,
    ) -> None:
        self.network, self.cluster, self.overlap = network, cluster, overlap
        self.chain = longest_chain(network, cluster)
        self.classes = classes_of(self.chain, cluster)
        levels = levels_of(self.classes.share, intervals or self._intervals())
        parts = parts or self._parts()
        self.states = States(self.chain, cluster, read, levels, parts=parts, overlap=overlap)
        self.levels = self.states.levels
        self.wait_s = cluster.network.latency_s

    def _intervals(self) -> int:
        work = int(self.chain.runs.sum()) * len(self.classes.members)
        return max(LEAST_INTERVALS, min(MOST_INTERVALS, RUN_INTERVALS // work))

    def _parts(self) -> int:
        classes = len(self.classes.members)
        known = {} if self.cluster.shared else PARTS
        return next((parts for most, parts in known.items() if classes <= most), 4)

    def latency_s(self) -> float:
        """The bound: every state's cheapest arrival, then the tail and what is apart."""
        arrived = np.zeros((self.chain.length + 1, len(self.levels.low)))
        for at in range(1, self.chain.length + 1):
            arrived[at] = self._arrive(at, arrived)
        return float((arrived[-1] + self._tail()).min()) + self._apart_s()

    def _arrive(self, at: int, arrived: FloatArray) -> FloatArray:
        """Cheapest seconds [interval] until tensor ``at``, from those of the tensors before.

        What one device takes is cheap to tell. The sums over all devices are computed for runs that
        are best by that, and then for those only that it does not show to be worse.
        """
        end = end_of(self.chain, at, pieces=self.overlap)
        runs = Runs(self.states, end, np.flatnonzero(self.chain.runs[:at, at]))
        least = (arrived[runs.starts][:, :, None] + runs.rough()).min(axis=1)
        found = [
            _best_of_interval(runs, arrived, least[:, low:high], (low, high))
            for low, high in itertools.pairwise(self.states.first)
        ]
        return np.concatenate(found)

    def _comm(self, pixels: FloatArray, byte_s: float) -> FloatArray:
        return pixels * byte_s + self.wait_s * (pixels > SOME)

    def _joined(
        self, comm: FloatArray, compute_s: FloatArray | float, mean_s: FloatArray
    ) -> FloatArray:
        if self.overlap:
            return np.maximum(comm, compute_s)
        return np.maximum(comm + compute_s, mean_s)

    def _tail(self) -> FloatArray:
        """Seconds [interval] of what follows the path: its last map is collected or reduced."""
        name, area = self.chain.layers[-1].name, self.chain.areas[-1]
        caps = self.levels.caps(self.classes, self.chain.sizes[-1])
        head = gather_compute_s(self.cluster, self.cluster.sink, self.network.head)
        found = np.full(len(caps), head)
        if name in self.network.spatial_outputs or self._gathered(name):
            pixels = np.maximum(0.0, area - caps[:, self.classes.sink])
            byte_s = self.classes.seconds_per_byte()[self.classes.sink]
            comm = self._comm(pixels, self.chain.pixel_bytes[-1] * byte_s)
            found = np.maximum(found, comm) if self.overlap else found + comm
        for layer in self._reductions(name):
            found = found + self._reduction(layer, caps)
        return found

    def _gathered(self, name: str) -> bool:
        return any(name in layer.inputs for layer in self.network.head)

    def _reductions(self, name: str) -> list[Layer]:
        readers = (self.network.by_name[reader] for reader in self.network.consumers[name])
        return [layer for layer in readers if layer.reduces]

    def _reduction(self, layer: Layer, caps: IntArray) -> FloatArray:
        """Seconds [interval] of reducing the last map: whoever uses the result gets a partial from
        every owner but itself, and finishes."""
        speeds = self.classes.speeds(layer)
        area = self.chain.areas[-1]
        least = self.levels.attained(self.classes, self.chain.sizes[-1])
        pixel_s = layer.nodes[0].flop / area / self.classes.flop_per_s(layer)
        own = np.array([speed.overhead_s for speed in speeds]) + least * pixel_s
        finish = min(speed.seconds(layer.flop - layer.nodes[0].flop) for speed in speeds)
        compute = np.maximum(np.where(caps >= least, own, np.inf).min(axis=1), finish)
        senders = np.array([fewest_owners(cap, self.classes.counts, area) - 1 for cap in caps])
        size = partial_bytes(self.network, layer) * self.classes.seconds_per_byte().min()
        comm = senders * (size + self.wait_s)
        if self.cluster.shared:
            return self._joined(comm, compute, compute)
        return np.asarray(np.maximum(self._joined(comm, finish, comm), compute))

    def _apart_s(self) -> float:
        """Layers that no run's segment holds, and global layers before the path's end."""
        total = sum(self.states.balanced_s(layer) for layer in self.chain.apart)
        ending = self._reductions(self.chain.layers[-1].name)
        for layer in self.network.shared_out:
            if layer.kind == "global" and layer not in ending:
                speeds = [layer_speed(device, layer) for device in self.cluster.devices]
                partial = layer.nodes[0].flop if layer.reduces else 0.0
                balanced = partial / sum(speed.flop_per_s for speed in speeds)
                total += max(balanced, min(s.seconds(layer.flop - partial) for s in speeds))
        return total


def _best_of_interval(
    runs: Runs, arrived: FloatArray, least: FloatArray, parts: tuple[int, int]
) -> FloatArray:
    """Cheapest seconds [part] for the ``parts`` of one interval; ``least`` [start, part] are
    cheapest ones by what one device takes."""

    def through(which: IntArray) -> FloatArray:
        some = runs.some(which)
        ways = arrived[some.starts][:, :, None] + some.interval(*parts)
        return np.asarray(ways.min(axis=(0, 1)))

    if not np.isfinite(least).any():
        return np.full(least.shape[1], np.inf)
    seen = np.zeros(len(least), dtype=np.bool_)
    seen[least.argmin(axis=0)] = True
    best = through(np.flatnonzero(seen))
    left = np.flatnonzero((least < best * (1 - EQUAL)).any(axis=1) & ~seen)
    return np.minimum(best, through(left)) if len(left) else best
