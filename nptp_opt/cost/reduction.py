"""Prices of global layers: partials from the owners of tiles, the result wherever it is used.

Each owner of a tile of the reduced map computes a partial of it and sends it to every device that
uses the result; each of those finishes alike. A global layer that reads only such results sends
nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from nptp_opt.cluster import Cluster
from nptp_opt.cost.loads import LoadArrays, Transfer
from nptp_opt.cost.segment import Ownership, gather_needs
from nptp_opt.cost.speed import layer_speed, speeds_of
from nptp_opt.geometry import IntArray, Tile
from nptp_opt.network.ir import Layer, Network

RESULT = Tile(0, 1, 0, 1)
"""The map of a global layer's result, and the rectangle of a partial in a transfer."""


def partial_bytes(network: Network, layer: Layer) -> int:
    """Bytes of one device's partial; 0 for a layer that reduces nothing."""
    return layer.partial_elements * network.bytes_per_element


def result_users(
    network: Network, sink: int, parts: Sequence[tuple[str, Sequence[str], Iterable[int]]]
) -> dict[str, frozenset[int]]:
    """The devices that use the result of every global layer, directly or through another one.

    ``parts`` are the steps before the head in order: what each makes, the tensors that it reads,
    and the devices that compute a tile of it (for a global layer the devices do not matter).
    """
    users: dict[str, set[int]] = {name: set() for name in network.replicated}
    for tensor in gather_needs(network, network.head, sink, network.spatial_outputs):
        if tensor in users:
            users[tensor].add(sink)
    for output, reads, devices in reversed(parts):
        for tensor in reads:
            if tensor in users:
                users[tensor] |= users[output] if output in users else set(devices)
    return {name: frozenset(found) for name, found in users.items()}


def reduction_transfers(
    network: Network, layer: Layer, owners: Ownership, users: Collection[int]
) -> list[Transfer]:
    """Partials of a reducing layer from every owner to every other user, named by the layer."""
    if not layer.reduces:
        return []
    size = partial_bytes(network, layer)
    return [
        Transfer(src, dst, layer.name, RESULT, size)
        for dst in sorted(users)
        for src, tile in sorted(owners.items())
        if src != dst and not tile.is_empty
    ]


def reduction_compute_s(
    cluster: Cluster, network: Network, layer: Layer, device: int, tile: Tile, *, uses: bool
) -> float:
    """Seconds on one device that owns ``tile`` of the reduced map and may use the result."""
    if tile.is_empty and not uses:
        return 0.0
    partial, finish = _flop(network, layer)
    speed = layer_speed(cluster.devices[device], layer)
    return speed.seconds(partial * tile.area + finish * uses)


def _flop(network: Network, layer: Layer) -> tuple[float, float]:
    """FLOP per pixel of the reduced map, and of finishing the result."""
    if not layer.reduces:
        return 0.0, layer.flop
    anchor = layer.nodes[0]
    return anchor.flop / network.full(anchor.inputs[0]).area, layer.flop - anchor.flop


def reduction_load_arrays(
    cluster: Cluster,
    network: Network,
    layer: Layer,
    owners: IntArray,
    users: npt.NDArray[np.bool_],
) -> LoadArrays:
    """Loads (P, Q, n) for owners (P or 1, Q or 1, n, 4) of the map and users (Q, n)."""
    area = (owners[..., 1] - owners[..., 0]) * (owners[..., 3] - owners[..., 2])
    owns, uses = area > 0, users[None]
    links = float(partial_bytes(network, layer)) * (uses[..., :, None] & owns[..., None, :])
    n = links.shape[-1]
    links[..., np.arange(n), np.arange(n)] = 0.0
    partial, finish = _flop(network, layer)
    speeds = speeds_of(cluster.devices, [layer]).on(0)
    return LoadArrays(
        compute_s=speeds.seconds(partial * area + finish * uses, owns | uses),
        recv_bytes=links.sum(axis=-1),
        send_bytes=links.sum(axis=-2),
        messages=(links > 0).sum(axis=-1),
    )
