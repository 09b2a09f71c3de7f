"""What the importer knows of each ONNX operator, and the one place that refuses the rest.

A rule states what it reads. A node that says more than its rule reads is refused by name: an
attribute that has not its default value, an input or output beyond those of the rule, a definition
that is newer than the rule.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
import torch

from nptp_opt.errors import UnsupportedError
from nptp_opt.geometry import MOST_POSITION

REVIEWED = 28
"""The newest opset of the onnx package with whose definitions the rules were compared."""

LEGACY_IDLE = frozenset({"consumed_inputs"})
"""Attributes that tell old engines about memory, whatever the operator."""

MOST_ELEMENTS = 2**31
"""Of one tensor."""

OnnxOp = Callable[..., Any]


@dataclass(frozen=True)
class Rule:
    """One operator in torch functions, and what of a node it takes into account.

    ``run`` gets the node's ``Attrs`` and its inputs: those at ``static`` positions, which must be
    known when the file is read, as numpy arrays, those at ``either`` positions too where they are
    known, everything else as tensors, absent ones as None.
    ``idle`` attributes change no output that the rule makes. Of ``takes`` and ``makes`` None is
    any number.
    """

    run: OnnxOp
    reads: frozenset[str]
    idle: frozenset[str]
    takes: int | None
    makes: int | None
    static: frozenset[int]
    either: frozenset[int]
    newest: int


RULES: dict[str, Rule] = {}

CONTRIB = "com.microsoft"
"""The domain of ONNX Runtime's own operators."""

CONTRIBUTED: dict[str, Mapping[str, Any]] = {}
"""Those that have rules, with the defaults of their attributes; their names are in no other
domain."""


def op(
    *names: str,
    reads: str = "",
    idle: str = "",
    takes: int | None = 1,
    makes: int | None = 1,
    static: Collection[int] = (),
    either: Collection[int] = (),
    newest: int = REVIEWED,
) -> Callable[[OnnxOp], OnnxOp]:
    """Register a rule for these operators; raises KeyError on a duplicate."""

    def register(function: OnnxOp) -> OnnxOp:
        for name in names:
            if name in RULES:
                raise KeyError(f"two rules for {name}")
            words = frozenset(reads.split()), frozenset(idle.split())
            places = frozenset(static), frozenset(either)
            RULES[name] = Rule(function, *words, takes, makes, *places, newest)
        return function

    return register


def contrib_op(
    name: str, defaults: Mapping[str, Any] = MappingProxyType({}), **what: Any
) -> Callable[[OnnxOp], OnnxOp]:
    """As ``op``, for an operator of ONNX Runtime's own, of which no schema is known here.

    ``defaults`` are those of its attributes that are not None.
    """
    CONTRIBUTED[name] = defaults
    return op(name, **what)


def has_rule(node: onnx.NodeProto) -> bool:
    """Is there a rule for the node's operator, in its domain?"""
    own = node.op_type in CONTRIBUTED
    return node.op_type in RULES and node.domain in ((CONTRIB,) if own else ("", "ai.onnx"))


def _schema(node: onnx.NodeProto, opset: int) -> Any:
    """The definition of ONNX's; None for an operator of ONNX Runtime's own."""
    own = node.op_type in CONTRIBUTED
    return None if own else onnx.defs.get_schema(node.op_type, opset)


def refuse(why: str) -> UnsupportedError:
    """The error of a rule; the caller adds node and operator before ``why``."""
    return UnsupportedError(why)


def check_result(shape: Sequence[Any]) -> None:
    """Refuse a result that no plan could hold, before it is made: a few bytes may ask for it."""
    known = [size for size in shape if isinstance(size, int)]
    if max(known, default=0) > MOST_POSITION or math.prod(known) > MOST_ELEMENTS:
        raise refuse(f"a result of {'x'.join(map(str, shape))} elements, which is too large")


