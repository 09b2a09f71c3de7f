"""Memory of a plan on each device: weights, live tiles, what a step holds; and its limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nptp_opt.cluster import MIB, Cluster
from nptp_opt.cost import BITMASK_BYTES, Ownership, Transfer
from nptp_opt.errors import InfeasibleError
from nptp_opt.evaluate.assemble import Choice, assemble
from nptp_opt.geometry import EMPTY, Tile
from nptp_opt.network.ir import Layer, Network, external_inputs, regions
from nptp_opt.plan.steps import GatherStep, SpatialStep, Step


def overfull(network: Network, cluster: Cluster, steps: Sequence[Step]) -> list[int]:
    """Devices whose limit the plan exceeds."""
    if not has_memory_limits(cluster):
        return []
    peaks = peak_bytes(network, len(cluster.devices), steps, cluster.source)
    return [i for i, peak in enumerate(peaks) if peak > cluster.devices[i].memory_bytes]


def overfull_devices(network: Network, cluster: Cluster, choices: Sequence[Choice]) -> list[int]:
    """As ``overfull``, for the plan of ``choices``."""
    if not has_memory_limits(cluster):
        return []
    return overfull(network, cluster, assemble(network, cluster, choices))


def has_memory_limits(cluster: Cluster) -> bool:
    """Does any device have a memory limit?"""
    return any(device.memory_mib is not None for device in cluster.devices)


def require_fit(network: Network, cluster: Cluster, steps: Sequence[Step], planner: str) -> None:
    """Raise InfeasibleError, naming the first device whose limit the plan exceeds."""
    peaks = peak_bytes(network, len(cluster.devices), steps, cluster.source)
    for device, peak in zip(cluster.devices, peaks, strict=True):
        if peak > device.memory_bytes:
            raise InfeasibleError(
                f"planner {planner!r}: device {device.name!r} needs {peak / MIB:.3g} MiB but has "
                f"memory_mib = {device.memory_mib:g}; raise it, or take another planner or device"
            )


def peak_bytes(network: Network, n_devices: int, steps: Sequence[Step], source: int) -> list[int]:
    """Largest number of bytes that every device holds at once while it executes ``steps``.

    Counted are the weights of all layers that it runs, the tiles that it owns of every tensor from
    the step that makes it to the last one that reads it, and within a step the halo buffers and
    the inner maps that are alive.
    """
    last = _last_uses(network, steps)
    owned: dict[str, Ownership] = {name: {source: network.full(name)} for name in network.inputs}
    peaks = [0] * n_devices
    for number, step in enumerate(steps):
        for device in range(n_devices):
            held = sum(
                _bytes(network, tensor, tiles.get(device, EMPTY))
                for tensor, tiles in owned.items()
                if last.get(tensor, -1) >= number
            )
            working = _working_bytes(network, step, device, owned)
            peaks[device] = max(peaks[device], held + working)
        owned |= step.makes
    weights = _weights(network, n_devices, steps)
    return [peak + weight for peak, weight in zip(peaks, weights, strict=True)]


def _last_uses(network: Network, steps: Sequence[Step]) -> dict[str, int]:
    last = dict.fromkeys(network.spatial_outputs, len(steps) - 1)
    for number, step in enumerate(steps):
        for tensor in external_inputs(step.layers_of(network)):
            last[tensor] = max(number, last.get(tensor, 0))
    return last


def _weights(network: Network, n_devices: int, steps: Sequence[Step]) -> list[int]:
    bytes_of = [0] * n_devices
    for step in steps:
        layers = step.layers_of(network)
        for device in step.devices:
            spatial = isinstance(step, SpatialStep)
            wanted = regions(layers, step.tiles[device]) if spatial else {}
            bytes_of[device] += sum(
                _weight_bytes(layer, wanted.get(layer.name)) for layer in layers
            )
    return bytes_of


def _weight_bytes(layer: Layer, tile: Tile | None) -> int:
    """Bytes of a layer's weights; of a linear layer those of the tile's features alone."""
    if layer.op != "linear" or tile is None:
        return layer.param_bytes
    return -(-layer.param_bytes * tile.height // layer.height)


def _working_bytes(
    network: Network, step: Step, device: int, owned: Mapping[str, Ownership]
) -> int:
    """Bytes of halo buffers and inner maps of one step on one device."""
    received = sum(_arriving_bytes(network, move) for move in step.transfers if move.dst == device)
    if device not in step.devices:
        return received
    if isinstance(step, GatherStep):
        return received + max((_size(network, name) for name in step.layers), default=0)
    if isinstance(step, SpatialStep):
        return received + _making(network, step, device)
    return received


def _making(network: Network, step: SpatialStep, device: int) -> int:
    """Bytes of inner maps, or of a tile that is put together from pieces and of the largest piece
    in the making."""
    layers, pieces = step.layers_of(network), step.pieces_of(device)
    making = max(_inner_peak(network, layers, regions(layers, piece)) for piece in pieces)
    whole = _bytes(network, step.layers[-1], step.tiles[device]) if len(pieces) > 1 else 0
    return whole + making


def _arriving_bytes(network: Network, move: Transfer) -> int:
    """Bytes of a rectangle as it is sent, and of its elements where these are something else."""
    elements = _bytes(network, move.tensor, move.tile)
    if move.encoding != "dense":  # it may come dense, and is decoded
        return BITMASK_BYTES + 2 * elements
    plain = move.tensor in network.replicated or move.bytes == elements
    return move.bytes if plain else move.bytes + elements


def _inner_peak(network: Network, layers: Sequence[Layer], regions: Mapping[str, Tile]) -> int:
    """Largest sum of the layers' outputs that are alive at once inside a segment."""
    left = {layer.name: sum(layer.name in reader.inputs for reader in layers) for layer in layers}
    alive: dict[str, int] = {}
    peak = 0
    for layer in layers:
        alive[layer.name] = _bytes(network, layer.name, regions[layer.name])
        peak = max(peak, sum(alive.values()))
        for tensor in layer.inputs:
            if tensor in left:
                left[tensor] -= 1
                if left[tensor] == 0:
                    alive.pop(tensor, None)
    return peak


def _bytes(network: Network, tensor: str, tile: Tile) -> int:
    return network.pixel_bytes(tensor) * tile.area


def _size(network: Network, tensor: str) -> int:
    size = network.bytes_per_element
    for length in network.shapes[tensor]:
        size *= length
    return size
