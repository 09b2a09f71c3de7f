"""One path through a network's DAG: the one with the most work, which the bound follows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from nptp_opt.cluster import Cluster
from nptp_opt.compiling import compiled
from nptp_opt.cost import wire
from nptp_opt.geometry import AxisMap, IntArray
from nptp_opt.network.ir import Layer, Network


@dataclass(frozen=True)
class Chain:
    """A path: ``layers[k]`` reads tensor k and makes tensor k + 1; tensor 0 is an input."""

    network: Network
    layers: tuple[Layer, ...]
    source: str | None
    cluster: Cluster

    @cached_property
    def names(self) -> tuple[str | None, ...]:
        """Tensor 0 (None where the path begins with no network input), 1, ..."""
        return (self.source, *(layer.name for layer in self.layers))

    @cached_property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """Height and width of every tensor; 0 x 0 for a first one that is none."""
        sizes = [(layer.height, layer.width) for layer in self.layers]
        if self.source is None:
            return ((0, 0), *sizes)
        _, _, height, width = self.network.shapes[self.source]
        return ((height, width), *sizes)

    @cached_property
    def areas(self) -> tuple[int, ...]:
        """Pixels of every tensor."""
        return tuple(height * width for height, width in self.sizes)

    @cached_property
    def pixel_bytes(self) -> tuple[float, ...]:
        """Bytes in which one pixel of every tensor is sent, where it takes fewest."""
        return tuple(
            0.0 if name is None else float(wire(self.cluster, self.network, name).pixel_bytes.min())
            for name in self.names
        )


def longest_chain(network: Network, cluster: Cluster) -> Chain:
    """The path with the most floating-point operations; of equal ones the last."""
    weight: dict[str, float] = {}
    before: dict[str, str | None] = {}
    for layer in network.spatial:
        options = [t for t in layer.inputs if t in weight or t in network.inputs]
        best = max(options, key=lambda t: weight.get(t, 0.0), default=None)
        before[layer.name] = best
        weight[layer.name] = layer.flop + weight.get(best or "", 0.0)
    at: str | None = max(reversed(weight), key=lambda name: weight[name])
    chain: list[Layer] = []
    while at in weight:
        chain.append(network.by_name[str(at)])
        at = before[str(at)]
    return Chain(network, tuple(reversed(chain)), at, cluster)


def least_per_output(axis: AxisMap) -> float:
    """Fewest positions per output that any set of outputs of an axis reads."""
    known: Any = axis
    return _least_per_output(known)


@lru_cache(maxsize=4096)
def _least_per_output(axis: Any) -> float:
    return float(fewest_per_output(*_spans(axis)))


def _spans(axis: AxisMap) -> tuple[IntArray, IntArray]:
    """First and last-plus-one position that every single output reads."""
    found = [axis.need(o, o + 1) for o in range(axis.n_out)]
    first = np.array([a if a < b else axis.n_in for a, b in found], dtype=np.int64)
    return first, np.array([b if a < b else 0 for a, b in found], dtype=np.int64)


@compiled
def fewest_per_output(first, last):  # type: ignore[no-untyped-def]
    """Fewest positions per output that any set of outputs reads; ``first`` and ``last`` per output.

    Where windows follow one another ranges read least; elsewhere a set reads what one output does.
    """
    n = len(first)
    for o in range(n):
        if last[o] <= first[o]:
            return 0.0
    for o in range(1, n):
        if first[o] < first[o - 1] or last[o] < last[o - 1]:
            return (last - first).min() / n
    least = float(last[0] - first[0])
    for a in range(n):
        count = last[a] - first[a]
        least = min(least, float(count))
        for b in range(a + 1, n):
            count += last[b] - max(first[b], last[b - 1])
            least = min(least, count / (b - a + 1))
    return least
