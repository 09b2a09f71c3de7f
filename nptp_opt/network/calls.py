"""One ATen call as the importer sees it, and the registry of what handles each op."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch

from nptp_opt.errors import UnsupportedError
from nptp_opt.network.graph import Const, Graph, Shape, Value
from nptp_opt.network.layout import Layout, standard
from nptp_opt.network.ops import words

Result = Value | list[Value]


class NotLocalError(Exception):
    """No receptive window describes the call, for the reason given: it needs whole maps."""


@dataclass(frozen=True)
class Call:
    """``args`` are by schema name, in order; ``shape`` is the result's, ``shapes`` of a list's.

    ``defaults`` are the schema's, by name; ``dtype`` is the result's, or the first's of a list,
    whose others are in ``dtypes``.
    """

    graph: Graph
    name: str
    op: str
    overload: str
    args: Mapping[str, Any]
    keyword_only: frozenset[str]
    shape: Shape
    shapes: tuple[Shape, ...] = ()
    becomes_map: bool = False
    """True when something of more than two dimensions is made from the result, sooner or later."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    dtype: torch.dtype | None = None
    dtypes: tuple[torch.dtype, ...] = ()

    def argument(self, role: str = "input") -> Any:
        """The argument; torch calls the first one ``input`` or ``self``."""
        return self.args[role] if role in self.args else self.args["self"]

    def feature(self, role: str = "input") -> Value:
        """The argument as a feature map; one that is gathered already is taken as it lies."""
        value = self.argument(role)
        if not isinstance(value, Value):
            raise NotLocalError(f"its {role} is no tensor of the network")
        if value.layout is None and len(value.shape) == 4:
            return replace(value, layout=standard(value.shape[1]))
        if value.layout is None:
            raise NotLocalError(f"its {role} is a gathered tensor, not a feature map")
        return value

    def maps_channels_first(self, role: str = "input") -> Value:
        """A feature map whose dimensions are sample, all channels, then rows and columns."""
        value = self.feature(role)
        layout = layout_of(value)
        if layout.axes[:2] != ("n", 0) or not set(layout.axes[2:]) <= {"h", "w"}:
            raise NotLocalError(
                f"its {role}'s dimensions are not sample, channels, then rows and columns"
            )
        return value

    def weight(self, role: str) -> Const | None:
        """A weight that is known when the model is loaded; None when the call has none."""
        value = self.args.get(role)
        if value is None or isinstance(value, Const):
            return value
        if isinstance(value, Value):
            raise NotLocalError(f"its {role} is computed from the input")
        raise self.unsupported(f"its {role} is {value!r}, no tensor")

    def unsupported(self, why: str) -> UnsupportedError:
        return UnsupportedError(f"node {self.name!r}: op {self.op} is not supported: {why}")

    def emit(self, op: str, inputs: Sequence[str], layout: Layout, **parts: Any) -> Value:
        """Append a node that makes this call's result; pixelwise maps unless ``maps`` is given."""
        shape = layout.canonical(self.shape)
        if "maps" not in parts:
            parts["maps"] = self.graph.pixelwise_maps(inputs, shape)
        return Value(self.graph.add(self.name, op, inputs, shape, **parts), self.shape, layout)


def layout_of(value: Value) -> Layout:
    """The layout of a feature map."""
    assert value.layout is not None
    return value.layout


Handler = Callable[[Call], Result]
H = TypeVar("H", bound=Handler)

ALL = "*"
"""What a rule reads that hands every argument on."""

IGNORED = words(
    """
    copy cudnn_enabled cudnn_enable device dtype generator implicit layout memory_format momentum
    non_blocking pin_memory
    """
)
"""Arguments that change no value at inference; ``dtype`` is read off the result instead."""


@dataclass(frozen=True)
class Rule:
    """How calls of an op become nodes, and the names of the arguments that the rule reads."""

    handler: Handler
    reads: frozenset[str]

    def apply(self, call: Call) -> Result:
        """The call's nodes, made from what the rule reads and nothing else.

        Raises NotLocalError where any other argument has not its default value.
        """
        if ALL in self.reads:
            return self.handler(call)
        for role, value in call.args.items():
            if role in self.reads or role in IGNORED:
                continue
            if role not in call.defaults or value != call.defaults[role]:
                raise NotLocalError(f"{role} = {value!r} is not read")
        args = {role: value for role, value in call.args.items() if role in self.reads}
        return self.handler(replace(call, args=args))


RULES: dict[str, Rule] = {}


def handles(*ops: str, reads: str) -> Callable[[H], H]:
    """Register what turns calls of these ATen ops into nodes; raises KeyError on a duplicate.

    ``reads`` names every argument that the handler reads, or is ``*``.
    """

    def register(handler: H) -> H:
        for op in ops:
            if op in RULES:
                raise KeyError(f"two handlers for {op}")
            RULES[op] = Rule(handler, words(reads))
        return handler

    return register


def dim_of(value: Value, dim: int) -> int:
    """A dimension counted from the front."""
    return dim % len(value.shape)


def axis_of(value: Value, dim: int) -> str | int:
    """What the dimension ``dim`` of a feature map is: its letter, or its channel factor."""
    return layout_of(value).axes[dim_of(value, dim)]


def pair(value: int | Sequence[int], default: Sequence[int], rank: int) -> list[int]:
    """An ATen size argument as ``rank`` numbers: one stands for all, none for the default."""
    if isinstance(value, int):
        return [value] * rank
    if len(value) == 0:
        return list(default)
    return [int(value[0])] * rank if len(value) == 1 else [int(v) for v in value]
