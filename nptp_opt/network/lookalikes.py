"""Calls that read only the shape or type of a tensor, rewritten to name that shape or type.

What is made from them alone is then a constant, and is worked out when the model is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx

aten = torch.ops.aten
_Rewrite = Callable[[fx.Node, Any], tuple[Any, tuple[Any, ...], dict[str, Any]]]


def _cast(node: fx.Node, value: Any) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    return aten._to_copy.default, (node.args[0],), {"dtype": value.dtype}


def _as_reshape(node: fx.Node, value: Any) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    return aten.reshape.default, (node.args[0], list(value.shape)), {}


def _as_expand(node: fx.Node, value: Any) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    return aten.expand.default, (node.args[0], list(value.shape)), {}


def _as_full(fill: float | None) -> _Rewrite:
    """A new tensor full of ``fill``, or of the call's last argument."""

    def rewrite(node: fx.Node, value: Any) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
        number = node.args[-1] if fill is None else fill
        kwargs = {"dtype": value.dtype, "device": value.device}
        return aten.full.default, (list(value.shape), number), kwargs

    return rewrite


def _as_spread(node: fx.Node, value: Any) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """A tensor full of one number that is a tensor itself: what is written into a slice."""
    number: Any = node.args[1]
    with node.graph.inserting_before(node):
        spread = node.graph.call_function(aten.expand.default, (number, list(value.shape)))
    spread.meta["val"] = number.meta["val"].expand(value.shape)
    return aten._to_copy.default, (spread,), {"dtype": value.dtype}


_REWRITES: dict[Any, _Rewrite] = {
    aten.type_as.default: _cast,
    aten.to.other: _cast,
    aten.view_as.default: _as_reshape,
    aten.reshape_as.default: _as_reshape,
    aten.expand_as.default: _as_expand,
    aten.zeros_like.default: _as_full(0),
    aten.ones_like.default: _as_full(1),
    aten.new_zeros.default: _as_full(0),
    aten.new_ones.default: _as_full(1),
    aten.fill.Scalar: _as_full(None),
    aten.fill.Tensor: _as_spread,
    aten.full_like.default: _as_full(None),
    aten.new_full.default: _as_full(None),
}


def name_shapes(graph: fx.Graph) -> None:
    """Rewrite the graph's calls in place."""
    for node in graph.nodes:
        rewrite = _REWRITES.get(node.target)
        if rewrite is not None and isinstance(node.meta["val"], torch.Tensor):
            node.target, node.args, node.kwargs = rewrite(node, node.meta["val"])
