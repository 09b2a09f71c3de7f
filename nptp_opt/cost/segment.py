"""Costs of a segment inside a network, from what devices hold before it (docs/cost.md)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from nptp_opt.cluster import Cluster
from nptp_opt.cost.encoding import wire
from nptp_opt.cost.loads import Load, Transfer
from nptp_opt.cost.speed import layer_speed
from nptp_opt.geometry import IntArray, Tile
from nptp_opt.network.ir import Layer, Network, external_inputs, regions

Ownership = Mapping[int, Tile]
"""What each device holds of one tensor; devices that hold nothing may be absent."""


def input_ownership(network: Network, cluster: Cluster) -> dict[str, dict[int, Tile]]:
    """Who holds the network's inputs before the first step: the source, entire."""
    return {name: {cluster.source: network.full(name)} for name in network.inputs}


def halo_transfers(
    cluster: Cluster,
    network: Network,
    needs: Mapping[str, Ownership],
    owned: Mapping[str, Ownership],
) -> list[Transfer]:
    """Every rectangle that must move so that each device has its needs.

    ``owned`` tiles of a tensor are disjoint, so each element has one sender. What global layers
    make is on every device that uses it and does not move.
    """
    moves = []
    for tensor, wanted in needs.items():
        if tensor in network.replicated:
            continue
        sent = wire(cluster, network, tensor)
        for dst, src, part in _common(wanted, owned[tensor]):
            moves.append(sent.transfer(src, dst, tensor, part))
    return moves


def _common(wanted: Ownership, owned: Ownership) -> Iterator[tuple[int, int, Tile]]:
    """Who needs what of whom: of n^2 pairs of devices only those that meet."""
    receivers, senders = list(wanted), list(owned)
    need, own = _sides(wanted)[:, None], _sides(owned)[None]
    lows, highs = np.maximum(need, own)[..., ::2], np.minimum(need, own)[..., 1::2]
    for d, s in np.argwhere((lows < highs).all(axis=-1)).tolist():
        dst, src = receivers[d], senders[s]
        if dst != src:
            yield dst, src, wanted[dst].intersect(owned[src])


def _sides(tiles: Ownership) -> IntArray:
    """Tiles as an array (tiles, 4)."""
    sides = [(t.y0, t.y1, t.x0, t.x1) for t in tiles.values()]
    return np.array(sides, dtype=np.int64).reshape(-1, 4)


def step_loads(
    n_devices: int, transfers: Iterable[Transfer], compute_s: Mapping[int, float] | None = None
) -> list[Load]:
    """Loads of ``transfers`` per device, and seconds of those that compute."""
    recv, send = [0] * n_devices, [0] * n_devices
    senders: list[set[int]] = [set() for _ in range(n_devices)]
    for move in transfers:
        recv[move.dst] += move.bytes
        send[move.src] += move.bytes
        senders[move.dst].add(move.src)
    seconds = compute_s or {}
    return [Load(seconds.get(i, 0.0), recv[i], send[i], len(senders[i])) for i in range(n_devices)]


def segment_compute_s(cluster: Cluster, device: int, layers: Sequence[Layer], tile: Tile) -> float:
    """Compute seconds of a segment for ``tile`` of its output, recomputed rims included."""
    if tile.is_empty:
        return 0.0
    node, regions_of = cluster.devices[device], regions(layers, tile)
    calls = (
        layer_speed(node, layer).seconds(layer.flop_per_pixel * regions_of[layer.name].area)
        for layer in layers
        if not regions_of[layer.name].is_empty
    )
    return sum(calls, start=node.program_s)


def segment_needs(layers: Sequence[Layer], tiles: Ownership) -> dict[str, dict[int, Tile]]:
    """External input elements that every device needs for its tile of the segment's output."""
    regions_of = {
        device: regions(layers, tile) for device, tile in tiles.items() if not tile.is_empty
    }
    return {
        tensor: {device: region[tensor] for device, region in regions_of.items()}
        for tensor in external_inputs(layers)
    }


def gather_needs(
    network: Network, layers: Sequence[Layer], device: int, collect: Sequence[str] = ()
) -> dict[str, dict[int, Tile]]:
    """Whole tensors that ``device`` fetches: what ``layers`` read, and those to ``collect``."""
    wanted = dict.fromkeys((*external_inputs(layers), *collect))
    return {tensor: {device: network.full(tensor)} for tensor in wanted}


def gather_compute_s(cluster: Cluster, device: int, layers: Sequence[Layer]) -> float:
    """Compute seconds of whole-map layers on one device, a program; views cost nothing."""
    node = cluster.devices[device]
    speeds = [(layer, layer_speed(node, layer)) for layer in layers]
    calls = (
        speed.seconds(layer.flop) if layer.is_called else layer.flop / speed.flop_per_s
        for layer, speed in speeds
    )
    called = any(layer.is_called for layer in layers)
    return sum(calls, start=node.program_s if called else 0.0)
