"""Given prices of many partitions at once, for planners: equal to ``segment_loads`` entry by entry.

Legend of shapes: P candidates before the segment, Q candidates of its output, n devices; a tile is
four integers (y0, y1, x0, x1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nptp_opt.cluster import Cluster
from nptp_opt.cost.loads import FloatArray, LoadArrays, makespans_s
from nptp_opt.cost.segment import Ownership, gather_compute_s, gather_needs
from nptp_opt.cost.speed import layer_speed
from nptp_opt.geometry import IntArray, Tile
from nptp_opt.network.ir import Layer, Network, external_inputs, regions


def candidate_array(candidates: Sequence[Ownership], n_devices: int) -> IntArray:
    """Partitions as one array (Q, n, 4); a device without a tile has zeros."""
    array = np.zeros((len(candidates), n_devices, 4), dtype=np.int64)
    for q, tiles in enumerate(candidates):
        for device, tile in tiles.items():
            if not tile.is_empty:
                array[q, device] = _sides(tile)
    return array


@dataclass(frozen=True)
class StepPrices:
    """What Q alternatives of one step need and compute, to be priced against P states before it.

    ``needs`` gives per tensor the rectangles (Q, n, 4) that every device reads, ``compute_s`` the
    seconds (Q, n) that it computes.
    """

    cluster: Cluster
    network: Network
    needs: Mapping[str, IntArray]
    compute_s: FloatArray

    def makespans(
        self, before: Mapping[str, IntArray], inside: Mapping[str, IntArray] | None = None
    ) -> FloatArray:
        """Makespans (P, Q). ``before`` owns tensors by P candidates, ``inside`` by the Q own ones.

        Every external input is in one of the two; without any in ``before``, P is 1.
        """
        q, n = self.compute_s.shape
        links = np.zeros((1, q, n, n))
        for tensor, owners in before.items():
            links = links + self._bytes(tensor, owners[:, None])
        for tensor, owners in (inside or {}).items():
            links = links + self._bytes(tensor, owners[None])
        return makespans_s(
            self.cluster,
            LoadArrays(
                compute_s=np.broadcast_to(self.compute_s, links.shape[:-1]),
                recv_bytes=links.sum(axis=-1),
                send_bytes=links.sum(axis=-2),
                messages=(links > 0).sum(axis=-1),
            ),
        )

    def _bytes(self, tensor: str, owners: IntArray) -> FloatArray:
        """Bytes from device j to device i, shape (P or 1, Q, i, j)."""
        need = self.needs[tensor][None, :, :, None]
        own = owners[:, :, None, :]
        rows = np.minimum(need[..., 1], own[..., 1]) - np.maximum(need[..., 0], own[..., 0])
        columns = np.minimum(need[..., 3], own[..., 3]) - np.maximum(need[..., 2], own[..., 2])
        area = np.maximum(rows, 0) * np.maximum(columns, 0)
        n = area.shape[-1]
        area[..., np.arange(n), np.arange(n)] = 0
        return np.asarray(area * float(self.network.pixel_bytes(tensor)))


def segment_prices(
    cluster: Cluster, network: Network, layers: Sequence[Layer], tiles: IntArray
) -> StepPrices:
    """Prices of one segment for Q partitions (Q, n, 4) of its output."""
    q, n, _ = tiles.shape
    compute_s = np.zeros((q, n))
    speeds = [[layer_speed(device, layer) for layer in layers] for device in cluster.devices]
    overhead_s = np.array([[speed.overhead_s for speed in own] for own in speeds])
    flop_per_s = np.array([[speed.flop_per_s for speed in own] for own in speeds])
    moving = [tensor for tensor in external_inputs(layers) if tensor not in network.replicated]
    needs = {tensor: np.zeros((q, n, 4), dtype=np.int64) for tensor in moving}
    distinct, place = np.unique(tiles.reshape(-1, 4), axis=0, return_inverse=True)
    for k, sides in enumerate(distinct):
        tile = Tile(*(int(v) for v in sides))
        if tile.is_empty:
            continue
        at = (place == k).reshape(q, n)
        found = regions(layers, tile)
        flop = np.array([layer.flop_per_pixel * found[layer.name].area for layer in layers])
        calls = np.array([not found[layer.name].is_empty for layer in layers])
        seconds = (overhead_s * calls + flop / flop_per_s).sum(axis=1)
        compute_s = np.where(at, seconds, compute_s)
        for tensor, array in needs.items():
            array[at] = _sides(found[tensor])
    return StepPrices(cluster, network, needs, compute_s)


def gather_prices(
    cluster: Cluster,
    network: Network,
    layers: Sequence[Layer],
    device: int,
    collect: Sequence[str] = (),
) -> StepPrices:
    """Prices of bringing whole tensors to ``device``, which runs ``layers``; Q is 1."""
    n = len(cluster.devices)
    needs = {
        tensor: candidate_array([wanted], n)
        for tensor, wanted in gather_needs(network, layers, device, collect).items()
        if tensor not in network.replicated
    }
    compute_s = np.zeros((1, n))
    compute_s[0, device] = gather_compute_s(cluster, device, layers)
    return StepPrices(cluster, network, needs, compute_s)


def _sides(tile: Tile) -> tuple[int, int, int, int]:
    return tile.y0, tile.y1, tile.x0, tile.x1
