"""Ops on single pixels as ONNX nodes: activations, arithmetic, and what mixes the channels.

As in ``onnx_windowed`` a rule gives the node's tile or raises ``InexpressibleError``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nptp_opt.geometry import Tile
from nptp_opt.kernels.crops import Array
from nptp_opt.kernels.executors.onnx_bytes import BFLOAT16, FLOAT, FLOAT16
from nptp_opt.kernels.executors.onnx_graph import Graph, InexpressibleError
from nptp_opt.kernels.executors.onnx_windowed import Rule
from nptp_opt.network.ir import Node


@dataclass(frozen=True)
class _Called:
    """A node that calls torch's op of its name, and the values that it reads."""

    graph: Graph
    node: Node
    values: Sequence[str]
    tile: Tile

    @property
    def count(self) -> int:
        return len(self.node.attrs["args"])

    def value(self, place: int) -> str:
        """An argument as a value: a map, a weight or a number."""
        given = self.node.attrs["args"][place]
        if isinstance(given, bool) or given is None or isinstance(given, (str, list)):
            raise InexpressibleError(f"{self.node.op} of {given!r}")
        if not isinstance(given, Mapping):
            return self.graph.floats(given)
        if "dtype" in given:
            raise InexpressibleError(f"{self.node.op} of {given['dtype']}")
        return self.values[given["in"]] if "in" in given else self._weight(given["param"])

    def number(self, place: int, default: float) -> float:
        """An argument that has to be a number; ``default`` where it is left out."""
        if place >= self.count or self.node.attrs["args"][place] is None:
            return default
        given = self.node.attrs["args"][place]
        if isinstance(given, bool) or not isinstance(given, (int, float)):
            raise InexpressibleError(f"{self.node.op} with a tensor for a number")
        return float(given)

    def keyword(self, name: str, default: Any) -> Any:
        """A keyword argument; those that no rule reads must have their default values."""
        return self.node.attrs["kwargs"].get(name, default)

    def _weight(self, role: str) -> str:
        key, view = self.node.params[role], self.node.attrs.get("views", {}).get(role)
        if view is None:
            return self.graph.weight(key)
        return viewed(self.graph, key, view, self.tile)


def viewed(graph: Graph, key: str, view: Mapping[str, list[int]], tile: Tile) -> str:
    """A weight as (N, C, H, W), cut to the tile where it has rows or columns of its own."""
    shape = view["shape"]
    rows = slice(tile.y0, tile.y1) if shape[2] > 1 else slice(None)
    columns = slice(tile.x0, tile.x1) if shape[3] > 1 else slice(None)

    def make(values: Array) -> Array:
        lying = np.broadcast_to(values.reshape(view["view"]), view["expand"])
        return lying.transpose(view["order"]).reshape(shape)[:, :, rows, columns]

    return graph.weight(key, f"map {sorted(view.items())} {rows} {columns}", make)


CallRule = Callable[[_Called], str]


def _unary(op: str) -> CallRule:
    return lambda call: call.graph.add(op, call.value(0))


def _binary(op: str) -> CallRule:
    return lambda call: call.graph.add(op, call.value(0), call.value(1))


def _scaled(call: _Called) -> str:
    """The second argument of a sum, times ``alpha``."""
    alpha = call.keyword("alpha", 1)
    if alpha == 1:
        return call.value(1)
    return call.graph.add("Mul", call.value(1), call.graph.floats(alpha))


def _div(call: _Called) -> str:
    if call.keyword("rounding_mode", None) is not None:
        raise InexpressibleError("div that rounds")
    return call.graph.add("Div", call.value(0), call.value(1))


def _clip(call: _Called, low: float, high: float) -> str:
    bounds = (call.graph.floats(bound) for bound in (low, high))
    return call.graph.add("Clip", call.value(0), *bounds)


def _silu(call: _Called) -> str:
    value = call.value(0)
    return call.graph.add("Mul", value, call.graph.add("Sigmoid", value))


def _elu(call: _Called) -> str:
    if (call.number(2, 1.0), call.number(3, 1.0)) != (1.0, 1.0):
        raise InexpressibleError("elu with scales")
    return call.graph.add("Elu", call.value(0), alpha=call.number(1, 1.0))


def _softplus(call: _Called) -> str:
    if (call.number(1, 1.0), call.number(2, 20.0)) != (1.0, 20.0):
        raise InexpressibleError("softplus with a slope or threshold of its own")
    return call.graph.add("Softplus", call.value(0))


def _pow(call: _Called) -> str:
    value = call.value(0)
    if call.number(1, math.nan) == 2.0:
        return call.graph.add("Mul", value, value)
    return call.graph.add("Pow", value, call.value(1))


def _square(call: _Called) -> str:
    return call.graph.add("Mul", call.value(0), call.value(0))


