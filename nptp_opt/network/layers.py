"""Folding nodes into layers: an anchor with the pixelwise nodes that only it feeds."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from nptp_opt.geometry import AxisMap, Window
from nptp_opt.geometry.axis_maps import Hull, Whole
from nptp_opt.network.graph import Graph
from nptp_opt.network.ir import AxisMaps, Layer, LayerKind, Network, Node
from nptp_opt.network.kinds import Kinds, classify
from nptp_opt.network.ops import CHANNEL_OPS, ELEMENTWISE, REDUCTIONS, VIEWS

FOLDABLE = ELEMENTWISE | CHANNEL_OPS
BYTES_PER_ELEMENT = 4


@dataclass
class _Group:
    kind: LayerKind
    nodes: list[Node] = field(default_factory=list)


def folded(graph: Graph, name: str, inputs: Sequence[str], outputs: Sequence[str]) -> Network:
    """The network of a graph's nodes; nodes and inputs that no output depends on are left out."""
    nodes = _needed(graph.nodes, outputs)
    groups = _grouped(nodes, set(outputs))
    order = {node.name: i for i, node in enumerate(nodes)}
    groups.sort(key=lambda group: order[group.nodes[-1].name])
    layers = tuple(_layer(group, graph) for group in groups)
    made = [node.name for layer in layers for node in layer.nodes[-1:]]
    keys = {key for node in nodes for key in node.params.values()}
    wanted = {*outputs, *(tensor for node in nodes for tensor in node.inputs)}
    read = tuple(tensor for tensor in inputs if tensor in wanted)
    return Network(
        name,
        read,
        tuple(outputs),
        layers,
        {tensor: graph.shapes[tensor] for tensor in (*read, *made)},
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
        if anchor is not last and inner not in taken and not layer.is_whole:
            found |= {last.name: anchor.name, anchor.name: inner}
    return found


def renamed(network: Network, names: Mapping[str, str]) -> Network:
    """The network with the tensors in ``names`` called otherwise."""

    def new(tensor: str) -> str:
        return names.get(tensor, tensor)

    layers = tuple(
        replace(
            layer,
            name=new(layer.name),
            nodes=tuple(_renamed_node(node, names) for node in layer.nodes),
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


def _renamed_node(node: Node, names: Mapping[str, str]) -> Node:
    inputs = tuple(names.get(tensor, tensor) for tensor in node.inputs)
    return replace(node, name=names.get(node.name, node.name), inputs=inputs)


def _needed(nodes: Sequence[Node], outputs: Sequence[str]) -> list[Node]:
    wanted, kept = set(outputs), []
    for node in reversed(nodes):
        if node.name in wanted:
            kept.append(node)
            wanted.update(node.inputs)
    return kept[::-1]


def _grouped(nodes: Sequence[Node], outputs: set[str]) -> list[_Group]:
    uses = Counter(tensor for node in nodes for tensor in set(node.inputs))
    found = classify(nodes, outputs)
    kinds, bundles = found.of, _bundles(nodes, found)
    making: dict[str, _Group] = {}
    groups: list[_Group] = []
    for node in (_as_small(node, kinds) for node in nodes):
        if node.name in bundles:
            groups.append(bundles[node.name])
        if node.name in bundles or (kinds[node.name] == "gather" and node.name not in found.head):
            continue
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


def _bundles(nodes: Sequence[Node], kinds: Kinds) -> dict[str, _Group]:
    """The layers of whole nodes that make a map again, by the name of what they make.

    A node that several layers need is copied, under a name of its own in each.
    """
    by_name = {node.name: node for node in nodes}
    uses = Counter(name for bundle in (*kinds.exits.values(), kinds.head) for name in bundle)
    found = {}
    for end, bundle in kinds.exits.items():
        names = {name: f"{name}.for.{end}" for name in bundle if uses[name] > 1 and name != end}
        copies = [_renamed_node(by_name[name], names) for name in bundle]
        found[end] = _Group(kinds.of[end], copies)
    return found


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
    maps: Mapping[str, AxisMaps] = {}
    if group.kind == "spatial":
        whole = any(not node.maps for node in nodes)
        maps = _whole_maps(inputs, nodes[-1], graph) if whole else _maps(nodes)
    return Layer(
        name=nodes[-1].name,
        kind=group.kind,
        nodes=nodes,
        inputs=tuple(inputs),
        shape=nodes[-1].shape,
        maps=maps,
        flop=sum(node.flop for node in nodes),
        param_bytes=BYTES_PER_ELEMENT * elements,
    )


def _whole_maps(inputs: Iterable[str], last: Node, graph: Graph) -> dict[str, AxisMaps]:
    height, width = last.shape[2:]
    shapes = {tensor: graph.shapes[tensor] for tensor in inputs}
    return {t: (Whole(n[2], height), Whole(n[3], width)) for t, n in shapes.items()}


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
