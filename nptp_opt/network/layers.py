"""Folding nodes into layers: an anchor with the pixelwise nodes that only it feeds."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from nptp_opt.geometry import AxisMap, Window
from nptp_opt.geometry.axis_maps import Hull
from nptp_opt.network.graph import Graph
from nptp_opt.network.ir import AxisMaps, Layer, LayerKind, Network, Node
from nptp_opt.network.ops import CHANNEL_OPS, ELEMENTWISE, REDUCTIONS, VIEWS

FOLDABLE = ELEMENTWISE | CHANNEL_OPS
BYTES_PER_ELEMENT = 4


@dataclass
class _Group:
    kind: LayerKind
    nodes: list[Node] = field(default_factory=list)


def folded(graph: Graph, name: str, inputs: Sequence[str], outputs: Sequence[str]) -> Network:
    """The network of a graph's nodes, those that no output depends on left out."""
    nodes = _needed(graph.nodes, outputs)
    groups = _grouped(nodes, set(outputs))
    order = {node.name: i for i, node in enumerate(nodes)}
    groups.sort(key=lambda group: order[group.nodes[-1].name])
    layers = tuple(_layer(group, graph) for group in groups)
    made = [node.name for layer in layers for node in layer.nodes[-1:]]
    keys = {key for node in nodes for key in node.params.values()}
    return Network(
        name,
        tuple(inputs),
        tuple(outputs),
        layers,
        {tensor: graph.shapes[tensor] for tensor in (*inputs, *made)},
        BYTES_PER_ELEMENT,
        {key: shape for key, shape in graph.params.items() if key in keys},
    )


def anchor_names(network: Network) -> dict[str, str]:
    """New names of tensors by old: a layer is called as its anchor is, not as its last node is.

    A model's convolution keeps its module path (``layer1.0.conv1``), whatever is folded onto it;
    the anchor's own value becomes ``layer1.0.conv1.conv2d``.
    """
    taken = {node.name for layer in network.layers for node in layer.nodes}
    found: dict[str, str] = {}
    for layer in network.layers:
        anchor, last = layer.nodes[0], layer.nodes[-1]
        inner = f"{anchor.name}.{anchor.op}"
        if anchor is not last and inner not in taken:
            found |= {last.name: anchor.name, anchor.name: inner}
    return found


def renamed(network: Network, names: Mapping[str, str]) -> Network:
    """The network with the tensors in ``names`` called otherwise."""

    def new(tensor: str) -> str:
        return names.get(tensor, tensor)

    def node(old: Node) -> Node:
        return replace(old, name=new(old.name), inputs=tuple(map(new, old.inputs)))

    layers = tuple(
        replace(
            layer,
            name=new(layer.name),
            nodes=tuple(map(node, layer.nodes)),
            inputs=tuple(map(new, layer.inputs)),
            maps={new(tensor): maps for tensor, maps in layer.maps.items()},
        )
        for layer in network.layers
    )
    return replace(
        network,
        layers=layers,
        outputs=tuple(map(new, network.outputs)),
        shapes={new(tensor): shape for tensor, shape in network.shapes.items()},
    )


def _needed(nodes: Sequence[Node], outputs: Sequence[str]) -> list[Node]:
    wanted, kept = set(outputs), []
    for node in reversed(nodes):
        if node.name in wanted:
            kept.append(node)
            wanted.update(node.inputs)
    return kept[::-1]


def _kinds(nodes: Sequence[Node], outputs: Collection[str]) -> dict[str, LayerKind]:
    """Kind of every node; a linear layer of a map that one device fetches anyway is left to it."""
    alone: set[str] = set()
    while True:
        kinds = _kinds_with(nodes, alone)
        more = _fetched_anyway(nodes, kinds, outputs) - alone
        if not more:
            return kinds
        alone |= more


def _kinds_with(nodes: Sequence[Node], alone: Collection[str]) -> dict[str, LayerKind]:
    """Kinds, nodes ``alone`` being gathered; so are small tensors that go back onto no map."""
    kinds: dict[str, LayerKind] = {}
    for node in nodes:
        kinds[node.name] = "gather" if node.name in alone else _kind(node, kinds)
    onto_map: set[str] = set()
    for node in reversed(nodes):
        if kinds[node.name] == "spatial" or node.name in onto_map:
            onto_map.update(node.inputs)
    final: dict[str, LayerKind] = {}
    for node in nodes:
        kind = "gather" if node.name in alone else _kind(node, final)
        small = kind == "global" and node.op not in REDUCTIONS and node.name not in onto_map
        final[node.name] = "gather" if small else kind
    return final