def _rsqrt(call: _Called) -> str:
    return call.graph.add("Reciprocal", call.graph.add("Sqrt", call.value(0)))


def _gelu(call: _Called) -> str:
    return call.graph.add("Gelu", call.value(0), approximate=call.keyword("approximate", "none"))


def _leaky(call: _Called) -> str:
    return call.graph.add("LeakyRelu", call.value(0), alpha=call.number(1, 0.01))


def _celu(call: _Called) -> str:
    return call.graph.add("Celu", call.value(0), alpha=call.number(1, 1.0))


def _hardsigmoid(call: _Called) -> str:
    return call.graph.add("HardSigmoid", call.value(0), alpha=1 / 6, beta=0.5)


def _round(call: _Called) -> str:
    if call.keyword("decimals", 0) != 0:
        raise InexpressibleError("round to decimals")
    return call.graph.add("Round", call.value(0))


CALLED: dict[str, CallRule] = {
    **{
        name.lower(): _unary(name)
        for name in "Abs Cos Erf Exp Floor Ceil Log Mish Neg Reciprocal Relu Sigmoid Sin Sqrt "
        "Tanh HardSwish Selu".split()
    },
    "mul": _binary("Mul"),
    "maximum": _binary("Max"),
    "minimum": _binary("Min"),
    "add": lambda call: call.graph.add("Add", call.value(0), _scaled(call)),
    "sub": lambda call: call.graph.add("Sub", call.value(0), _scaled(call)),
    "div": _div,
    "pow": _pow,
    "round": _round,
    "square": _square,
    "rsqrt": _rsqrt,
    "clamp": lambda call: _clip(call, call.number(1, -math.inf), call.number(2, math.inf)),
    "clamp_min": lambda call: _clip(call, call.number(1, -math.inf), math.inf),
    "clamp_max": lambda call: _clip(call, -math.inf, call.number(1, math.inf)),
    "hardtanh": lambda call: _clip(call, call.number(1, -1.0), call.number(2, 1.0)),
    "relu6": lambda call: _clip(call, 0.0, 6.0),
    "silu": _silu,
    "elu": _elu,
    "celu": _celu,
    "gelu": _gelu,
    "softplus": _softplus,
    "leaky_relu": _leaky,
    "hardsigmoid": _hardsigmoid,
}
"""Torch's ops by their names."""


def _softmax(op: str) -> CallRule:
    def rule(call: _Called) -> str:
        if call.node.attrs["args"][2:] not in ([], [None], [False]):
            raise InexpressibleError(f"{call.node.op} in another type")
        return call.graph.add(op, call.value(0), axis=int(call.number(1, -1)))

    return rule


def _reshaped(call: _Called) -> str:
    """In the order of the elements: the node's own shape says how."""
    return call.graph.reshaped(call.value(0), call.node.shape)


def _permuted(call: _Called) -> str:
    order = [axis % len(call.node.shape) for axis in call.node.attrs["args"][1]]
    return call.graph.add("Transpose", call.value(0), perm=order)


def _transposed(call: _Called) -> str:
    order = list(range(len(call.node.shape)))
    a, b = (order[axis] for axis in call.node.attrs["args"][1:])
    order[a], order[b] = b, a
    return call.graph.add("Transpose", call.value(0), perm=order)


OF_WHOLE: dict[str, CallRule] = {
    "softmax": _softmax("Softmax"),
    "log_softmax": _softmax("LogSoftmax"),
    "permute": _permuted,
    "transpose": _transposed,
    **dict.fromkeys(("reshape", "flatten", "unflatten", "squeeze", "unsqueeze"), _reshaped),
}
"""Torch's ops on whole tensors, which have the model's own dimensions."""

KNOWN_KEYWORDS = {
    "add": {"alpha"}, "sub": {"alpha"}, "gelu": {"approximate"}, "div": {"rounding_mode"},
    "round": {"decimals"},
}  # fmt: skip
OVERLOADS = {"default", "Tensor", "Scalar", "Tensor_Scalar", "Tensor_mode"}
OF_WHOLE_OVERLOADS = {"default", "int", "dim", "dims", "using_ints"}


def called(
    graph: Graph, node: Node, values: Sequence[str], needs: Sequence[Tile], tile: Tile
) -> str:
    """A node that calls torch's op of its name."""
    rules, overloads = (CALLED, OVERLOADS) if node.op in CALLED else (OF_WHOLE, OF_WHOLE_OVERLOADS)
    rule = rules.get(node.op)
    if rule is None or node.attrs["overload"] not in overloads or "output" in node.attrs:
        raise InexpressibleError(f"op {node.op}")
    unread = set(node.attrs["kwargs"]) - KNOWN_KEYWORDS.get(node.op, set())
    if unread:
        raise InexpressibleError(f"{node.op} with {', '.join(sorted(unread))}")
    return rule(_Called(graph, node, values, tile))


