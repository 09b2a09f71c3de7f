"""A lower bound on the latency without barriers: of every plan and every schedule of it.

Little is used of a schedule, so that no order of pieces or messages escapes: a device computes one
thing at a time; it computes a pixel when it has all that the pixel reads, computed by itself or
received; a medium or a way of a link carries one message at a time, and takes its bytes over the
rate for it; a message takes ``message_s`` of its sender before and ``latency_s`` after that (one
*hop*); the head runs on the sink, after all that it reads. The bound is the largest of three. T is
the latency.

**Busy devices.** Every plan computes at least the pixels of every layer that something reads
(``read_pixels``), and calls every layer at least once. Device i has a weight s_i, its share at
perfect balance; they sum to 1. Whoever computes a pixel of layer l adds at least min_i s_i c_il to
the weighted busy seconds sum s_i busy_i, whoever calls it first min_i s_i o_il. W is the sum of
these. Device i is busy within a window of at most T - off_i seconds: the head is the sink's last
``head_s``; where every pixel of every map reads something, nothing but the source begins before one
hop; where every pixel is read, nothing but the sink ends later than a hop before the head begins.
So

    sum over i of s_i max(0, T - off_i) >= W.

**What leaves the source.** Take a path of layers 1 ... m (``bound.chain``) from an input, tensor 0.
Let S_l be the pixels of layer l that the source computes, B_l those that all others do, whether
hidden in a segment, twice, or for a tile; r_l the pixels of tensor l that others receive from the
source (once each). Any q outputs of layer l read at least g_l q pixels of tensor l - 1: on either
axis, any set of outputs reads at least g positions per output (of sets whose windows touch, ranges
read least per output), so by Hall's theorem outputs can be given g positions each that they read
and share with no other output; the product of both axes gives every output pixel g_l = g_y g_x
pixels of its own. So

    g_l |B_l| <= |B_(l-1)| + r_(l-1),    B_0 empty,

and sum p_l |B_l| <= sum V_a r_a, with p_l the source's seconds per pixel, V_m = 0 and V_(l-1) =
(p_l + V_l) / g_l. All that is read is in S_l or B_l, so the source computes sum p_l |S_l| >= W_s -
sum V_a r_a for at most T - off seconds, where W_s is the path's work on the source. Bytes that
leave it take at least alpha (W_s - T + off) seconds of the medium, or of its way up, with alpha the
least of seconds per pixel over V_a. All of these are carried in T less a hop (and the head, as
above). So

    T >= hop + alpha (W_s + off - T),  or the source does everything and T >= W_s + off.

**What reaches the sink.** If the sink collects the last map, then |S_m| + r_m >= |m| for what it
computes and receives, and what it computes it has the operands of: |S_(l-1)| + r_(l-1) >= g_l
|S_l|. So sum p_l |S_l| >= sum p_l D_l - sum V'_a r_a, with D_m = |m|, D_(l-1) = g_l D_l, V'_0 = 0,
V'_l = p_l + g_l V'_(l-1), and the same follows for the sink's way down. On one medium, seconds of
both directions add up if source and sink are one device, since no message counts twice.

What is missing: halos (any q outputs read more than g q pixels), that devices other than the source
exchange among themselves, and that a device that joins late is idle before. The first two cannot be
had from sums over devices that are priced apart: a configuration LP whose columns are all that one
device can do within T seconds (shares of every map, by a dynamic programme, with exact halos)
proved no more than 6 % beyond perfect balance for VGG-16 on 8 devices: some devices compute the
early layers and leave the late ones to others, and nothing in such an LP says that these wait.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nptp_opt.bound.chain import Chain, axis_spans, longest_chain
from nptp_opt.bound.devices import balanced_shares
from nptp_opt.bound.latency import SAFETY, read_pixels
from nptp_opt.bound.tables import least_per_output
from nptp_opt.cluster import Cluster
from nptp_opt.cost import FloatArray, gather_compute_s, layer_speed
from nptp_opt.network.ir import Layer, Network, external_inputs


def clock_bound(network: Network, cluster: Cluster) -> float:
    """Seconds below which no plan's simulated latency comes, whatever its schedule."""
    case = _Case(network, cluster)
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
        """What leaves the source or reaches the sink, or else one of them does everything."""
        source, sink = self.cluster.source, self.cluster.sink
        found = [self._out(source), self._into(sink)]
        if source == sink and self.cluster.shared:
            found.append(_both(*found))
        tail_s = self.hop_s + self.head_s * self.leads_on
        return max(flow.least_s(tail_s) for flow in found)

    def _out(self, device: int) -> _Flow:
        """What leaves the source, by how much of the path's work others do."""
        pixel_s, per_output = self._pixel_s(device), self._per_output
        worth = np.zeros(self.chain.length + 1)
        for k in range(self.chain.length, 0, -1):
            worth[k - 1] = _ratio(pixel_s[k - 1] + worth[k], per_output[k - 1])
        if self.chain.source is None:  # others need nothing of the source
            worth[:] = np.inf
        work_s = float(pixel_s @ [self.pixels[layer.name] for layer in self.chain.layers])
        return _Flow(self._alpha(device, worth[:-1], up=True), work_s + self._off()[device])

    def _into(self, device: int) -> _Flow:
        """What reaches the sink; nothing where it does not collect the last map."""
        last = self.chain.names[-1]
        wanted = (*external_inputs(self.network.head), *self.network.spatial_outputs)
        if last not in wanted:
            return _Flow(0.0, 0.0)
        pixel_s, per_output = self._pixel_s(device), self._per_output
        worth, pixels = np.zeros(self.chain.length + 1), float(self.chain.areas[-1])
        for k in range(1, self.chain.length + 1):
            worth[k] = pixel_s[k - 1] + per_output[k - 1] * worth[k - 1]
        work_s = pixels * float(worth[-1])
        alpha = self._alpha(device, worth[1:], up=False)
        return _Flow(alpha, work_s + self._off()[device])

    def _pixel_s(self, device: int) -> FloatArray:
        """Seconds per pixel of the path's layers."""
        node = self.cluster.devices[device]
        return np.array(
            [x.flop_per_pixel / layer_speed(node, x).flop_per_s for x in self.chain.layers]
        )

    @cached_property
    def _per_output(self) -> FloatArray:
        """g of the path's layers."""
        names = self.chain.names
        return np.array(
            [
                0.0 if name is None else _per_axis(layer, name, 0) * _per_axis(layer, name, 1)
                for layer, name in zip(self.chain.layers, names, strict=False)
            ]
        )

    def _alpha(self, device: int, worth: FloatArray, *, up: bool) -> float:
        """The least seconds on the way ``up`` or down per second that is spared by a pixel."""
        node = self.cluster.devices[device]
        if self.cluster.shared:
            rate = self.cluster.network.bytes_per_s
        else:
            rate = node.up_bytes_per_s if up else node.down_bytes_per_s
        tensors = self.chain.pixel_bytes[:-1] if up else self.chain.pixel_bytes[1:]
        found = [_ratio(size / rate, each) for size, each in zip(tensors, worth, strict=True)]
        return min(found)


@dataclass(frozen=True)
class _Flow:
    """``alpha`` seconds of a link for every second that T is below ``alone_s``."""

    alpha: float
    alone_s: float

    def least_s(self, tail_s: float) -> float:
        """The least T >= tail + alpha (alone - T), or that of the device alone."""
        if np.isinf(self.alpha):
            return self.alone_s
        return min(self.alone_s, (tail_s + self.alpha * self.alone_s) / (1 + self.alpha))


def _both(out: _Flow, into: _Flow) -> _Flow:
    """Both on one medium, both for every second below the earlier of the two."""
    return _Flow(out.alpha + into.alpha, min(out.alone_s, into.alone_s))


def _ratio(value: float, by: float) -> float:
    """``value / by``, infinite for a ``by`` of 0."""
    return value / by if by > 0 else float("inf")


def _per_axis(layer: Layer, tensor: str, axis: int) -> float:
    """Fewest positions per output that any outputs of an axis read."""
    return float(least_per_output(*axis_spans(layer.maps[tensor][axis])))


def _reads(layer: Layer, tensor: str) -> bool:
    return tensor not in layer.maps or all(_per_axis(layer, tensor, axis) > 0 for axis in (0, 1))
