"""What each node is: divided among the devices, held by all of them, or run whole by one.

Nodes with maps are divided, unless what they read is whole already. A whole node's output that is a
map is handed out again where enough work follows on it: the whole nodes behind such an *exit* make
one layer (``Kinds.exits``), which one device computes. So do, on every device, those behind an
exit of one pixel that is made of small tensors alone (channel attention). All other whole nodes
are the head's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from nptp_opt.network.ir import LayerKind, Node
from nptp_opt.network.ops import REDUCTIONS

LEAST_SHARES = (0.005, 0.02, 0.1)
"""Shares of the network's FLOP that must follow on whole maps to be divided again; the first one
with which no more than ``MOST_TWICE`` is computed twice is taken."""

MOST_TWICE = 0.01
"""Share of the network's FLOP that several exits may compute, each for itself."""


@dataclass
class Kinds:
    """The kind of every node. ``exits`` maps whole nodes that make a map again to the nodes, in
    order, of which their layer consists; ``head`` are the whole nodes behind the outputs.
    """

    of: dict[str, LayerKind]
    exits: dict[str, tuple[str, ...]] = field(default_factory=dict)
    head: frozenset[str] = frozenset()


def classify(nodes: Sequence[Node], outputs: Collection[str]) -> Kinds:
    """Kinds of all nodes, which are in topological order and lead to ``outputs``."""
    plain = _settle(nodes, outputs, frozenset())
    total = sum(node.flop for node in nodes)
    for share in LEAST_SHARES:
        again = _divided_again(nodes, plain.of, share * total)
        if not again:
            break
        kinds = _settle(nodes, outputs, again)
        if _computed_twice(nodes, kinds) <= MOST_TWICE * total:
            return kinds
    return plain


def is_local(node: Node) -> bool:
    """Can the node be divided, or reduced from parts?"""
    return bool(node.maps) or node.op in REDUCTIONS


def _divided_again(
    nodes: Sequence[Node], plain: Mapping[str, LayerKind], least_flop: float
) -> frozenset[str]:
    """Local nodes behind whole ones, in connected groups of at least ``least_flop``.

    Linear layers do not count: what they read is gathered for them anyway.
    """
    fed = [node for node in nodes if plain[node.name] == "gather" and is_local(node)]
    parent = {node.name: node.name for node in fed}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = name = parent[parent[name]]
        return name

    for node in fed:
        for tensor in node.inputs:
            if tensor in parent:
                parent[root(tensor)] = root(node.name)
    flop: dict[str, float] = {}
    for node in fed:
        work = 0.0 if node.op == "linear" else node.flop
        flop[root(node.name)] = flop.get(root(node.name), 0.0) + work
    return frozenset(name for name in parent if flop[root(name)] >= max(least_flop, 1.0))


def _settle(nodes: Sequence[Node], outputs: Collection[str], again: Collection[str]) -> Kinds:
    """Kinds with the nodes ``again`` divided; a linear layer of a map that one device fetches
    anyway is left to it."""
    alone: set[str] = set()
    while True:
        kinds = _Classifier(nodes, again, alone).kinds(outputs)
        more = _fetched_anyway(nodes, kinds.of, outputs) - alone
        if not more:
            return kinds
        alone |= more


class _Classifier:
    """One walk over the nodes, those ``alone`` being whole."""

    def __init__(
        self, nodes: Sequence[Node], again: Collection[str], alone: Collection[str]
    ) -> None:
        self.nodes, self.again, self.alone = nodes, again, alone
        self.of: dict[str, LayerKind] = {}
        self.exits: dict[str, tuple[str, ...]] = {}
        self.exit_kinds: dict[str, LayerKind] = {}
        self.by_name = {node.name: node for node in nodes}

    def kinds(self, outputs: Collection[str]) -> Kinds:
        """Small tensors that go back onto no map are whole, too."""
        self._walk(None)
        onto_map: set[str] = set()
        for node in reversed(self.nodes):
            if self._seen(node.name) == "spatial" or node.name in onto_map:
                onto_map.update(node.inputs)
        self._walk(onto_map)
        head = self._behind([t for t in outputs if self.of.get(t) == "gather"])
        of = {**self.of, **{name: self._seen(name) for name in self.exits}}
        return Kinds(of, self.exits, frozenset(head))

    def _walk(self, onto_map: Collection[str] | None) -> None:
        """Kinds and exits of all nodes; of small tensors those in ``onto_map`` stay small."""
        stays = {node.name for node in self.nodes if node.op in REDUCTIONS}.union(onto_map or ())
        again = self._again(stays if onto_map is not None else self.again)
        self.of, self.exits, self.exit_kinds = {}, {}, {}
        ways_out = {tensor for node in again for tensor in node.inputs} - {n.name for n in again}
        for node in self.nodes:
            kind = "gather" if node.name in self.alone else self._kind(node)
            small = kind == "global" and onto_map is not None and node.name not in stays
            self.of[node.name] = "gather" if small else kind
            if node.name in ways_out and self.of[node.name] == "gather":
                self.exits[node.name] = tuple(self._behind([node.name]))
                self.exit_kinds[node.name] = self._exit_kind(node)

    def _again(self, stays: Collection[str]) -> list[Node]:
        """The nodes that are divided again, without small ones that do not stay small."""
        found = [node for node in self.nodes if node.name in self.again]
        return [node for node in found if node.name in stays or self._seen(node.name) != "global"]

    def _seen(self, tensor: str) -> LayerKind:
        """What a tensor is to those who read it."""
        return self.exit_kinds.get(tensor) or self.of.get(tensor, "spatial")

    def _kind(self, node: Node) -> LayerKind:
        """Whole things stay whole; one pixel that is made of small tensors alone is small."""
        if not is_local(node):
            return "gather"
        sources = {self._seen(tensor) for tensor in node.inputs}
        if "gather" in sources:
            return "gather"
        small = sources == {"global"} and node.shape[2:] == (1, 1) and node.op != "linear"
        return "global" if node.op in REDUCTIONS or small else "spatial"

    def _behind(self, ends: Sequence[str]) -> Iterator[str]:
        """Whole nodes that ``ends`` need, in order, as far back as other exits and divided maps."""
        wanted = set(ends)
        for node in reversed(self.nodes):
            if node.name in wanted:
                wanted.update(t for t in node.inputs if self._is_inner(t))
        return (node.name for node in self.nodes if node.name in wanted)

    def _is_inner(self, tensor: str) -> bool:
        return self.of.get(tensor) == "gather" and tensor not in self.exits

    def _exit_kind(self, exit_node: Node) -> LayerKind:
        inside = set(self.exits[exit_node.name])
        read = {t for name in inside for t in self.by_name[name].inputs} - inside
        small = bool(read) and all(self._seen(tensor) == "global" for tensor in read)
        return "global" if small and exit_node.shape[2:] == (1, 1) else "spatial"


def _computed_twice(nodes: Sequence[Node], kinds: Kinds) -> float:
    """FLOP of whole nodes in all layers but one."""
    flop = {node.name: node.flop for node in nodes}
    bundles = [*kinds.exits.values(), kinds.head]
    used = [name for bundle in bundles for name in bundle]
    return sum(flop[name] for name in used) - sum(flop[name] for name in set(used))


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