def cast(graph: Graph, node: Node, values: Sequence[str], needs: Sequence[Tile], tile: Tile) -> str:
    """Rounded to a shorter floating-point type, and back."""
    shorter = {"float16": FLOAT16, "bfloat16": BFLOAT16}.get(node.attrs["dtype"])
    if shorter is None:
        raise InexpressibleError(f"cast to {node.attrs['dtype']}")
    return graph.add("Cast", graph.add("Cast", values[0], to=shorter), to=FLOAT)


# -- ops that mix the channels of a pixel ---------------------------------------------------------


def _channels(node: Node, needs: Sequence[Tile], tile: Tile) -> int:
    """Channels of the first input, whose weights are one for each; raises for volumes."""
    if node.attrs.get("by_row") or node.attrs.get("channels", node.shape[1]) != node.shape[1]:
        raise InexpressibleError(f"{node.op} of a volume or of rows")
    return node.shape[1]


def batch_norm(
    graph: Graph, node: Node, values: Sequence[str], needs: Sequence[Tile], tile: Tile
) -> str:
    count = _channels(node, needs, tile)
    ones = {"weight": 1.0, "bias": 0.0}
    roles = ("weight", "bias", "running_mean", "running_var")
    weights = [
        graph.weight(node.params[role])
        if role in node.params
        else graph.floats(np.full(count, ones[role]))
        for role in roles
    ]
    return graph.add("BatchNormalization", values[0], *weights, epsilon=node.attrs["eps"])


def prelu(
    graph: Graph, node: Node, values: Sequence[str], needs: Sequence[Tile], tile: Tile
) -> str:
    _channels(node, needs, tile)
    slope = graph.weight(node.params["weight"], "slopes", lambda w: w.reshape(-1, 1, 1))
    return graph.add("PRelu", values[0], slope)


def channel_norm(
    graph: Graph, node: Node, values: Sequence[str], needs: Sequence[Tile], tile: Tile
) -> str:
    """Channels go last for the norm, and back."""
    if "over" in node.attrs or not node.attrs.get("centred", True):
        raise InexpressibleError("a norm of a part of the channels, or without a mean")
    count = node.shape[1]
    params = [
        graph.weight(node.params[role]) if role in node.params else graph.floats(np.full(count, x))
        for role, x in (("weight", 1.0), ("bias", 0.0))
    ]
    last = graph.add("Transpose", values[0], perm=[0, 2, 3, 1])
    made = graph.add("LayerNormalization", last, *params, axis=-1, epsilon=node.attrs["eps"])
    return graph.add("Transpose", made, perm=[0, 3, 1, 2])


def _over_channels(op: str) -> Rule:
    """An op that leaves the shape, along the channels or one factor of them."""

    def rule(
        graph: Graph, node: Node, values: Sequence[str], needs: Sequence[Tile], tile: Tile
    ) -> str:
        if "over" not in node.attrs:
            return graph.add(op, values[0], axis=1)
        split = graph.reshaped(values[0], _split_shape(node, tile))
        made = graph.add(op, split, axis=1 + node.attrs["over"][0])
        return graph.reshaped(made, (*node.shape[:2], tile.height, tile.width))

    return rule


def _reduced(op: str) -> Rule:
    """An op that leaves one of the channels, or of the factors that it works along."""

    def rule(
        graph: Graph, node: Node, values: Sequence[str], needs: Sequence[Tile], tile: Tile
    ) -> str:
        factored = "over" in node.attrs
        dims = [1 + i for i in node.attrs["over"]] if factored else [1]
        value = graph.reshaped(values[0], _split_shape(node, tile)) if factored else values[0]
        made = graph.add(op, value, graph.integers(dims), keepdims=1)
        return graph.reshaped(made, (*node.shape[:2], tile.height, tile.width))

    return rule


def _split_shape(node: Node, tile: Tile) -> tuple[int, ...]:
    return (node.shape[0], *node.attrs["factors"], tile.height, tile.width)


def channel_permute(
    graph: Graph, node: Node, values: Sequence[str], needs: Sequence[Tile], tile: Tile
) -> str:
    order = [1 + i for i in node.attrs["order"]]
    rank = len(order)
    split = graph.reshaped(values[0], _split_shape(node, tile))
    turned = graph.add("Transpose", split, perm=[0, *order, rank + 1, rank + 2])
    return graph.reshaped(turned, (*node.shape[:2], tile.height, tile.width))


def channel_slice(
    graph: Graph, node: Node, values: Sequence[str], needs: Sequence[Tile], tile: Tile
) -> str:
    factored = "over" in node.attrs
    value = graph.reshaped(values[0], _split_shape(node, tile)) if factored else values[0]
    axis = 1 + node.attrs["over"][0] if factored else 1
    span, step = (node.attrs["start"], node.attrs["stop"]), node.attrs["step"]
    made = graph.sliced(value, [span], [axis], step)
    if not factored:
        return made
    return graph.reshaped(made, (*node.shape[:2], tile.height, tile.width))


