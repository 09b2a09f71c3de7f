"""What the plan's bound sees of a network: one path through its DAG, and its regions' sizes.

Every plan gives every tensor of a path from the input to the last map one of two fates: it is the
output of a step (a state of the bound), or it is hidden inside the segment of the tensor that
reads it. So the path's tensors that are outputs cut the path into runs, and each run lies inside
one segment, whatever else that segment computes. Dropping the needs of tensors off the path, and
counting layers beside the path at perfect balance or at the region that their reader needs, can
only lower the price.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import networkx as nx
import numpy as np
import numpy.typing as npt

from nptp_opt.cluster import Cluster
from nptp_opt.cost import sent_pixel_bytes
from nptp_opt.geometry import AxisMap, IntArray
from nptp_opt.network.ir import Layer, Network, external_inputs

RESULTS = ""
"""Where all ways through the network end; no layer has this name."""

Spans = tuple[IntArray, IntArray]
"""First and last-plus-one position that every single output reads along one axis."""


@dataclass(frozen=True)
class Beside:
    """A layer beside the path: computed for what ``position`` on the path reads of it, or apart."""

    layer: Layer
    position: int
    spans: tuple[Spans, Spans]


@dataclass(frozen=True)
class Skip:
    """Tensor ``made`` of the path is an operand of the layer that makes ``read``, further on."""

    made: int
    read: int
    spans: tuple[Spans, Spans]


@dataclass(frozen=True)
class Chain:
    """A path: ``layers[k]`` reads tensor k and makes tensor k + 1; tensor 0 is an input."""

    network: Network
    layers: tuple[Layer, ...]
    source: str | None
    cluster: Cluster

    @property
    def length(self) -> int:
        return len(self.layers)

    @cached_property
    def names(self) -> tuple[str | None, ...]:
        """Tensor 0 (None where the path begins with no network input), 1, ..."""
        return (self.source, *(layer.name for layer in self.layers))

    @cached_property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """Height and width of every tensor; 0 x 0 for a first one that is none."""
        found = [(layer.height, layer.width) for layer in self.layers]
        if self.source is None:
            return ((0, 0), *found)
        _, _, height, width = self.network.shapes[self.source]
        return ((height, width), *found)

    @cached_property
    def areas(self) -> tuple[int, ...]:
        """Pixels of every tensor."""
        return tuple(height * width for height, width in self.sizes)

    @cached_property
    def pixel_bytes(self) -> tuple[int, ...]:
        """Bytes in which one pixel of every tensor is sent."""
        return tuple(
            0 if name is None else sent_pixel_bytes(self.cluster, self.network, name)
            for name in self.names
        )

    @cached_property
    def steps(self) -> tuple[tuple[Spans, Spans] | None, ...]:
        """Per layer what single rows and columns read of the tensor before."""
        first = None if self.source is None else _spans_of(self.layers[0], self.source)
        pairs = zip(self.layers[1:], self.names[1:], strict=False)
        return (first, *(_spans_of(layer, str(name)) for layer, name in pairs))

    @cached_property
    def skips(self) -> tuple[Skip, ...]:
        """Operands of the path's layers that are tensors of the path, but not the one before."""
        position = {name: k for k, name in enumerate(self.names) if name is not None}
        return tuple(
            Skip(position[name], k + 1, _spans_of(layer, name))
            for k, layer in enumerate(self.layers)
            for name in dict.fromkeys(layer.inputs)
            if name in position and position[name] != k
        )

    @cached_property
    def beside(self) -> tuple[Beside, ...]:
        """Spatial layers off the path that some layer of the path reads, directly or not."""
        position = {layer.name: k + 1 for k, layer in enumerate(self.layers)}
        found: dict[str, Beside] = {}
        for layer in reversed(self.network.spatial):
            if layer.name in position:
                continue
            for reader in self.network.consumers[layer.name]:
                if reader not in position and reader not in found:
                    continue
                spans = _spans_of(self.network.by_name[reader], layer.name)
                if reader in position:
                    found[layer.name] = Beside(layer, position[reader], spans)
                else:
                    outer = found[reader]
                    both = compose(outer.spans[0], spans[0]), compose(outer.spans[1], spans[1])
                    found[layer.name] = Beside(layer, outer.position, both)
                break
        return tuple(found.values())

    @cached_property
    def apart(self) -> tuple[Layer, ...]:
        """Spatial layers that are neither on the path nor beside it."""
        known = {layer.name for layer in self.layers} | {b.layer.name for b in self.beside}
        return tuple(layer for layer in self.network.spatial if layer.name not in known)

    @cached_property
    def runs(self) -> npt.NDArray[np.bool_]:
        """``[start, end]``: can one step hide the tensors between? It holds all readers of a hidden
        one and only its last output leaves it, so every way onward from there leads to the end.
        """
        found = np.zeros((self.length + 1, self.length + 1), dtype=np.bool_)
        dominators = _dominators(self.network)
        for k in range(1, self.length + 1):
            found[k - 1, k] = True
            onward, at = set(), str(self.names[k])
            while at != RESULTS:
                at = dominators[at]
                onward.add(at)
            for end in range(k + 1, self.length + 1):
                found[k - 1, end] = self.names[end] in onward
        for start in range(self.length - 1, -1, -1):
            for end in range(start + 2, self.length + 1):
                found[start, end] &= found[start + 1, end]
        return found

    def widest(self, end: int) -> dict[int, tuple[Spans, Spans]]:
        """Per tensor of the path what rows and columns of tensor ``end`` read at most.

        Over all layers between: for a range [a, b) the first of a to the last of b - 1. Where
        some map is not monotone the whole axis counts.
        """
        height, width = self.sizes[end]
        spans = {str(self.names[end]): (identity(height), identity(width))}
        for layer in reversed(self.network.spatial):
            if layer.name not in spans:
                continue
            for tensor in layer.inputs:
                if tensor in self.network.replicated:
                    continue
                maps = layer.maps[tensor]
                mine = spans[layer.name]
                read = _most(maps[0], mine[0]), _most(maps[1], mine[1])
                spans[tensor] = _hull(spans[tensor], read) if tensor in spans else read
        return {k: spans[name] for k, name in enumerate(self.names[:end]) if name in spans}