class Attrs:
    """The attributes of a node that its rule reads, by name.

    An absent one has its default, or None. Text is str. Raises KeyError for what the rule did not
    declare.
    """

    def __init__(self, node: onnx.NodeProto, opset: int) -> None:
        schema = _schema(node, opset)
        self.op_type, self.outputs = str(node.op_type), len(node.output)
        self.version = 1 if schema is None else int(schema.since_version)
        given = {each.name: _value(each) for each in node.attribute}
        reads = RULES[node.op_type].reads
        self._values = {name: given.get(name, _default(node, schema, name)) for name in reads}

    def __getitem__(self, name: str) -> Any:
        return self._values[name]


def _value(attribute: onnx.AttributeProto) -> Any:
    value = onnx.helper.get_attribute_value(attribute)
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _default(node: onnx.NodeProto, schema: Any, name: str) -> Any:
    if schema is None:
        return CONTRIBUTED[node.op_type].get(name)
    default = schema.attributes.get(name)
    return (
        None if default is None or not default.default_value.name else _value(default.default_value)
    )


def check_node(node: onnx.NodeProto, opset: int, used: Collection[str]) -> None:
    """Raise UnsupportedError for anything that the node states and its rule does not read.

    ``used`` are the names that some node reads or the graph returns.
    """
    for why in unread(node, RULES[node.op_type], opset, used):
        raise UnsupportedError(
            f"node {name_of(node)!r}: op {node.op_type} is not supported with {why}"
        )


def unread(node: onnx.NodeProto, rule: Rule, opset: int, used: Collection[str]) -> Iterator[str]:
    """What a node states beyond its rule."""
    schema = _schema(node, opset)
    if schema is not None and schema.since_version > rule.newest:
        yield (
            f"its definition of opset {schema.since_version}: that of opset {rule.newest} is the "
            "last known"
        )
    for each in node.attribute:
        silent = each.name in rule.reads | rule.idle | LEGACY_IDLE
        if not silent and _value(each) != _default(node, schema, each.name):
            yield f"{each.name}={_format(each)}, which is not read"
    formal = ((), ()) if schema is None else (schema.inputs, schema.outputs)
    yield from _beyond("input", node.input, formal[0], rule.takes, node.input)
    yield from _beyond("output", node.output, formal[1], rule.makes, used)


def _beyond(
    what: str, names: Any, formal: Any, known: int | None, used: Collection[str]
) -> Iterator[str]:
    """The inputs or outputs after those that a rule knows, where there are any in use."""
    for i, name in enumerate(names):
        if known is not None and i >= known and name and name in used:
            role = formal[min(i, len(formal) - 1)].name if formal else "unknown"
            yield f"{what} {i + 1} ({role}, here {name!r})"


def _format(attribute: onnx.AttributeProto) -> str:
    value = _value(attribute)
    simple = isinstance(value, (int, float, str, list)) and len(str(value)) < 60
    return repr(value) if simple else f"a {type(value).__name__}"


def tensor_of(array: np.ndarray[Any, Any]) -> torch.Tensor:
    """An array of the file as a tensor, one of fewer than 8 bits in 8.

    Raises UnsupportedError for a type that torch has not.
    """
    if array.dtype.name in ("int2", "int4", "uint2", "uint4"):
        array = array.astype(np.uint8 if array.dtype.name[0] == "u" else np.int8)
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    whole = array if array.flags.c_contiguous and array.flags.writeable else array.copy()
    try:
        return torch.from_numpy(whole)
    except TypeError:
        raise UnsupportedError(f"a constant of type {array.dtype} is not supported") from None


def cut(x: torch.Tensor, axis: int, start: int, stop: int) -> torch.Tensor:
    """Indices ``[start, stop)`` of one axis, as an op that every tensor has a rule for."""
    found: torch.Tensor = torch.ops.aten.slice(x, axis, start, stop)
    return found


def name_of(node: onnx.NodeProto) -> str:
    """What a node is called: its own name, or that of its first output."""
    return str(node.name or node.output[0])
