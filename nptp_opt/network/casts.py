"""Number types: what a model computes in others than the network's own.

The network carries every tensor in one floating-point type. Where the model rounds to a shorter
one (float16, bfloat16) or to whole numbers, so does a ``cast`` node; whole numbers are carried as
floating-point ones, so nothing but data movement and a cast back may read them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from nptp_opt.errors import UnsupportedError
from nptp_opt.network.calls import Call, Result, handles
from nptp_opt.network.graph import Value
from nptp_opt.network.ops import words

CASTS = words("_to_copy to type_as")

MOVES = words(
    """
    alias cat chunk clone concat contiguous detach expand flatten flip getitem lift_fresh
    lift_fresh_copy narrow permute pixel_shuffle pixel_unshuffle reshape roll select slice split
    split_with_sizes squeeze stack t transpose unflatten unsqueeze unsafe_view _unsafe_view view
    """
)
"""Ops that hand values on unchanged, in whatever type they are."""

WHOLE_NUMBERS = (torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64)
SHORT = (torch.float16, torch.bfloat16)


def check_operands(call: Call) -> None:
    """Raise UnsupportedError for arithmetic on tensors that are no floating-point maps."""
    if call.op == "view" and call.overload == "dtype":
        raise call.unsupported("it reads the bits of one type as another")
    if call.op in CASTS or call.op in MOVES:
        return
    for role, given in call.args.items():
        for value in given if isinstance(given, list) else [given]:
            dtype = value.dtype if isinstance(value, Value) else None
            if dtype is not None and not dtype.is_floating_point:
                raise call.unsupported(
                    f"its {role} is a tensor of {_word(dtype)}; only floating-point ones are "
                    "computed with"
                )


@handles(*CASTS, reads="self input other")
def cast(call: Call) -> Result:
    """The value itself; ``cast_as_recorded`` adds the rounding that the result's type asks for."""
    value = call.given()
    if not isinstance(value, Value):
        raise call.unsupported("what it casts is no tensor of the network")
    return value


def cast_as_recorded(call: Call, result: Value) -> Value:
    """The result in the type that the model has there, rounded if that type is shorter.

    Raises UnsupportedError for a type that the network cannot carry.
    """
    before, after = result.dtype, call.dtype
    if after is None or after == before or call.op in MOVES or _holds(before, after):
        return replace(result, dtype=after)
    if after in SHORT or (after in WHOLE_NUMBERS and call.op in CASTS):
        return replace(_rounded(call, result, after), dtype=after)
    if after in (torch.float32, torch.int64):
        return replace(result, dtype=after)
    raise _unknown(call, after)


def _holds(before: torch.dtype | None, after: torch.dtype) -> bool:
    """True where nothing is lost: to float32 from anything shorter, or from whole numbers."""
    return after == torch.float32 and before is not None


def _rounded(call: Call, value: Value, dtype: torch.dtype) -> Value:
    attrs: dict[str, Any] = {"dtype": _word(dtype)}
    name = f"{call.name}.{_word(dtype)}" if call.op not in CASTS else call.name
    made = replace(call, name=name, shape=value.shape)
    if value.layout is not None:
        return made.emit("cast", [value.tensor], value.layout, attrs=attrs)
    tensor = call.graph.add(name, "cast", [value.tensor], value.shape, attrs=attrs)
    return Value(tensor, value.shape, None)


def _unknown(call: Call, dtype: torch.dtype) -> UnsupportedError:
    return call.unsupported(f"it makes {_word(dtype)}, which no feature map is carried in")


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