def longest_chain(network: Network, cluster: Cluster) -> Chain:
    """The path with the most floating-point operations.

    Of equal ones the last: what reads a path's end without an operation could hide it.
    """
    weight: dict[str, float] = {}
    before: dict[str, str | None] = {}
    for layer in network.spatial:
        options = [t for t in layer.inputs if t in weight or t in network.inputs]
        best = max(options, key=lambda t: weight.get(t, 0.0), default=None)
        before[layer.name] = best
        weight[layer.name] = layer.flop + weight.get(best or "", 0.0)
    at: str | None = max(reversed(weight), key=lambda name: weight[name])
    found: list[Layer] = []
    while at in weight:
        found.append(network.by_name[str(at)])
        at = before[str(at)]
    return Chain(network, tuple(reversed(found)), at, cluster)


def _dominators(network: Network) -> dict[str, str]:
    """For every layer the next one that every way from its output to the results goes through."""
    graph = nx.DiGraph()
    wanted = {*network.outputs, *(external_inputs(network.head) if network.head else ())}
    for layer in network.shared_out:
        readers = network.consumers[layer.name]
        graph.add_edges_from((reader, layer.name) for reader in readers)
        if layer.name in wanted or not readers:
            graph.add_edge(RESULTS, layer.name)
    return dict(nx.immediate_dominators(graph, RESULTS))


def compose(outer: Spans, inner: Spans) -> Spans:
    """What single outputs read at least through two maps; an empty span is (n, 0)."""
    first, last = inner
    empty = outer[1] <= outer[0]
    lo = np.where(empty, len(first), outer[0])
    start = first[np.minimum(lo, len(first) - 1)]
    stop = last[np.maximum(outer[1], 1) - 1]
    size = int(first.max(initial=0)) + 1
    nothing = empty | (stop <= start)
    return np.where(nothing, size, start), np.where(nothing, 0, stop)


def _spans_of(layer: Layer, tensor: str) -> tuple[Spans, Spans]:
    rows, columns = layer.maps[tensor]
    return axis_spans(rows), axis_spans(columns)


def axis_spans(axis: AxisMap) -> Spans:
    """What every single output reads."""
    known: Any = axis
    return _known_spans(known)[0]


def _monotone(axis: AxisMap) -> bool:
    """True when the ends of a range say what it reads, and no single output reads nothing."""
    known: Any = axis
    return _known_spans(known)[1]


@lru_cache(maxsize=4096)
def _known_spans(axis: Any) -> tuple[Spans, bool]:
    n = axis.n_out
    found = [axis.need(o, o + 1) for o in range(n)]
    lo = np.array([a if a < b else axis.n_in for a, b in found], dtype=np.int64)
    hi = np.array([b if a < b else 0 for a, b in found], dtype=np.int64)
    ordered = bool((np.diff(lo) >= 0).all() and (np.diff(hi) >= 0).all() and (lo < hi).all())
    plain = ordered and all(axis.need(0, b) == (lo[0], hi[b - 1]) for b in range(1, n + 1))
    return (lo, hi), plain


def identity(n: int) -> Spans:
    """Every output reads its own position."""
    return np.arange(n), np.arange(1, n + 1)


def _most(axis: AxisMap, outer: Spans) -> Spans:
    """What ranges of the outer axis read at most, by their first and last position."""
    lo, hi = axis_spans(axis)
    if not _monotone(axis):
        return np.zeros(len(outer[0]), np.int64), np.full(len(outer[0]), axis.n_in)
    return lo[outer[0]], hi[outer[1] - 1]


def _hull(one: Sequence[Spans], two: Sequence[Spans]) -> tuple[Spans, Spans]:
    pairs = [
        (np.minimum(a[0], b[0]), np.maximum(a[1], b[1])) for a, b in zip(one, two, strict=True)
    ]
    return pairs[0], pairs[1]
