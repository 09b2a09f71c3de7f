"""From the calls of a tile program to ONNX graphs, with torch between them where ONNX lacks an op.

Calls stay in their order. Consecutive ones that can be expressed share a graph, so that the engine
may fuse what follows on each other.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from nptp_opt.geometry import Tile, need_tile
from nptp_opt.kernels.executors import onnx_pixelwise, onnx_windowed
from nptp_opt.kernels.executors.onnx_graph import Graph, InexpressibleError, SharedWeights
from nptp_opt.kernels.executors.program import Call, TileProgram, whole_of
from nptp_opt.kernels.regions import node_regions
from nptp_opt.network.ir import Layer, Node
from nptp_opt.network.ops import REDUCTIONS

RULES = {**onnx_windowed.RULES, **onnx_pixelwise.RULES}
"""How every op is expressed that has a name of ours; the others are called by torch's name."""

CLAIMED = frozenset(RULES) | onnx_pixelwise.CALLED.keys() | onnx_pixelwise.OF_WHOLE.keys()
"""Ops that graphs are made of."""

Held = tuple[Tile, str]
"""A rectangle and the value that holds it."""


@dataclass
class Span:
    """Consecutive calls of one engine; ``graph`` is None where that is torch.

    ``values`` are the graph's names of what its calls make, ``inputs`` of what it reads besides.
    """

    graph: Graph | None
    calls: list[Call] = field(default_factory=list)
    values: dict[str, str] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)

    def lower(self, call: Call, regions: Mapping[str, Tile]) -> None:
        """Append a call to the graph; raises InexpressibleError and leaves it as it was."""
        assert self.graph is not None
        mark = len(self.graph.nodes)
        reads = {tensor: self._input(name) for tensor, name in call.reads.items()}
        held = {tensor: (regions[name], reads[tensor]) for tensor, name in call.reads.items()}
        try:
            self.values[call.layer.name] = _lowered(self.graph, call, held)
        except InexpressibleError:
            del self.graph.nodes[mark:]
            raise
        self.inputs |= {name: reads[t] for t, name in call.reads.items() if name not in self.values}
        self.calls.append(call)

    def _input(self, name: str) -> str:
        return self.values.get(name) or f"input {name}"


def spans(
    program: TileProgram,
    weights: SharedWeights,
    told: dict[str, str],
    lacks: frozenset[str] = frozenset(),
) -> Iterator[Span]:
    """The calls in spans that are as long as they can be; ``told`` gets reasons by layer.

    ``lacks`` are ops that the engine does not compute as they are meant.
    """
    regions, current = program.regions, Span(Graph(weights))
    for call in program.calls:
        following = current if current.graph is not None else Span(Graph(weights))
        try:
            _check_ops(call, lacks)
            following.lower(call, regions)
        except InexpressibleError as error:
            told[call.layer.name] = str(error)
            following = current if current.graph is None else Span(None)
            following.calls.append(call)
        if following is not current and current.calls:
            yield current
        current = following
    if current.calls:
        yield current


def _check_ops(call: Call, lacks: frozenset[str]) -> None:
    for node in call.layer.nodes:
        if node.op in lacks:
            raise InexpressibleError(f"op {node.op}")


def _lowered(graph: Graph, call: Call, held: dict[str, Held]) -> str:
    """The value that holds what a call makes; ``held`` are its inputs by tensor."""
    layer = call.layer
    if layer.is_whole and not call.whole:
        raise InexpressibleError("one device computes it whole")
    if call.whole:
        wanted = {node.name: whole_of(node.shape) for node in layer.nodes}
    else:
        wanted = node_regions(layer.nodes, call.tile)
    folded = _folded(layer)
    inside = {norm.name for norm in folded.values()}
    for node in (node for node in layer.nodes if node.name not in inside):
        region = wanted[node.name]
        norm = folded.get(node.name)
        made = _node(graph, node, held, region, norm)
        held[node.name if norm is None else norm.name] = region, made
    return held[layer.name][1]


def _folded(layer: Layer) -> dict[str, Node]:
    """The batch norms that go into the weights of the convolution before them, by its name."""
    readers = Counter(tensor for node in layer.nodes for tensor in node.inputs)
    return {
        conv.name: norm
        for conv, norm in itertools.pairwise(layer.nodes)
        if (conv.op, norm.op) == ("conv2d", "batch_norm")
        and "overload" not in conv.attrs and "overload" not in norm.attrs
        and conv.maps and norm.inputs == (conv.name,) and readers[conv.name] == 1
        and norm.attrs.keys() <= {"eps"}
    }  # fmt: skip


def _node(
    graph: Graph, node: Node, held: Mapping[str, Held], region: Tile, norm: Node | None
) -> str:
    """The value that holds a node's ``region``, or that of the ``norm`` folded into it."""
    given = [held[tensor] for tensor in node.inputs]
    if not node.maps:
        _check_whole(node)
        needs, values = [tile for tile, _ in given], [value for _, value in given]
    else:
        needs = [need_tile(region, *maps) for maps in node.maps]
        if region.is_empty or all(need.is_empty for need in needs):
            raise InexpressibleError("nothing of its input is needed")
        values = [
            graph.cropped(value, tile, need) if not need.is_empty else ""
            for (tile, value), need in zip(given, needs, strict=True)
        ]
    if norm is not None:
        return onnx_windowed.conv_norm(graph, node, norm, values, needs, region)
    if "overload" in node.attrs:
        return onnx_pixelwise.called(graph, node, values, needs, region)
    rule = RULES.get(node.op)
    if rule is None:
        raise InexpressibleError(f"op {node.op}")
    return rule(graph, node, values, needs, region)


def _check_whole(node: Node) -> None:
    """Of ops that see their inputs whole only these are expressed."""
    known = node.op in onnx_pixelwise.CALLED or node.op in onnx_pixelwise.OF_WHOLE
    plain = known and not node.attrs.get("views")
    if not plain and node.op not in REDUCTIONS and node.op != "relayout":
        raise InexpressibleError(f"op {node.op} of whole tensors")
