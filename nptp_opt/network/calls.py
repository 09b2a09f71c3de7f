"""One ATen call as the importer sees it, and the registry of what handles each op."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from nptp_opt.errors import UnsupportedError
from nptp_opt.network.graph import Const, Graph, Shape, Value
from nptp_opt.network.layout import Layout, standard

Result = Value | list[Value]


class NotLocalError(Exception):
    """The call mixes pixels in a way that no receptive window describes: it needs whole maps."""


@dataclass(frozen=True)
class Call:
    """``args`` are by schema name, in order; ``shape`` is the result's, ``shapes`` of a list's."""

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

    def feature(self, role: str = "input") -> Value:
        """The argument as a feature map; one that is gathered already is taken as it lies."""
        value = self.args[role] if role in self.args else self.args["self"]
        if not isinstance(value, Value):
            raise NotLocalError
        if value.layout is None and len(value.shape) == 4:
            return replace(value, layout=standard(value.shape[1]))
        if value.layout is None:
            raise NotLocalError
        return value

    def maps_channels_first(self, role: str = "input") -> Value:
        """A feature map whose dimensions are sample, all channels, then rows and columns."""
        value = self.feature(role)
        layout = layout_of(value)
        if layout.axes[:2] != ("n", 0) or not set(layout.axes[2:]) <= {"h", "w"}:
            raise NotLocalError
        return value

    def weight(self, role: str) -> Const | None:
        """A weight that is known when the model is loaded; None when the call has none."""
        found = self.args.get(role)
        if found is None or isinstance(found, Const):
            return found
        raise self.unsupported(f"its {role} is computed from the input")

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

HANDLERS: dict[str, Handler] = {}


def handles(*ops: str) -> Callable[[H], H]:
    """Register what turns calls of these ATen ops into nodes; raises KeyError on a duplicate."""

    def register(handler: H) -> H:
        for op in ops:
            if op in HANDLERS:
                raise KeyError(f"two handlers for {op}")
            HANDLERS[op] = handler
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
