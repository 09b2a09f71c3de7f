"""Units: the runs of layers between neighbouring single-tensor cuts of the DAG."""

from __future__ import annotations

from collections.abc import Sequence

from nptp_opt.network.ir import Layer, Network


def units(network: Network) -> list[tuple[Layer, ...]]:
    """The layers before the head in topological order, cut where a single map is alive.

    The last unit ends the list whatever is alive there: the head reads it.
    """
    layers = network.shared_out
    runs, start = [], 0
    for end in range(1, len(layers) + 1):
        last = layers[end - 1]
        single = last.kind == "spatial" and is_closed(network, layers[:end], last)
        if end == len(layers) or single:
            runs.append(layers[start:end])
            start = end
    return runs


def is_closed(network: Network, layers: Sequence[Layer], last: Layer) -> bool:
    """True when nothing that ``layers`` make is read or wanted outside, except ``last``'s output.

    Results of the network that no later layer reads stay where they are until they are collected,
    so they do not keep a cut from being a single-tensor cut; inside a segment they do.
    """
    inside = {layer.name for layer in layers}
    return not any(
        reader not in inside
        for layer in layers
        if layer is not last
        for reader in network.consumers[layer.name]
    )


def is_segment(network: Network, layers: Sequence[Layer]) -> bool:
    """True when ``layers`` can be one segment: only the last one's output leaves it.

    A global layer is a step of its own: it needs all tiles of its map. A whole layer ends its
    segment: what follows on it is divided.
    """
    if any(layer.kind != "spatial" for layer in layers):
        return False
    if any(layer.is_whole for layer in layers[:-1]):
        return False
    wanted = {layer.name for layer in layers[:-1]} & set(network.outputs)
    return not wanted and is_closed(network, layers, layers[-1])
