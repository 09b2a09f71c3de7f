"""A lower bound on the latency without barriers: of every plan and every schedule of it.

Little is used of a schedule, so that no order of pieces or messages escapes: a device computes one
thing at a time; it computes a pixel when it has all that the pixel reads, computed by itself or
received; a medium or a way of a link carries one message at a time, and takes its bytes over the
rate for it; a message takes ``message_s`` of its sender before and ``latency_s`` after that (one
*hop*); the head runs on the sink, after all that it reads. The bound is the larger of two. T is the
latency.

**Busy devices.** Every plan computes at least the pixels of every layer that something reads
(``read_pixels``), and calls every layer at least once. Device i has a weight s_i, its share at
perfect balance; they sum to 1. Whoever computes a pixel of layer l adds at least min_i s_i c_il to
the weighted busy seconds sum s_i busy_i, whoever calls it first min_i s_i o_il. W is the sum of
these. Device i is busy within a window of at most T - off_i seconds: the head is the sink's last
``head_s``; where every pixel of every map reads something, nothing but the source begins before one
hop; where every pixel is read, nothing but the sink ends later than a hop before the head begins.
So

    sum over i of s_i max(0, T - off_i) >= W.

**Exchange.** What the source does not compute others do, and for that they receive something of it;
what the sink collects it computes or receives: a linear programme (``bound.exchange``), of the
source against all others and of the sink against all others.

What is missing: halos (any q outputs read more than g q pixels), that devices other than the source
exchange among themselves, and that a device that joins late is idle before. A prototype evaluated
devices apart for the first two (a configuration LP whose columns are all that one device can do
within T seconds, with exact halos but without multipliers for borders): 6 % beyond perfect balance
for VGG-16 on 8 devices. Some devices compute the early layers in it and leave the late ones to
others, and nothing says that these wait.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nptp_opt.bound.chain import Chain, least_per_output, longest_chain
from nptp_opt.bound.exchange import Exchange
from nptp_opt.bound.reads import read_pixels
from nptp_opt.cluster import Cluster
from nptp_opt.cost import FloatArray, gather_compute_s, layer_speed
from nptp_opt.network.ir import Layer, Network, external_inputs

SAFETY = 1e-9
"""Relative margin for the rounding of sums."""


def clock_bound(network: Network, cluster: Cluster) -> float:
    """Seconds below which no plan's simulated latency comes, whatever its schedule."""
    case = _Case(network, cluster)
    if not network.shared_out:
        return case.head_s * (1 - SAFETY)
    if not network.spatial:  # reductions and whole nodes alone: no path
        return case.busy_s() * (1 - SAFETY)
    return max(case.busy_s(), case.exchange_s()) * (1 - SAFETY)


