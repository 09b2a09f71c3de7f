"""Memory of a plan on each device: weights, live tiles, what a step holds; and its limits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from nptp_opt.cluster import MIB, Cluster
from nptp_opt.cost import HUFFMAN_BYTES, Transfer
from nptp_opt.errors import InfeasibleError
from nptp_opt.evaluate.assemble import Choice, assemble
from nptp_opt.geometry import IntArray, Tile
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


class StepMemory(NamedTuple):
    """Bytes of a step on every device (n), and what it reads and makes."""

    reads: tuple[str, ...]
    output: str | None
    made: IntArray
    """Its tile of the output."""
    working: IntArray
    """Halo buffers, and maps in the making."""
    weights: IntArray


def peak_bytes(network: Network, n_devices: int, steps: Sequence[Step], source: int) -> list[int]:
    """Largest number of bytes that every device holds at once while it executes ``steps``.

    Counted are the weights of all layers that it runs, the tiles that it owns of every tensor from
    the step that makes it to the last one that reads it, and within a step the halo buffers and
    the inner maps that are alive.
    """
    return peaks(network, source, [step_memory(network, n_devices, step) for step in steps])


def peaks(network: Network, source: int, steps: Sequence[StepMemory]) -> list[int]:
    """``peak_bytes`` of a plan of these steps."""
    last = dict.fromkeys(network.spatial_outputs, len(steps) - 1)
    for number, step in enumerate(steps):
        for tensor in step.reads:
            last[tensor] = max(number, last.get(tensor, 0))
    change = np.zeros((len(steps) + 1, len(steps[0].working)), dtype=np.int64)
    for name in network.inputs:
        size = _bytes(network, name, network.full(name))
        change[0, source] += size
        change[last.get(name, -1) + 1, source] -= size
    for number, step in enumerate(steps):
        if step.output is not None and last.get(step.output, -1) > number:
            change[number + 1] += step.made
            change[last[step.output] + 1] -= step.made
    held = np.cumsum(change, axis=0)[:-1] + np.stack([step.working for step in steps])
    found: list[int] = (held.max(axis=0) + sum(step.weights for step in steps)).tolist()
    return found


def step_memory(network: Network, n_devices: int, step: Step) -> StepMemory:
    """What a step that is evaluated takes."""
    layers = step.layers_of(network)
    output, tiles = next(iter(step.makes.items()), (None, {}))
    made, working, weights = (np.zeros(n_devices, dtype=np.int64) for _ in range(3))
    for device, tile in tiles.items():
        made[device] = 0 if output is None else _bytes(network, output, tile)
    for device in step.devices:
        own = step.tiles[device] if isinstance(step, SpatialStep) else None
        weights[device] = weight_bytes(layers, own)
    for device in range(n_devices):
        working[device] = _working_bytes(network, step, device)
    return StepMemory(external_inputs(layers), output, made, working, weights)


def weight_bytes(layers: Sequence[Layer], tile: Tile | None) -> int:
    """Bytes of a segment's weights for a tile of its output, or of all of it (None)."""
    wanted = {} if tile is None else regions(layers, tile)
    return sum(_weight_bytes(layer, wanted.get(layer.name)) for layer in layers)


def _weight_bytes(layer: Layer, tile: Tile | None) -> int:
    """Bytes of a layer's weights; of a linear layer those of the tile's features alone."""
    if layer.op != "linear" or tile is None:
        return layer.param_bytes
    return -(-layer.param_bytes * tile.height // layer.height)


def _working_bytes(network: Network, step: Step, device: int) -> int:
    """Bytes of halo buffers and inner maps of one step on one device."""
    received = sum(_arriving_bytes(network, move) for move in step.transfers if move.dst == device)
    if device not in step.devices:
        return received
    if isinstance(step, GatherStep):
        return received + max((_size(network, name) for name in step.layers), default=0)
    if isinstance(step, SpatialStep):
        layers, pieces = step.layers_of(network), step.pieces_of(device)
        whole = _bytes(network, step.layers[-1], step.tiles[device])
        return received + making(whole, [inner_peak(network, layers, piece) for piece in pieces])
    return received


def making(whole: int, inner: Sequence[int]) -> int:
    """Bytes of the inner maps of a tile's pieces, one after the other; several are put together in
    the ``whole`` tile."""
    return max(inner) + (whole if len(inner) > 1 else 0)


def _arriving_bytes(network: Network, move: Transfer) -> int:
    plain = move.tensor in network.replicated
    elements = move.bytes if plain else _bytes(network, move.tensor, move.tile)
    return int(arriving_bytes(move.bytes, elements, move.encoding != "dense"))


def arriving_bytes(sent: ArrayLike, elements: ArrayLike, coded: ArrayLike) -> IntArray:
    """Bytes of rectangles as they are ``sent``, and of their elements where these are something
    else; one that is ``coded`` may come dense, its mask beside it, and is decoded."""
    sent, elements = np.asarray(sent), np.asarray(elements)
    other = sent + np.where(sent == elements, 0, elements)
    return np.asarray(np.where(coded, HUFFMAN_BYTES + 2 * elements + elements // 32, other))


def inner_peak(network: Network, layers: Sequence[Layer], tile: Tile) -> int:
    """Largest sum of the layers' outputs that are alive at once while a segment makes a tile."""
    wanted = regions(layers, tile)
    left = {layer.name: sum(layer.name in reader.inputs for reader in layers) for layer in layers}
    alive: dict[str, int] = {}
    peak = 0
    for layer in layers:
        alive[layer.name] = _bytes(network, layer.name, wanted[layer.name])
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
