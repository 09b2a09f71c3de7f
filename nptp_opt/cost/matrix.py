"""Costs of many partitions at once, ownership given, for planners: equal to a step's loads, entry
by entry.

Legend of shapes: P candidates before the segment, Q candidates of its output, n devices; a tile is
four integers (y0, y1, x0, x1).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nptp_opt.cluster import Cluster
from nptp_opt.cost.encoding import wire
from nptp_opt.cost.loads import FloatArray, LoadArrays
from nptp_opt.cost.objectives import Weights, step_costs
from nptp_opt.cost.pairs import covered_loads, own_links, own_loads, pair_loads
from nptp_opt.cost.regions import CandidateTiles, SegmentRegions
from nptp_opt.cost.segment import Ownership, gather_compute_s, gather_needs
from nptp_opt.cost.speed import speeds_of
from nptp_opt.geometry import IntArray
from nptp_opt.network.ir import Layer, Network, external_inputs

BoolArray = npt.NDArray[np.bool_]

MOST_AT_ONCE = 1 << 18
"""Loads of single devices that are held at once: a few MB, which stay in the cache."""


def candidate_array(candidates: Sequence[Ownership], n_devices: int) -> IntArray:
    """Partitions as one array (Q, n, 4); a device without a tile has zeros."""
    rows = [(0, 0, 0, 0)] * (len(candidates) * n_devices)
    for q, tiles in enumerate(candidates):
        for device, tile in tiles.items():
            if not tile.is_empty:
                rows[q * n_devices + device] = tile
    return np.array(rows, dtype=np.int64).reshape(len(candidates), n_devices, 4)


@dataclass(frozen=True)
class StepCosts:
    """What Q alternatives of one step need and compute, to be evaluated against P states before it.

    ``needs`` gives per tensor the rectangles (Q, n, 4) that every device reads, ``compute_s`` the
    seconds (Q, n) that it computes. Seconds of encoding and decoding are left out.
    """

    cluster: Cluster
    network: Network
    needs: Mapping[str, IntArray]
    compute_s: FloatArray

    def makespans(
        self,
        before: Mapping[str, IntArray],
        inside: Mapping[str, IntArray] | None = None,
        worth: BoolArray | None = None,
        weights: Weights | None = None,
    ) -> FloatArray:
        """Makespans (P, Q), infinite for pairs that are not ``worth`` it: see ``loads``.

        With ``weights`` the costs that these make of makespan and loads.
        """
        q, n = self.compute_s.shape
        count = max([1, *(len(owners) for owners in before.values())])
        kept = np.ones((count, q), dtype=np.bool_) if worth is None else worth
        count = len(kept)  # more than there are owners where nothing is read that the P differ in
        seconds = np.empty((count, q))
        step = max(1, MOST_AT_ONCE // (q * n))
        for at in (slice(start, start + step) for start in range(0, count, step)):
            some = {t: own[at] if len(own) > 1 else own for t, own in before.items()}
            seconds[at] = step_costs(self.cluster, self.loads(some, inside, kept[at]), weights)
        return np.where(kept, seconds, np.inf)

    def loads(
        self,
        before: Mapping[str, IntArray],
        inside: Mapping[str, IntArray] | None = None,
        worth: BoolArray | None = None,
    ) -> LoadArrays:
        """Loads (P, Q, n). ``before`` owns tensors by P candidates, ``inside`` by the Q own ones.

        Every external input is in one of the two; without any in ``before``, P is 1. Owners that
        are the same for all P may have P = 1. Pairs not ``worth`` it (P, Q) exchange nothing.
        """
        q, n = self.compute_s.shape
        count = max([1, *(len(owners) for owners in before.values())])
        shape = (count if worth is None else len(worth), q, n)
        if worth is None:
            worth = np.ones(shape[:2], dtype=np.bool_)
        owners = {t: np.broadcast_to(own, (shape[0], n, 4)) for t, own in before.items()}
        recv, sent, messages = self._exchange(owners, inside or {}, worth)
        compute_s = np.broadcast_to(self.compute_s, shape)
        return LoadArrays(compute_s, recv, sent, messages)

    def _exchange(
        self, before: Mapping[str, IntArray], inside: Mapping[str, IntArray], worth: BoolArray
    ) -> FloatArray:
        """Received, sent and messages as (3, P, Q, n)."""
        if len(before) == 1 and not inside:
            ((tensor, owners),) = before.items()
            sent = wire(self.cluster, self.network, tensor)
            if sent.is_uniform:
                pixel, extra = float(sent.pixel_bytes[0, 0]), float(sent.rectangle_bytes[0, 0])
                return covered_loads(self.needs[tensor], owners, pixel, extra, worth)
        if not before and worth.all():
            return np.asarray(own_loads(*self._own(inside), *self._sizes(inside)))
        needs = self._stack([self.needs[tensor] for tensor in before], len(self.compute_s))
        owners = self._stack(list(before.values()), len(worth))
        sizes = self._sizes(before)
        return np.asarray(pair_loads(needs, owners, self._links(inside), *sizes, worth))

    def _links(self, inside: Mapping[str, IntArray]) -> FloatArray:
        """Bytes (Q, n, n) that the Q candidates themselves make devices i receive from j."""
        return np.asarray(own_links(*self._own(inside), *self._sizes(inside)))

    def _own(self, inside: Mapping[str, IntArray]) -> tuple[IntArray, IntArray]:
        """Needs and owners (T, Q, n, 4) of what the candidates themselves own."""
        q = len(self.compute_s)
        needs = self._stack([self.needs[tensor] for tensor in inside], q)
        owners = self._stack([np.broadcast_to(own, needs.shape[1:]) for own in inside.values()], q)
        return needs, owners

    def _stack(self, arrays: Sequence[IntArray], count: int) -> IntArray:
        """Rectangles of several tensors as one array (T, count, n, 4)."""
        empty = np.zeros((0, count, self.compute_s.shape[1], 4), dtype=np.int64)
        return np.ascontiguousarray(np.stack(arrays)) if arrays else empty

    def _sizes(self, tensors: Iterable[str]) -> FloatArray:
        """Bytes of pixels and of rectangles (2, T, n, n), by sender and receiver."""
        sent = [wire(self.cluster, self.network, tensor) for tensor in tensors]
        n = self.compute_s.shape[1]
        found = [[each.pixel_bytes, each.rectangle_bytes] for each in sent]
        return np.ascontiguousarray(np.array(found).reshape(-1, 2, n, n).swapaxes(0, 1))


def segment_costs(
    cluster: Cluster, network: Network, layers: Sequence[Layer], tiles: CandidateTiles
) -> StepCosts:
    """Costs of one segment for Q partitions of its output."""
    regions = SegmentRegions.of(layers, tiles)
    speeds = speeds_of(cluster.devices, layers)
    program_s = np.array([device.program_s for device in cluster.devices])
    compute_s = np.asarray(program_s * tiles.filled, dtype=np.float64)
    for k, layer in enumerate(layers):
        area = regions.area(layer.name)
        compute_s += speeds.on(k).tile_s(layer.flop_per_pixel, area)
    moving = [tensor for tensor in external_inputs(layers) if tensor not in network.replicated]
    needs = {tensor: regions.tiles(tensor) for tensor in moving}
    return StepCosts(cluster, network, needs, compute_s)


def gather_costs(
    cluster: Cluster,
    network: Network,
    layers: Sequence[Layer],
    device: int,
    collect: Sequence[str] = (),
) -> StepCosts:
    """Costs of bringing whole tensors to ``device``, which runs ``layers``; Q is 1."""
    n = len(cluster.devices)
    needs = {
        tensor: candidate_array([wanted], n)
        for tensor, wanted in gather_needs(network, layers, device, collect).items()
        if tensor not in network.replicated
    }
    compute_s = np.zeros((1, n))
    compute_s[0, device] = gather_compute_s(cluster, device, layers)
    return StepCosts(cluster, network, needs, compute_s)