@dataclass(frozen=True)
class _Case:
    network: Network
    cluster: Cluster

    @cached_property
    def chain(self) -> Chain:
        return longest_chain(self.network, self.cluster)

    @cached_property
    def pixels(self) -> Mapping[str, int]:
        return read_pixels(self.network)

    @cached_property
    def head_s(self) -> float:
        return gather_compute_s(self.cluster, self.cluster.sink, self.network.head)

    @property
    def hop_s(self) -> float:
        return self.cluster.network.message_s + self.cluster.network.latency_s

    # -- busy devices --------------------------------------------------------------------------

    def busy_s(self) -> float:
        """The least T whose windows hold the work."""
        work_s, share = self._weighted()
        off_s = self._off()
        order = np.argsort(off_s)
        held = np.cumsum(share[order])
        return float(((work_s + np.cumsum((share * off_s)[order])) / held).min())

    def _weighted(self) -> tuple[float, FloatArray]:
        """Weighted seconds that every plan is busy for, and the devices' weights."""
        layers = self.network.shared_out
        speeds = [[layer_speed(d, layer) for d in self.cluster.devices] for layer in layers]
        flop = np.array([self._flop(layer) for layer in layers])
        rate = np.array([[speed.flop_per_s for speed in own] for own in speeds])
        share = balanced_shares((flop[:, None] / rate).sum(axis=0))
        fixed = np.array([[speed.overhead_s for speed in own] for own in speeds])
        called = np.array([layer.is_called and self._counts(layer) for layer in layers])
        each = (share * flop[:, None] / rate).min(axis=1) + called * (share * fixed).min(axis=1)
        return float(each.sum()), share

    def _flop(self, layer: Layer) -> float:
        if layer.kind != "spatial":
            return layer.flop
        return layer.flop_per_pixel * self.pixels[layer.name]

    def _counts(self, layer: Layer) -> bool:
        """Is some pixel of it read?"""
        return layer.kind != "spatial" or self.pixels[layer.name] > 0

    def _off(self) -> FloatArray:
        """Seconds at either end in which each device does not compute, the head included."""
        devices = np.arange(len(self.cluster.devices))
        source, sink = devices == self.cluster.source, devices == self.cluster.sink
        before_s = self.hop_s * (~source & self.reads_all)
        after_s = np.where(sink, self.head_s, (self.hop_s + self.head_s) * self.leads_on)
        return np.asarray(before_s + after_s)

    @cached_property
    def reads_all(self) -> bool:
        """Does every pixel of every map read something?"""
        return all(
            bool(layer.inputs) and all(_reads(layer, tensor) for tensor in layer.inputs)
            for layer in self.network.shared_out
        )

    @cached_property
    def leads_on(self) -> bool:
        """Is every pixel of every map read? Not where partials are computed, for which nothing
        waits: only the tiles of the map leave before."""
        return all(
            layer.kind == "spatial" and self.pixels[layer.name] == layer.height * layer.width
            for layer in self.network.shared_out
        )

    # -- exchange ------------------------------------------------------------------------------

    def exchange_s(self) -> float:
        """The least T of the source's programme and of the sink's."""
        return max(self._apart_s(device) for device in {self.cluster.source, self.cluster.sink})

    def _apart_s(self, device: int) -> float:
        """The least T of the programme, or of a source and sink that does everything."""
        programme = self._programme(device)
        found = programme.least_s() if len(self.cluster.devices) > 1 else np.inf
        if self.cluster.source == self.cluster.sink or not self.reads_all:
            found = min(found, programme.off_s + float(programme.own_s[1:] @ programme.read))
        return found

    def _programme(self, device: int) -> Exchange:
        chain, (_, share) = self.chain, self._weighted()
        seconds = np.array([self._whole_s(layer) for layer in chain.layers])
        others = np.delete(share * seconds, device, axis=1).min(axis=1, initial=np.inf)
        areas = np.array(chain.areas, dtype=float)
        off_path = [layer for layer in self.network.shared_out if layer not in chain.layers]
        rest = sum(float((share * self._read_s(layer)).min()) for layer in off_path)
        return Exchange(
            cluster=self.cluster,
            device=device,
            own_s=np.append(0.0, seconds[:, device]),
            others_s=np.append(0.0, others),
            rest_s=rest,
            weight=float(share[device]),
            per_output=self._per_output * areas[1:] / np.maximum(areas[:-1], 1.0),
            read=np.array([self.pixels[layer.name] for layer in chain.layers]) / areas[1:],
            sizes=areas * chain.pixel_bytes,
            off_s=float(self._off()[device]),
            tail_s=(self.hop_s + self.head_s * self.leads_on) * self.reads_all,
            has_input=chain.source is not None,
            collected=chain.names[-1] in self._collected,
        )

    def _whole_s(self, layer: Layer) -> FloatArray:
        """Every device's seconds for all of a layer, without its calls."""
        speeds = [layer_speed(node, layer) for node in self.cluster.devices]
        return np.array([layer.flop / speed.flop_per_s for speed in speeds])

    def _read_s(self, layer: Layer) -> FloatArray:
        """As ``_whole_s``, of what is read."""
        part = self._flop(layer) / layer.flop if layer.flop else 0.0
        return part * self._whole_s(layer)

    @property
    def _collected(self) -> tuple[str, ...]:
        """Tensors that the sink collects entire."""
        return (*external_inputs(self.network.head), *self.network.spatial_outputs)

    @cached_property
    def _per_output(self) -> FloatArray:
        """g of the path's layers."""
        pairs = zip(self.chain.layers, self.chain.names, strict=False)
        found = [
            0.0 if name is None else _per_axis(layer, name, 0) * _per_axis(layer, name, 1)
            for layer, name in pairs
        ]
        return np.array(found)


def _per_axis(layer: Layer, tensor: str, axis: int) -> float:
    return least_per_output(layer.maps[tensor][axis])


def balanced_shares(seconds: FloatArray) -> FloatArray:
    """Shares at perfect balance of devices that take ``seconds`` (n,) for all; even ones where
    nothing is computed (pads, shuffles): any that sum to 1 would do."""
    if not seconds.all():
        return np.full(len(seconds), 1.0 / len(seconds))
    rate = 1.0 / seconds
    return np.asarray(rate / rate.sum())


def _reads(layer: Layer, tensor: str) -> bool:
    return tensor not in layer.maps or all(_per_axis(layer, tensor, axis) > 0 for axis in (0, 1))
