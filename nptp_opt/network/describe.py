"""A network as the planner sees it: its layers, its cut points, what is gathered and why."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nptp_opt.geometry import AxisMap, Window
from nptp_opt.geometry.axis_maps import Hull, Shuffled, TapMap, Transposed
from nptp_opt.network.ir import Layer, Network


@dataclass(frozen=True)
class Row:
    """One layer. ``window`` is empty for layers that are not partitioned."""

    name: str
    op: str
    kind: str
    folded: tuple[str, ...]
    inputs: tuple[str, ...]
    in_shapes: tuple[tuple[int, ...], ...]
    shape: tuple[int, ...]
    window: str
    flop: float
    out_bytes: int
    param_bytes: int


def rows(network: Network) -> list[Row]:
    """One row per layer, in the order in which they run."""
    return [_row(network, layer) for layer in network.layers]


def _row(network: Network, layer: Layer) -> Row:
    size = network.bytes_per_element
    for dim in layer.shape:
        size *= dim
    return Row(
        name=layer.name,
        op=layer.op,
        kind=layer.kind,
        folded=tuple(node.op for node in layer.nodes[not layer.is_whole :]),
        inputs=layer.inputs,
        in_shapes=tuple(network.shapes[tensor] for tensor in layer.inputs),
        shape=layer.shape,
        window=_window(layer),
        flop=layer.flop,
        out_bytes=size,
        param_bytes=layer.param_bytes,
    )


def _window(layer: Layer) -> str:
    """The anchor's window as rows then columns, for example ``k3 s2 p1+1, k3 s2 p1+1``."""
    if layer.kind != "spatial":
        return ""
    y, x = layer.maps[layer.inputs[0]]
    return f"{axis_text(y)}, {axis_text(x)}"


def axis_text(axis: AxisMap) -> str:
    """An axis map in a few letters: kernel, stride, dilation, padding low+high."""
    if isinstance(axis, Window):
        parts = [f"k{axis.kernel}", f"s{axis.stride}"]
        parts += [f"d{axis.dilation}"] if axis.dilation > 1 else []
        parts += [f"p{axis.pad_lo}+{axis.pad_hi}"] if axis.pad_lo or axis.pad_hi else []
        return " ".join(parts)
    if isinstance(axis, Transposed):
        return f"transposed k{axis.kernel} s{axis.stride} d{axis.dilation} p{axis.pad}"
    if isinstance(axis, Shuffled):
        return f"shuffle x{axis.factor}"
    if isinstance(axis, Hull):
        return " | ".join(axis_text(part) for part in axis.parts)
    if isinstance(axis, TapMap):
        return f"{type(axis).__name__.lower()} {axis.n_in}->{axis.n_out}"
    return type(axis).__name__.lower()


def alive(network: Network) -> list[tuple[str, ...]]:
    """For every layer, the tensors that must still be held once it has run: liveness."""
    last: dict[str, int] = dict.fromkeys(network.outputs, len(network.layers))
    for i, layer in enumerate(network.layers):
        for tensor in layer.inputs:
            last[tensor] = max(last.get(tensor, 0), i)
    held, cuts = list(network.inputs), []
    for i, layer in enumerate(network.layers):
        held = [tensor for tensor in (*held, layer.name) if last.get(tensor, -1) > i]
        cuts.append(tuple(held))
    return cuts


def cut_points(network: Network) -> list[str]:
    """Feature maps behind which nothing else is alive: segments may end there."""
    names = {layer.name for layer in network.spatial}
    return [held[0] for held in alive(network) if len(held) == 1 and held[0] in names]


@dataclass(frozen=True)
class Gathered:
    """A layer that is not partitioned, and the reason in words."""

    name: str
    why: str


def gathered_layers(network: Network) -> list[Gathered]:
    """Layers that need whole tensors, and those that every device runs on small ones."""
    return [
        Gathered(layer.name, _why(layer))
        for layer in network.layers
        if layer.kind != "spatial" or layer.is_whole
    ]


def whole_share(network: Network) -> tuple[float, float]:
    """Shares of the FLOP and of the bytes made that fall to layers which one device runs whole."""
    alone = [layer for layer in network.layers if layer.kind == "gather" or layer.is_whole]
    sizes = [
        (sum(layer.flop for layer in some), sum(math.prod(layer.shape) for layer in some))
        for some in (alone, network.layers)
    ]
    (flop, elements), (all_flop, all_elements) = sizes
    return flop / max(all_flop, 1.0), elements / max(all_elements, 1)


def _why(layer: Layer) -> str:
    ops = ", ".join(dict.fromkeys(node.op for node in layer.nodes))
    if layer.is_whole:
        return f"{ops}: runs whole on one device; what follows is divided again"
    if layer.reduces:
        return f"{ops}: sees the whole map; every device sends a partial of its tile"
    if layer.kind == "global":
        return f"{ops}: works on small tensors that every device holds"
    if layer.is_view:
        return (
            f"{ops}: renames the dimensions of a whole tensor; runs on one device and costs nothing"
        )
    if layer.nodes[0].maps:
        return f"{ops}: reads a tensor that is gathered already"
    return f"{ops}: sees its input whole; runs on one device"
