"""Maps that travel in fewer bytes than float32 has, without loss: quantised ones, whose elements
are (q - zero) * scale for small whole q, and those of models that compute in a shorter type.

Found from the nodes alone, so that a plan can price what travels without any weights: rounding
makes whole numbers, a bound makes them few, a difference and a product with one number each make
the values that they stand for, a cast makes numbers of its type, and ops that only move elements
keep them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from nptp_opt.network.ir import Network, Node

LEVELS = 256
"""As many values as a byte has."""

MOVES = frozenset(
    "max_pool2d slice pixel_shuffle pixel_unshuffle channel_permute channel_slice relayout "
    "flatten reshape permute transpose squeeze unsqueeze unflatten".split()
)
"""Ops whose outputs are elements of their input."""

JOINS = frozenset({"concat", "channel_concat"})
"""Ops whose output's elements are those of all their inputs."""

CASTS = {"int8": (-128.0, 127.0), "uint8": (0.0, 255.0)}


@dataclass(frozen=True)
class Grid:
    """Elements (q - zero) * scale with whole q in [low, high].

    ``zero`` and ``scale`` are state keys of weights with one element; None stands for 0 and 1.
    """

    bytes: ClassVar[int] = 1

    low: float = -math.inf
    high: float = math.inf
    zero: str | None = None
    scale: str | None = None

    @property
    def fits(self) -> bool:
        """Does a byte hold q?"""
        return self.high - self.low < LEVELS

    @property
    def is_whole(self) -> bool:
        """Are the elements the whole numbers themselves?"""
        return self.zero is None and self.scale is None

    @property
    def keys(self) -> frozenset[str]:
        """State keys that encoding and decoding read."""
        return frozenset(key for key in (self.zero, self.scale) if key is not None)


@dataclass(frozen=True)
class Half:
    """Elements that are numbers of a shorter floating-point type."""

    bytes: ClassVar[int] = 2

    dtype: Literal["float16", "bfloat16"]
    fits: ClassVar[bool] = True
    keys: ClassVar[frozenset[str]] = frozenset()


Exact = Grid | Half
"""What is known of a map's elements."""


def exact_maps(network: Network) -> dict[str, Exact]:
    """What is known of every feature map that travels in fewer bytes without loss."""
    maps = {layer.name for layer in network.layers if layer.kind == "spatial"}
    known = known_elements(network)
    return {name: each for name, each in known.items() if name in maps and each.fits}


def known_elements(network: Network) -> dict[str, Exact]:
    """What is known of the elements of every tensor, those within layers included."""
    found: dict[str, Exact] = {}
    for layer in network.layers:
        for node in layer.nodes:
            made = _after(node, found, network.params)
            if made is not None:
                found[node.name] = made
    return found


def _after(node: Node, found: Mapping[str, Exact], params: Mapping[str, Any]) -> Exact | None:
    """What is known of what a node makes; None where that is nothing."""
    if node.op == "round" and node.attrs.get("kwargs", {}) in ({}, {"decimals": 0}):
        return Grid()
    if node.op == "cast" and node.attrs["dtype"] in CASTS:
        return Grid(*CASTS[node.attrs["dtype"]])
    if node.op == "cast" and node.attrs["dtype"] in ("float16", "bfloat16"):
        return Half(node.attrs["dtype"])
    before = {found.get(tensor) for tensor in node.inputs}
    (only,) = before if len(before) == 1 else (None,)
    if only is None or (len(node.inputs) > 1 and node.op not in JOINS):
        return None
    if node.op in MOVES | JOINS:
        return only
    if isinstance(only, Half):
        return only if node.op == "relu" else None
    rule = _RULES.get(node.op)
    return None if rule is None else rule(node, only, params)


def _clamp(node: Node, before: Grid, params: Mapping[str, Any]) -> Grid | None:
    low, high = (*node.attrs["args"][1:], None, None)[:2]
    bounds = [bound for bound in (low, high) if isinstance(bound, (int, float))]
    whole = before.is_whole and all(float(bound).is_integer() for bound in bounds)
    if not whole or len(bounds) != 2:
        return None
    return Grid(max(before.low, float(low)), min(before.high, float(high)))


def _add(node: Node, before: Grid, params: Mapping[str, Any]) -> Grid | None:
    """The zero point, before the numbers are bounded; that it is whole is checked with weights."""
    key = _number(node, params)
    return before if key is not None and before.is_whole and math.isinf(before.high) else None


def _sub(node: Node, before: Grid, params: Mapping[str, Any]) -> Grid | None:
    key = _number(node, params)
    return replace(before, zero=key) if key is not None and before.is_whole else None


def _mul(node: Node, before: Grid, params: Mapping[str, Any]) -> Grid | None:
    key = _number(node, params)
    return replace(before, scale=key) if key is not None and before.scale is None else None


def _relu(node: Node, before: Grid, params: Mapping[str, Any]) -> Grid | None:
    return before if before.is_whole and before.low <= 0.0 <= before.high else None


_RULES: dict[str, Callable[[Node, Grid, Mapping[str, Any]], Grid | None]] = {
    "clamp": _clamp,
    "add": _add,
    "sub": _sub,
    "mul": _mul,
    "relu": _relu,
}


def _number(node: Node, params: Mapping[str, Any]) -> str | None:
    """State key of the one number that is the second argument."""
    args, alpha = node.attrs["args"], node.attrs["kwargs"].get("alpha", 1)
    if len(args) != 2 or args[0] != {"in": 0} or alpha != 1 or not isinstance(args[1], Mapping):
        return None
    key = node.params.get(args[1].get("param", ""))
    return key if key is not None and math.prod(params[key]) == 1 else None
