"""Growing a network node by node: names, shapes, weights and windows of what a front end finds."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from nptp_opt.geometry import AxisMap, Window
from nptp_opt.geometry.axis_maps import Broadcast
from nptp_opt.network.ir import AxisMaps, Node
from nptp_opt.network.layout import Layout
from nptp_opt.network.ops import flop_per_element

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Value:
    """A tensor of the model while it is imported.

    ``tensor`` is its name in the network and ``shape`` its shape in the model. ``layout`` says how
    the two relate; None for a tensor that only whole ops may read. ``dtype`` is what the model
    computes it in; the network carries every tensor in one floating-point type.
    """

    tensor: str
    shape: Shape
    layout: Layout | None
    dtype: torch.dtype | None = field(default=None, compare=False)

    def ordering(self) -> dict[str, list[int]]:
        """How the canonical tensor gets the model's dimensions: a reshape, then a permutation."""
        assert self.layout is not None
        order = self.layout.order()
        ordered = [self.shape[d] for d in order]
        return {"ordered": ordered, "order": [order.index(d) for d in range(len(order))]}


@dataclass(frozen=True)
class Const:
    """A weight, by its state key."""

    key: str
    shape: Shape


def identity(n: int) -> AxisMap:
    """The map of an axis that reads its own position."""
    return Window(n, n)


def axis_map(n_in: int, n_out: int) -> AxisMap:
    """Identity, or a broadcast from an axis of length 1."""
    return Broadcast(n_out) if n_in == 1 != n_out else Window(n_in, n_out)


@dataclass
class Graph:
    """Nodes in the order in which they were found, with the shape of every tensor and weight."""

    shapes: dict[str, Shape] = field(default_factory=dict)
    params: dict[str, Shape] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    by_name: dict[str, Node] = field(default_factory=dict)
    relaid: dict[str, Value] = field(default_factory=dict)
    """Tensors that were brought into the model's own dimensions, and what they were made from."""
    flattened: dict[str, Value] = field(default_factory=dict)
    """Reshaped whole tensors, and the map that holds the same elements in the same order."""

    def unique(self, name: str) -> str:
        """``name``, with a number behind it when it is taken."""
        name = re.sub(r"[^\w.\-/:]", "_", name)
        tries = (f"{name}_{i}" if i else name for i in range(len(self.shapes) + 1))
        return next(each for each in tries if each not in self.shapes)

    def maker(self, tensor: str) -> Node | None:
        """The node that makes ``tensor``; None for an input."""
        return self.by_name.get(tensor)

    def add(
        self,
        name: str,
        op: str,
        inputs: Sequence[str],
        shape: Sequence[int],
        *,
        attrs: Mapping[str, Any] | None = None,
        params: Mapping[str, Const | None] | None = None,
        maps: Sequence[AxisMaps] = (),
        flop: float | None = None,
    ) -> str:
        """Append a node and return its tensor's name; params that are None are left out."""
        name = self.unique(name)
        kept = {role: const for role, const in (params or {}).items() if const is not None}
        self.params.update({const.key: const.shape for const in kept.values()})
        self.shapes[name] = tuple(shape)
        keys = {role: const.key for role, const in kept.items()}
        cost = flop_per_element(op) * math.prod(shape) if flop is None else flop
        node = Node(name, op, tuple(inputs), tuple(shape), attrs or {}, keys, tuple(maps), cost)
        self.nodes.append(node)
        self.by_name[name] = node
        return name

    def pixelwise_maps(self, inputs: Sequence[str], shape: Sequence[int]) -> list[AxisMaps]:
        """Maps of an op that reads the same pixel of all its inputs, broadcast where needed."""
        return [
            (axis_map(self.shapes[t][2], shape[2]), axis_map(self.shapes[t][3], shape[3]))
            for t in inputs
        ]
