"""The network as the optimiser sees it: a DAG of layers with exact shapes and receptive windows.

A ``Node`` is one primitive op. A ``Layer`` is an op with its own receptive window (its anchor) and
the pointwise nodes folded onto it. Tensors are named by the node that makes them; shapes are
(N, C, H, W) for feature maps. No torch here: workers and planners read this module alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from nptp_opt.geometry import EMPTY, AxisMap, Tile, need_tile
from nptp_opt.network.ops import REDUCTIONS, UNCALLED, VIEWS

if TYPE_CHECKING:
    from nptp_opt.network.exact import Exact

LayerKind = Literal["spatial", "global", "gather"]

AxisMaps = tuple[AxisMap, AxisMap]
"""How rows and columns of an output read an input."""


@dataclass(frozen=True)
class Node:
    """One primitive op; ``op`` is a word of ``ops``, ``params`` maps roles to state keys.

    ``maps`` has one entry per input; it is empty where the op sees its inputs whole.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    shape: tuple[int, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    maps: tuple[AxisMaps, ...] = ()
    flop: float = 0.0


@dataclass(frozen=True)
class Layer:
    """Anchor node plus folded pointwise nodes; the layer's name is that of the tensor it makes.

    ``maps`` gives, for every external input, how the layer's output rows and columns read it.
    A linear layer's output is a map too, (N, 1, F, 1): its rows are the F output features.
    A ``gather`` layer needs its inputs whole and runs on one device; it has no maps. A spatial
    layer that has nodes without maps does so, too (``is_whole``): its only tile is the whole map,
    which other devices read their parts of.

    A ``global`` layer makes a tensor of shape (N, C, 1, 1) that every device holds. Where its
    anchor reduces a map (``reduces``), each device computes a partial from its own tile of that
    map, the partials (``partial_elements`` numbers each) go from all to all, and every device
    finishes alike. Where it does not, its inputs are such tensors and nothing is sent.
    """

    name: str
    kind: LayerKind
    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    shape: tuple[int, ...]
    maps: Mapping[str, AxisMaps]
    flop: float
    """Floating-point operations for the whole output (one multiply-add = 2)."""
    param_bytes: int

    @property
    def op(self) -> str:
        """The anchor's op; ``whole`` for a layer that one device computes."""
        return "whole" if self.is_whole else self.nodes[0].op

    @cached_property
    def is_whole(self) -> bool:
        """True where one device makes the whole map of nodes that cannot be divided."""
        return self.kind == "spatial" and any(not node.maps for node in self.nodes)

    @property
    def reduces(self) -> bool:
        """True for a global layer whose anchor reduces a partitioned map."""
        anchor = self.nodes[0]
        return self.kind == "global" and not anchor.maps and anchor.op in REDUCTIONS

    @property
    def is_view(self) -> bool:
        """True where the layer only renames dimensions: nothing is computed."""
        return all(node.op in VIEWS for node in self.nodes)

    @property
    def is_called(self) -> bool:
        """True where the layer costs a call of its own, not only its operations."""
        return any(node.op not in UNCALLED for node in self.nodes)

    @property
    def partial_elements(self) -> int:
        """Elements of one device's partial of a reducing layer; 0 for any other layer."""
        return int(self.nodes[0].attrs["partial_elements"]) if self.reduces else 0

    @property
    def height(self) -> int:
        return self.shape[2]

    @property
    def width(self) -> int:
        return self.shape[3]

    @property
    def full(self) -> Tile:
        """The whole output map."""
        return Tile(0, self.height, 0, self.width)

    @property
    def flop_per_pixel(self) -> float:
        return self.flop / (self.height * self.width)

    def need(self, tensor: str, tile: Tile) -> Tile:
        """Elements of ``tensor`` that ``tile`` of this layer's output reads."""
        return need_tile(tile, *self.maps[tensor])


InputDtype = Literal["uint8"]
"""What elements of an input are, beside float32: whole numbers, which floats carry exactly."""


@dataclass(frozen=True)
class Density:
    """Share of a map's elements that are not zero, over samples: its mean and 90th percentile."""

    mean: float
    p90: float
    first_byte_bits: float = 8.0
    """What the first byte of such an element takes in Huffman codes, in the mean; as float32 and as
    bfloat16, which have the same."""


@dataclass(frozen=True)
class Network:
    """Layers in topological order. ``shapes`` holds every tensor, the inputs included.

    Feature maps are (N, C, H, W), also where the model has another order or rank; only what
    ``gather`` layers make has the model's own shape.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    layers: tuple[Layer, ...]
    shapes: Mapping[str, tuple[int, ...]]
    bytes_per_element: int = 4
    params: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Shape of every weight, by state key."""
    input_dtypes: Mapping[str, InputDtype] = field(default_factory=dict)
    """Inputs that are no float32: they are sent as what they are."""
    densities: Mapping[str, Density] = field(default_factory=dict)
    """By map, where samples were measured; what stands here changes no result, only costs."""

    @cached_property
    def by_name(self) -> Mapping[str, Layer]:
        return {layer.name: layer for layer in self.layers}

    @cached_property
    def number(self) -> Mapping[str, int]:
        """Place of every layer in the order."""
        return {layer.name: k for k, layer in enumerate(self.layers)}

    @cached_property
    def consumers(self) -> Mapping[str, tuple[str, ...]]:
        """Names of the layers that read each tensor, in topological order."""
        readers: dict[str, list[str]] = {name: [] for name in self.shapes}
        for layer in self.layers:
            for tensor in layer.inputs:
                readers[tensor].append(layer.name)
        return {name: tuple(names) for name, names in readers.items()}

    @property
    def spatial(self) -> tuple[Layer, ...]:
        """The layers that are partitioned over the devices."""
        return tuple(layer for layer in self.layers if layer.kind == "spatial")

    @property
    def shared_out(self) -> tuple[Layer, ...]:
        """All layers but the head, in topological order: what the devices compute together."""
        return tuple(layer for layer in self.layers if layer.kind != "gather")

    @cached_property
    def vectors(self) -> tuple[Layer, ...]:
        """The linear layers that are partitioned over their features, and what follows on them."""
        layers: dict[str, Layer] = {}
        for layer in self.shared_out:
            if layer.op == "linear" or any(tensor in layers for tensor in layer.inputs):
                layers[layer.name] = layer
        return tuple(layers.values())

    @cached_property
    def replicated(self) -> frozenset[str]:
        """Small tensors that every device holds: what global layers make."""
        return frozenset(layer.name for layer in self.layers if layer.kind == "global")

    @cached_property
    def head(self) -> tuple[Layer, ...]:
        """The layers that need their inputs whole, after the partitioned ones."""
        return tuple(layer for layer in self.layers if layer.kind == "gather")

    @cached_property
    def spatial_outputs(self) -> tuple[str, ...]:
        """Results of the network that are feature maps: the sink collects them entire."""
        gathered = {layer.name for layer in self.head}
        return tuple(name for name in self.outputs if name not in gathered)

    @cached_property
    def exact(self) -> Mapping[str, Exact]:
        """Feature maps that travel in fewer bytes without loss: quantised ones, and halves."""
        from nptp_opt.network.exact import exact_maps

        return exact_maps(self)

    def pixel_bytes(self, tensor: str) -> int:
        """Bytes of one pixel of a feature map: batch x channels x bytes per element."""
        n, c = self.shapes[tensor][:2]
        return n * c * self.bytes_per_element

    def full(self, tensor: str) -> Tile:
        """The whole map of ``tensor``."""
        return Tile(0, self.shapes[tensor][2], 0, self.shapes[tensor][3])


def regions(layers: Sequence[Layer], tile: Tile) -> dict[str, Tile]:
    """What computing ``tile`` of the last layer's output takes, layer by layer towards the input.

    ``layers`` is a segment in topological order. Returns, for every tensor made or read in it, the
    smallest rectangle that holds all elements the segment reads of it (EMPTY if none).
    """
    tiles: dict[str, Tile] = {layers[-1].name: tile}
    for layer in reversed(layers):
        wanted = tiles.setdefault(layer.name, EMPTY)
        for tensor in layer.inputs:
            tiles[tensor] = tiles.get(tensor, EMPTY).hull(layer.need(tensor, wanted))
    return tiles


def external_inputs(layers: Sequence[Layer]) -> tuple[str, ...]:
    """Tensors that a segment reads and does not make itself, in order of first use."""
    made = {layer.name for layer in layers}
    seen = (tensor for layer in layers for tensor in layer.inputs if tensor not in made)
    return tuple(dict.fromkeys(seen))
