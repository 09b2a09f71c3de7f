"""Number types: what a model computes in others than the network's own.

The network carries every tensor in one floating-point type. Where the model rounds to a shorter
one (float16, bfloat16) or to whole numbers, so does a ``cast`` node. Truth values and whole numbers
are carried as floating-point ones, exactly, as long as they are at most 2**24. A node that calls
torch's own op gets them back in the model's type (``{"in": 0, "dtype": "bool"}``); so they may be
compared, selected with and counted, but no whole numbers are made from whole numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch

from nptp_opt.errors import UnsupportedError
from nptp_opt.network.calls import RULES, Call, Result, handles
from nptp_opt.network.graph import Const, Value
from nptp_opt.network.ops import ELEMENTWISE, SELECTS, WHOLE, words

CASTS = words("_to_copy to type_as")

MOVES = words(
    """
    alias cat chunk clone concat contiguous detach expand flatten flip getitem lift_fresh
    lift_fresh_copy narrow permute pixel_shuffle pixel_unshuffle reshape roll select slice split
    split_with_sizes squeeze stack t transpose unbind unflatten unsqueeze unsafe_view _unsafe_view
    view
    """
)
"""Ops that hand values on unchanged, in whatever type they are."""

WHOLE_NUMBERS = (torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64)
SHORT = (torch.float16, torch.bfloat16)

NATIVE = ELEMENTWISE | WHOLE
"""Ops that are torch's own also in a plan."""

POINTERS = words("condition dim index indices mask")
"""Arguments that say where, and do not come up in the result."""

EXACT = 2**24
"""Whole numbers up to this one are float32 numbers."""


def check_operands(call: Call) -> None:
    """Raise UnsupportedError for calls that depend on a type which the network cannot carry."""
    if call.dtype in WHOLE_NUMBERS:
        _check_constants(call)
    if call.op in CASTS or call.op in MOVES:
        return
    asked = call.args.get("dtype")
    if isinstance(asked, torch.dtype) and not asked.is_floating_point:
        raise call.unsupported(f"it computes in {_word(asked)}, which no feature map is carried in")
    for role, dtype in numbers(call):
        if call.op not in NATIVE and call.op in RULES:
            raise call.unsupported(
                f"its {role} is a tensor of {_word(dtype)}; only floating-point ones are computed "
                "with"
            )
        if dtype != torch.bool and call.dtype in WHOLE_NUMBERS and call.op not in SELECTS:
            raise call.unsupported(
                f"it makes whole numbers from its {role}, a tensor of {_word(dtype)}; they could "
                "be larger than is carried exactly"
            )


def _check_constants(call: Call) -> None:
    """Raise UnsupportedError where whole numbers come from a constant, which may be large."""
    for role, given in call.args.items():
        for value in given if isinstance(given, list) else [given]:
            large = (
                call.op in ELEMENTWISE and isinstance(value, (int, float)) and abs(value) > EXACT
            )
            if large or (isinstance(value, Const) and role not in POINTERS):
                raise call.unsupported(
                    f"its {role} is a constant of whole numbers, which could be larger than is "
                    "carried exactly"
                )


def numbers(call: Call) -> list[tuple[str, torch.dtype]]:
    """Arguments that are computed and no floating-point tensors: their roles and types."""
    return [
        (role, value.dtype)
        for role, given in call.args.items()
        for value in (given if isinstance(given, list) else [given])
        if isinstance(value, Value) and value.dtype and not value.dtype.is_floating_point
    ]


def as_operand(value: Value, place: int) -> dict[str, Any]:
    """How a node that calls torch's own op names its operand, in the type that the op expects."""
    if value.dtype is None or value.dtype.is_floating_point:
        return {"in": place}
    return {"in": place, "dtype": _word(value.dtype)}


def result_type(call: Call, sources: Iterable[Sequence[int]]) -> torch.dtype | None:
    """The type of what torch's own op makes, where it is carried in another; else None.

    Raises UnsupportedError where whole numbers could be too large: an index, say, into ``sources``.
    """
    dtype = call.dtype
    if dtype is None or dtype.is_floating_point:
        return None
    if dtype != torch.bool and dtype not in WHOLE_NUMBERS:
        raise _unknown_type_error(call, dtype)
    if (
        dtype != torch.bool
        and call.op not in MOVES
        and max(map(math.prod, sources), default=0) > EXACT
    ):
        raise call.unsupported(
            f"it makes whole numbers above {EXACT}, which are not carried exactly"
        )
    return dtype


@handles(*CASTS, reads="self input other")
def cast(call: Call) -> Result:
    """The value itself; ``cast_as_recorded`` adds the rounding that the result's type asks for."""
    value = call.argument()
    if not isinstance(value, Value):
        raise call.unsupported("what it casts is no tensor of the network")
    return value


def cast_as_recorded(call: Call, result: Value) -> Value:
    """The result in the type that the model has there, rounded if that type is shorter.

    Raises UnsupportedError for a type that the network cannot carry.
    """
    before, after = result.dtype, call.dtype
    if after is None or after in (before, torch.float32) or call.op in MOVES:
        return replace(result, dtype=after)
    if after in SHORT or (call.op in CASTS and after in (*WHOLE_NUMBERS, torch.bool)):
        return replace(_round(call, result, after), dtype=after)
    raise _unknown_type_error(call, after)


def _round(call: Call, value: Value, dtype: torch.dtype) -> Value:
    attrs: dict[str, Any] = {"dtype": _word(dtype)}
    name = f"{call.name}.{_word(dtype)}" if call.op not in CASTS else call.name
    made = replace(call, name=name, shape=value.shape)
    if value.layout is not None:
        return made.emit("cast", [value.tensor], value.layout, attrs=attrs)
    tensor = call.graph.add(name, "cast", [value.tensor], value.shape, attrs=attrs)
    return Value(tensor, value.shape, None)


def _unknown_type_error(call: Call, dtype: torch.dtype) -> UnsupportedError:
    return call.unsupported(f"it makes {_word(dtype)}, which no feature map is carried in")


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
