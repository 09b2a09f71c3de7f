"""Layers and segments, tile by tile: every node runs on exactly the elements that it needs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from torch import Tensor

from nptp_opt.errors import InputError
from nptp_opt.geometry import EMPTY, Tile, need_tile
from nptp_opt.kernels import pixelwise, windowed
from nptp_opt.kernels.crops import Crop, crop
from nptp_opt.kernels.regions import node_regions
from nptp_opt.network.given import Given, by_input
from nptp_opt.network.ir import Layer, Network, Node, regions
from nptp_opt.network.ops import CHANNEL_OPS, REDUCTIONS, WINDOWED

Kernel = Callable[[Node, dict[str, Tensor], list[Tensor], Tile], Tensor]

_KERNELS: dict[str, Kernel] = {
    **{op: getattr(windowed, "slice_" if op == "slice" else op) for op in WINDOWED},
    **{op: getattr(pixelwise, op) for op in CHANNEL_OPS},
    "relayout": pixelwise.relayout,
}


def run_layer(
    layer: Layer, weights: Mapping[str, Tensor], inputs: Mapping[str, Crop], tile: Tile
) -> Tensor:
    """``tile`` of a spatial layer's output from crops that hold at least what it needs.

    An empty tile gives an empty tensor; a whole layer has no other tile than the whole map.
    Weights must have the crops' dtype. Raises InputError when a crop is too small.
    """
    if tile.is_empty:
        given = next(iter(inputs.values()))[1]
        return given.new_empty((*layer.shape[:2], tile.height, tile.width))
    if not layer.is_whole:
        return _run_nodes(layer.nodes, weights, inputs, tile)
    if tile != layer.full:
        raise InputError(f"layer {layer.name!r} is computed whole, not {tile} of it")
    whole = {t: _crop(layer.name, t, inputs[t], layer.need(t, tile)) for t in layer.inputs}
    return run_gather(layer, weights, whole)


def run_segment(
    layers: Sequence[Layer],
    weights: Mapping[str, Tensor],
    inputs: Mapping[str, Crop],
    tile: Tile,
) -> Tensor:
    """``tile`` of the last layer's output; what the layers before it overlap is computed anew."""
    wanted, held = regions(layers, tile), dict(inputs)
    for layer in layers:
        held[layer.name] = (wanted[layer.name], run_layer(layer, weights, held, wanted[layer.name]))
    return held[layers[-1].name][1]


def run_network(
    network: Network,
    weights: Mapping[str, Tensor],
    x: Given,
    keep: Collection[str] | None = None,
) -> Iterator[tuple[str, Tensor]]:
    """The network on one device, unpartitioned: each layer's name and output, or those to keep.

    Only what a later layer reads is held.
    """
    given = by_input(network, x)
    held = dict(given)
    left = {tensor: len(readers) for tensor, readers in network.consumers.items()}
    for layer in network.layers:
        held[layer.name] = _run_whole(layer, weights, held)
        if keep is None or layer.name in keep:
            yield layer.name, held[layer.name]
        for tensor in layer.inputs:
            left[tensor] -= 1
            if not left[tensor]:
                del held[tensor]
    for name in given:
        if keep is not None and name in keep:
            yield name, given[name]


def _run_whole(layer: Layer, weights: Mapping[str, Tensor], held: Mapping[str, Tensor]) -> Tensor:
    if layer.kind != "spatial":
        return run_gather(layer, weights, held)
    crops = {tensor: (_all_of(held[tensor]), held[tensor]) for tensor in layer.inputs}
    return run_layer(layer, weights, crops, layer.full)


def run_gather(layer: Layer, weights: Mapping[str, Tensor], inputs: Mapping[str, Tensor]) -> Tensor:
    """The output of a gather layer, or of any global layer, from whole inputs."""
    held = dict(inputs)
    for node in layer.nodes:
        values = [held[tensor] for tensor in node.inputs]
        held[node.name] = _whole(node, weights, values)
    return held[layer.name]


def partial(layer: Layer, crop: Tensor) -> Tensor:
    """One device's part of a reducing layer, from the tile of its input that the device owns.

    A device that owns nothing has no part.
    """
    return pixelwise.partial(layer.nodes[0], crop)


def combine(
    layer: Layer,
    weights: Mapping[str, Tensor],
    partials: Sequence[Tensor],
    inputs: Mapping[str, Tensor],
) -> Tensor:
    """The output of a reducing layer from the partials of all devices, in the same order on each.

    ``inputs`` are the small tensors that its other nodes read.
    """
    anchor, *rest = layer.nodes
    held = {**inputs, anchor.name: pixelwise.combine(anchor, partials)}
    for node in rest:
        held[node.name] = _whole(node, weights, [held[tensor] for tensor in node.inputs])
    return held[layer.name]


def _whole(node: Node, weights: Mapping[str, Tensor], values: list[Tensor]) -> Tensor:
    if node.op in REDUCTIONS:
        return pixelwise.combine(node, [pixelwise.partial(node, values[0])])
    if not node.maps:
        return _run_node(node, weights, values, EMPTY)
    full = Tile(0, node.shape[2], 0, node.shape[3])
    crops = [
        _crop(node.name, tensor, (_all_of(whole), whole), need_tile(full, *maps))
        for tensor, whole, maps in zip(node.inputs, values, node.maps, strict=True)
    ]
    return _run_node(node, weights, crops, full)


def _all_of(whole: Tensor) -> Tile:
    return Tile(0, whole.shape[2], 0, whole.shape[3])


def _run_nodes(
    nodes: Sequence[Node], weights: Mapping[str, Tensor], inputs: Mapping[str, Crop], tile: Tile
) -> Tensor:
    wanted = node_regions(nodes, tile)
    held = dict(inputs)
    for node in nodes:
        region = wanted[node.name]
        crops = [
            _crop(node.name, tensor, held[tensor], need_tile(region, *maps))
            for tensor, maps in zip(node.inputs, node.maps, strict=True)
        ]
        held[node.name] = (region, _run_node(node, weights, crops, region))
    return held[nodes[-1].name][1]


def _crop(reader: str, tensor: str, held: Crop, need: Tile) -> Tensor:
    if not held[0].contains(need):
        raise InputError(f"node {reader!r} needs {need} of {tensor!r}, but only {held[0]} is here")
    return crop(held, need)


def _run_node(
    node: Node, weights: Mapping[str, Tensor], values: list[Tensor], tile: Tile
) -> Tensor:
    params = {role: weights[key] for role, key in node.params.items()}
    if "overload" in node.attrs:
        return pixelwise.call_aten(node, params, values, tile)
    kernel = _KERNELS.get(node.op)
    if kernel is None:
        raise InputError(f"node {node.name!r}: op {node.op!r} is not in the vocabulary")
    return kernel(node, params, values, tile)