def _fetched_anyway(
    nodes: Sequence[Node], kinds: Mapping[str, LayerKind], outputs: Collection[str]
) -> set[str]:
    """Linear layers of a map that the sink, or another linear layer, fetches whole as well.

    Each would fetch it on its own; the head fetches a map once for all its layers.
    """
    behind: set[str] = set()
    readers: dict[str, list[Node]] = {}
    for node in nodes:
        if kinds[node.name] == "gather" or node.op == "linear":
            for tensor in node.inputs:
                readers.setdefault(tensor, []).append(node)
        if node.op == "linear" or behind.intersection(node.inputs):
            behind.add(node.name)
    return {
        node.name
        for tensor, found in readers.items()
        if tensor not in behind and kinds.get(tensor) != "global"
        for node in found
        if node.op == "linear" and len(found) + (tensor in outputs) > 1
    }


def _kind(node: Node, kinds: Mapping[str, LayerKind]) -> LayerKind:
    """Gathered things stay gathered; one pixel that is made of small tensors alone is small."""
    sources = {kinds.get(tensor, "spatial") for tensor in node.inputs}
    if "gather" in sources or (not node.maps and node.op not in REDUCTIONS):
        return "gather"
    small = sources == {"global"} and node.shape[2:] == (1, 1) and node.op != "linear"
    return "global" if node.op in REDUCTIONS or small else "spatial"


def _grouped(nodes: Sequence[Node], outputs: set[str]) -> list[_Group]:
    uses = Counter(tensor for node in nodes for tensor in set(node.inputs))
    kinds = _kinds(nodes, outputs)
    making: dict[str, _Group] = {}
    groups: list[_Group] = []
    for node in (_as_small(node, kinds) for node in nodes):
        hosts = [
            making[tensor]
            for tensor in node.inputs
            if tensor in making and uses[tensor] == 1 and tensor not in outputs
        ]
        group = _host(node, kinds, hosts, groups)
        if group is None:
            group = _Group(kinds[node.name])
            groups.append(group)
        group.nodes.append(node)
        making[node.name] = group
    return groups


def _as_small(node: Node, kinds: Mapping[str, LayerKind]) -> Node:
    """A reduction of what every device has already reads one pixel, and reduces no map."""
    if node.op not in REDUCTIONS or kinds.get(node.inputs[0]) != "global":
        return node
    one = Window(1, 1)
    return replace(node, maps=((one, one),) * len(node.inputs))


def _host(
    node: Node, kinds: Mapping[str, LayerKind], hosts: Sequence[_Group], groups: Sequence[_Group]
) -> _Group | None:
    """The newest layer that ``node`` may join: it makes an input that nothing else reads."""
    kind = kinds[node.name]
    if kind == "spatial" and node.op not in FOLDABLE:
        return None
    if kind == "gather" and node.op not in FOLDABLE | VIEWS:
        return None
    fitting = [
        host for host in hosts if host.kind == kind and _reads_in_place(node, host.nodes[-1].name)
    ]
    return max(fitting, key=groups.index, default=None) if node.op not in REDUCTIONS else None


def _reads_in_place(node: Node, tensor: str) -> bool:
    """True when the node reads ``tensor`` pixel by pixel (or is a whole op, for which it is moot).

    A broadcast operand keeps its own layer: the map it makes is smaller than this one.
    """
    if not node.maps:
        return True
    at = node.inputs.index(tensor)
    return all(isinstance(m, Window) for m in node.maps[at])


def _layer(group: _Group, graph: Graph) -> Layer:
    nodes = tuple(group.nodes)
    made = {node.name for node in nodes}
    inputs = dict.fromkeys(t for node in nodes for t in node.inputs if t not in made)
    keys = {key for node in nodes for key in node.params.values()}
    elements = sum(math.prod(graph.params[key]) for key in keys)
    return Layer(
        name=nodes[-1].name,
        kind=group.kind,
        nodes=nodes,
        inputs=tuple(inputs),
        shape=nodes[-1].shape,
        maps=_maps(nodes) if group.kind == "spatial" else {},
        flop=sum(node.flop for node in nodes),
        param_bytes=BYTES_PER_ELEMENT * elements,
    )


def _maps(nodes: Sequence[Node]) -> dict[str, AxisMaps]:
    """Maps of the external inputs; behind the anchor everything is read pixel by pixel."""
    made = {node.name for node in nodes}
    found: dict[str, list[AxisMaps]] = {}
    for node in nodes:
        for tensor, maps in zip(node.inputs, node.maps, strict=True):
            if tensor not in made and maps not in found.setdefault(tensor, []):
                found[tensor].append(maps)
    return {tensor: _hull(maps) for tensor, maps in found.items()}


def _hull(maps: Sequence[AxisMaps]) -> AxisMaps:
    y, x = ((tuple(dict.fromkeys(axis))) for axis in zip(*maps, strict=True))
    return _joined(y), _joined(x)


def _joined(parts: tuple[AxisMap, ...]) -> AxisMap:
    return parts[0] if len(parts) == 1 else Hull(parts)
