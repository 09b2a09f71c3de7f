"""The cheapest way along a path under lower prices, and what follows the path."""

from __future__ import annotations

import numpy as np

from nptp_opt.cluster import Cluster
from nptp_opt.cost import FloatArray, gather_compute_s, layer_speed
from nptp_opt.cost.reduction import partial_bytes
from nptp_opt.geometry import IntArray
from nptp_opt.network.ir import Layer, Network
from nptp_opt.planner.bound.chain import longest_chain
from nptp_opt.planner.bound.devices import levels_of
from nptp_opt.planner.bound.steps import Prices, Pricing, fewest_owners

SOME = 1e-6
"""Fewer pixels than this are none: sums of whole numbers are only rounded."""

Pixels = dict[str, int]


class PathBound:
    """Bounds a network's latency on a cluster; ``read`` are pixels that every plan computes."""

    def __init__(
        self, network: Network, cluster: Cluster, read: Pixels, *, intervals: int, overlap: bool
    ) -> None:
        self.network, self.cluster, self.overlap = network, cluster, overlap
        self.chain = longest_chain(network, cluster)
        self.pricing = Pricing(self.chain, cluster, read, overlap=overlap)
        self.classes = self.pricing.classes
        self.levels = levels_of(self.classes.share, intervals)
        self.wait_s = cluster.network.latency_s
        self._pixels: dict[tuple[str, tuple[int, int]], IntArray] = {}

    def latency_s(self) -> float:
        """The bound: every state's cheapest arrival, then the tail and what is apart."""
        arrived: list[FloatArray] = []
        for at in range(1, self.chain.length + 1):
            prices = self.pricing.prices(at, self.levels)
            best = self._first(prices) + prices.barred
            for start in range(1, at):
                total = arrived[start - 1][:, None] + self._run(start, prices)
                best = np.minimum(best, total.min(axis=0) + prices.barred)
            arrived.append(best)
        return float((arrived[-1] + self._tail()).min()) + self._apart_s()

    def _first(self, prices: Prices) -> FloatArray:
        """Seconds [interval] of a run that begins at the input, which the source has."""
        classes, size = self.classes, self.chain.pixel_bytes[0]
        pixels = np.maximum(0.0, prices.needed[0])
        attained, waits = prices.attained_s[0], self.wait_s * (pixels > SOME)
        if self.cluster.shared:
            comm = pixels * size / self.cluster.network.bytes_per_s + waits
            return self._joined(comm, attained.min(axis=1), prices.mean_s[0] + waits)
        sent = pixels * size * classes.seconds_per_byte(up=True)[classes.source]
        needed = prices.least_need[0] if size else np.zeros_like(prices.least_need[0])
        got = needed * size * classes.seconds_per_byte()
        got[:, classes.source] = 0.0
        own = self._one_device(got, prices.least_need[0], attained).min(axis=1)
        if not self.overlap:
            mean = np.maximum(prices.mean_s[0] + self._mean_waits_s(0, prices), prices.sending_s)
            own = np.maximum(own, mean)
        return np.asarray(np.maximum(sent, own))

    def _run(self, start: int, prices: Prices) -> FloatArray:
        """Seconds [interval before, interval after] of a run from tensor ``start``."""
        moved, gained, left = self._moves(start, prices)
        size, attained = self.chain.pixel_bytes[start], prices.attained_s[start][None]
        if self.cluster.shared:
            byte_s = size / self.cluster.network.bytes_per_s
            comm = self._comm(moved, byte_s)
            most = np.maximum(comm[..., None], self._comm(gained, byte_s))
            mean = prices.mean_s[start] + (left - self.chain.areas[start]) * byte_s
            mean = mean + self.wait_s * (moved > SOME)
            if self.overlap:
                return np.asarray(np.maximum(most, attained).min(axis=2))
            return np.asarray(np.maximum((most + attained).min(axis=2), mean))
        got = gained * size * self.classes.seconds_per_byte()
        own = self._one_device(got, gained, attained).min(axis=2)
        own = np.maximum(own, self._gives(start, prices))
        mean = prices.mean_s[start][None] - self._saved(start)[:, None] * size
        mean = mean + self._surplus(start, prices) * size + self._mean_waits_s(start, prices)
        return np.asarray(own if self.overlap else np.maximum(own, mean))

    def _mean_waits_s(self, start: int, prices: Prices) -> FloatArray:
        """Weighted seconds [interval] of waiting on a switched network: one message less than
        owners where neighbours read something in common."""
        least = self.wait_s * self.classes.share.min()
        return np.asarray((prices.owners - 1) * (least * prices.joined[start]))

    def _gives(self, start: int, prices: Prices) -> FloatArray:
        """Seconds [before, after] in which the device that attains the level before sends what
        others read, and computes."""
        byte_s = self.chain.pixel_bytes[start] * self.classes.seconds_per_byte(up=True)
        sent = (self._owned(start) - prices.unread[start]) * byte_s
        weights, least = self.pricing.weights, prices.giving_s[start]
        totals = weights[:, 1, None, None, None] * sent[None, :, None, :] + least[:, None]
        return self._of_attaining(start, totals.max(axis=0))

    def _comm(self, pixels: FloatArray, byte_s: float) -> FloatArray:
        return pixels * byte_s + self.wait_s * (pixels > SOME)

    def _one_device(
        self, got_s: FloatArray, pixels: FloatArray, compute_s: FloatArray
    ) -> FloatArray:
        """Seconds of a device that receives ``pixels`` in ``got_s``."""
        comm = got_s + self.wait_s * ((pixels > SOME) & (got_s > 0))
        return np.maximum(comm, compute_s) if self.overlap else comm + compute_s

    def _joined(self, comm: FloatArray, compute_s: FloatArray, mean_s: FloatArray) -> FloatArray:
        if self.overlap:
            return np.maximum(comm, compute_s)
        return np.maximum(comm + compute_s, mean_s)

    def _moves(self, start: int, prices: Prices) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Pixels that move at least, by the levels before and after: over all devices; to the
        device that attains the level after (by class); what that of the level before gives away.
        """
        area = self.chain.areas[start]
        most = self._caps(start)
        surplus = self._of_attaining(start, np.maximum(0.0, self._beyond_need(start, prices)))
        moved = np.maximum(0.0, prices.needed[start][None] - area + surplus)
        gained = np.maximum(0.0, prices.least_need[start][None] - most[:, None, :])
        return moved, gained, surplus

    def _beyond_need(self, start: int, prices: Prices) -> FloatArray:
        """Pixels [before, after, class] that the device that attains the level before does not
        need within the level after."""
        owned = self._owned(start)
        return np.asarray(owned[:, None, :] - prices.most_need[start][None])

    def _of_attaining(self, start: int, by_class: FloatArray) -> FloatArray:
        """The least over the classes that can attain the level before."""
        can = self._caps(start) >= self._owned(start)
        least = np.where(can[:, None, :], by_class, np.inf).min(axis=2)
        return np.where(np.isfinite(least), least, 0.0)

    def _surplus(self, start: int, prices: Prices) -> FloatArray:
        """Seconds per byte [before, after] that the owner of most adds to the weighted mean: what
        it does not need was counted as saved, and it has to be sent."""
        kept = np.maximum(0.0, self._beyond_need(start, prices))
        sent = np.maximum(0.0, kept - prices.unread[start])
        seconds = kept * self.classes.seconds_per_byte()
        seconds = seconds + sent * self.classes.seconds_per_byte(up=True)
        return self._of_attaining(start, seconds * self.classes.share)

    def _caps(self, tensor: int) -> IntArray:
        """Most pixels [interval, class] of a tensor that a device owns."""
        size = self.chain.sizes[tensor]
        if ("most", size) not in self._pixels:
            self._pixels["most", size] = self.levels.caps(self.classes, size)
        return self._pixels["most", size]

    def _owned(self, tensor: int) -> IntArray:
        """Least pixels [interval, class] of the device that attains the level."""
        size = self.chain.sizes[tensor]
        if ("least", size) not in self._pixels:
            self._pixels["least", size] = self.levels.attained(self.classes, size)
        return self._pixels["least", size]

    def _saved(self, start: int) -> FloatArray:
        """Per interval the most that what devices own saves, in weighted seconds per byte."""
        classes = self.classes
        value = classes.share * classes.seconds_per_byte()
        caps = self._caps(start)
        left = np.full(len(caps), float(self.chain.areas[start]))
        saved = np.zeros(len(caps))
        for cls in np.argsort(-value):
            part = np.minimum(left, caps[:, cls] * float(classes.counts[cls]))
            saved += part * value[cls]
            left -= part
        return saved

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
        total = sum(self.pricing.balanced_s(layer) for layer in self.chain.apart)
        ending = self._reductions(self.chain.layers[-1].name)
        for layer in self.network.shared_out:
            if layer.kind == "global" and layer not in ending:
                speeds = [layer_speed(device, layer) for device in self.cluster.devices]
                partial = layer.nodes[0].flop if layer.reduces else 0.0
                balanced = partial / sum(speed.flop_per_s for speed in speeds)
                total += max(balanced, min(s.seconds(layer.flop - partial) for s in speeds))
        return total