def channel_concat(
    graph: Graph, node: Node, values: Sequence[str], needs: Sequence[Tile], tile: Tile
) -> str:
    return graph.add("Concat", *values, axis=1)


def channel_pad(
    graph: Graph, node: Node, values: Sequence[str], needs: Sequence[Tile], tile: Tile
) -> str:
    front, back = node.attrs["pad"]
    if min(front, back) < 0:
        raise InexpressibleError("channels cut by a pad")
    sides = graph.integers([0, front, 0, 0, 0, back, 0, 0])
    return graph.add("Pad", values[0], sides, graph.floats(node.attrs["value"]), mode="constant")


def constant(
    graph: Graph, node: Node, values: Sequence[str], needs: Sequence[Tile], tile: Tile
) -> str:
    part = viewed(graph, node.params["c0"], node.attrs["view"], tile)
    shape = (*node.shape[:2], tile.height, tile.width)
    return graph.add("Expand", part, graph.integers(shape))


def broadcast(
    graph: Graph, node: Node, values: Sequence[str], needs: Sequence[Tile], tile: Tile
) -> str:
    if "factors" not in node.attrs:
        shape = (*node.shape[:2], tile.height, tile.width)
        return graph.add("Expand", values[0], graph.integers(shape))
    before, after = node.attrs["factors"]
    n, need = node.shape[0], needs[0]
    split = graph.reshaped(values[0], (n, *before, need.height, need.width))
    made = graph.add("Expand", split, graph.integers((n, *after, tile.height, tile.width)))
    return graph.reshaped(made, (*node.shape[:2], tile.height, tile.width))


def group_normalise(
    graph: Graph, node: Node, values: Sequence[str], needs: Sequence[Tile], tile: Tile
) -> str:
    """(x - mean) * rstd of each group, then the weights of each channel."""
    count, groups = _channels(node, needs, tile), node.attrs["groups"]
    split = graph.reshaped(values[0], (node.shape[0], groups, -1, tile.height, tile.width))
    mean, rstd = (
        graph.add("Unsqueeze", graph.sliced(values[1], [span], [1]), graph.integers([2]))
        for span in ((0, groups), (groups, 2 * groups))
    )
    normed = graph.add("Mul", graph.add("Sub", split, mean), rstd)
    found = graph.reshaped(normed, (node.shape[0], count, tile.height, tile.width))
    for role, op in (("weight", "Mul"), ("bias", "Add")):
        if role in node.params:
            lying = graph.weight(node.params[role], "channels", lambda w: w.reshape(1, -1, 1, 1))
            found = graph.add(op, found, lying)
    return found


def global_avg_pool(
    graph: Graph, node: Node, values: Sequence[str], needs: Sequence[Tile], tile: Tile
) -> str:
    if node.attrs["pixels"] != needs[0].area:
        raise InexpressibleError("a mean over more pixels than the map has")
    return graph.add("GlobalAveragePool", values[0])


def global_max_pool(
    graph: Graph, node: Node, values: Sequence[str], needs: Sequence[Tile], tile: Tile
) -> str:
    return graph.add("GlobalMaxPool", values[0])


def relayout(
    graph: Graph, node: Node, values: Sequence[str], needs: Sequence[Tile], tile: Tile
) -> str:
    """From (N, C, H, W) to the model's own dimensions."""
    lying = graph.reshaped(values[0], node.attrs["ordered"])
    return graph.add("Transpose", lying, perm=list(node.attrs["order"]))


def normalise(
    graph: Graph, node: Node, values: Sequence[str], needs: Sequence[Tile], region: Tile
) -> str:
    mean, std = (
        graph.floats(np.reshape(node.attrs[role], (1, -1, 1, 1))) for role in ("mean", "std")
    )
    scaled = graph.add("Div", values[0], graph.floats(node.attrs["scale"]))
    return graph.add("Div", graph.add("Sub", scaled, mean), std)


RULES: dict[str, Rule] = {
    **{
        rule.__name__: rule
        for rule in (
            batch_norm, cast, prelu, channel_norm, channel_permute, channel_slice, channel_concat,
            channel_pad, constant, broadcast, group_normalise, global_avg_pool,
            global_max_pool, normalise, relayout,
        )
    },
    "channel_softmax": _over_channels("Softmax"),
    "channel_log_softmax": _over_channels("LogSoftmax"),
    "channel_mean": _reduced("ReduceMean"),
    "channel_sum": _reduced("ReduceSum"),
    "channel_amax": _reduced("ReduceMax"),
}  # fmt: skip
"""By op; what is called by its own name in torch is in ``CALLED``."""
