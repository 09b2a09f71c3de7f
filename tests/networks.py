"""Small networks with branches, built by hand."""

from __future__ import annotations

from dataclasses import replace

from nptp_opt.geometry import Window
from nptp_opt.network.ir import Layer, Network, Node
from tests.builders import conv_layer


def with_skip(layer: Layer, skip: str) -> Layer:
    """``layer`` with a folded residual add of ``skip``."""
    identity = (Window(layer.height, layer.height), Window(layer.width, layer.width))
    name = f"{layer.name}_add"
    add = Node(name, "add", (layer.nodes[-1].name, skip), layer.shape, maps=(identity, identity))
    return replace(
        layer,
        name=name,
        nodes=(*layer.nodes, add),
        inputs=(*layer.inputs, skip),
        maps={**layer.maps, skip: identity},
    )


def residual_network(blocks: int, size: int = 12, channels: int = 4) -> Network:
    """A stem and ``blocks`` basic blocks: two 3x3 convolutions and an identity skip each."""
    shape = (1, channels, size, size)
    layers = [conv_layer("stem", "input", (1, 3, size, size), channels)]
    for k in range(blocks):
        skip = layers[-1].name
        first = conv_layer(f"block{k}_a", skip, shape, channels)
        second = conv_layer(f"block{k}_b", first.name, shape, channels)
        layers += [first, with_skip(second, skip)]
    shapes = {"input": (1, 3, size, size), **{layer.name: layer.shape for layer in layers}}
    return Network("residual", ("input",), (layers[-1].name,), tuple(layers), shapes)


def branched_network(size: int = 4, channels: int = 4) -> Network:
    """A stem, a pointwise side branch of it, and two 3x3 convolutions that add the side branch."""
    shape = (1, channels, size, size)
    stem = conv_layer("stem", "input", (1, 3, size, size), channels)
    side = conv_layer("side", "stem", shape, channels, kernel=1, padding=0)
    first = conv_layer("a", "stem", shape, channels)
    last = with_skip(conv_layer("b", "a", shape, channels), "side")
    layers = (stem, side, first, last)
    shapes = {"input": (1, 3, size, size), **{layer.name: layer.shape for layer in layers}}
    return Network("branched", ("input",), (last.name,), layers, shapes)
