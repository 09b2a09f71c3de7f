"""ATen ops that need their inputs whole: what is left when no receptive window describes a call."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from nptp_opt.network.aten_pixelwise import encode_operands
from nptp_opt.network.calls import RULES, Call, NotLocalError, Result
from nptp_opt.network.casts import (
    CASTS,
    MOVES,
    as_operand,
    check_operands,
    numbers,
    result_type,
)
from nptp_opt.network.graph import Const, Graph, Value
from nptp_opt.network.ops import ELEMENTWISE, SEVERAL, WHOLE, flop_per_element, words

MANY = {"chunk", "split", "split_with_sizes", "tensor_split", "unbind"}
ON_MAPS = words(
    """
    adaptive_avg_pool2d adaptive_max_pool2d avg_pool2d batch_norm conv2d conv_transpose2d group_norm
    instance_norm max_pool2d max_pool2d_with_indices pixel_shuffle pixel_unshuffle
    upsample_bicubic2d upsample_bilinear2d upsample_nearest2d
    """
)
"""Ops on maps: what lies otherwise is brought into (N, C, H, W) first, on one device."""

PRODUCTS = {
    "linear",
    "matmul",
    "mm",
    "mv",
    "bmm",
    "addmm",
    "baddbmm",
    "scaled_dot_product_attention",
}
RECURRENT = {"gru", "lstm", "rnn_relu", "rnn_tanh"}
RESHAPES = {"flatten", "unflatten", "reshape", "squeeze", "unsqueeze"}
SAME_AS = {
    "__and__": "bitwise_and",
    "__or__": "bitwise_or",
    "__xor__": "bitwise_xor",
    "_unsafe_index": "index",
    "_unsafe_index_put": "index_put",
    "_unsafe_view": "reshape",
    "absolute": "abs",
    "clip": "clamp",
    "concat": "cat",
    "concatenate": "cat",
    "divide": "div",
    "expand_copy": "expand",
    "greater": "gt",
    "greater_equal": "ge",
    "less": "lt",
    "less_equal": "le",
    "moveaxis": "movedim",
    "multiply": "mul",
    "negative": "neg",
    "not_equal": "ne",
    "permute_copy": "permute",
    "select_copy": "select",
    "slice_copy": "slice",
    "squeeze_copy": "squeeze",
    "subtract": "sub",
    "swapdims": "transpose",
    "transpose_copy": "transpose",
    "true_divide": "div",
    "unfold_copy": "unfold",
    "unsqueeze_copy": "unsqueeze",
    "view": "reshape",
    "view_copy": "reshape",
}
"""Ops by other names. How a tensor lies in memory is no part of a plan: a view is a reshape."""


def is_known(op: str) -> bool:
    """True for names of ATen ops that ``handle`` has a rule for, or runs whole."""
    plain = op if op.startswith("__") else op.rstrip("_")
    plain = SAME_AS.get(plain, plain)
    return plain in RULES or plain in WHOLE | ELEMENTWISE | MANY


def handle(call: Call) -> Result:
    """Turn a call into nodes: pixel by pixel or by window if it can be, whole if it must.

    Raises UnsupportedError with the node's and the op's name when it can be neither.
    """
    _check_result(call)
    call = replace(call, op=SAME_AS.get(call.op, call.op))
    check_operands(call)
    try:
        return _by_rule(call)
    except NotLocalError as error:
        why = str(error)
    if call.op in ON_MAPS:
        with suppress(NotLocalError):
            return _by_rule(_relaid(call))
    return _as_whole(call, why)


def _as_whole(call: Call, why: str) -> Result:
    """The nodes of a call that is computed on one device; raises for ``why`` where none may be."""
    if call.op in MANY:
        return _pieces(call)
    if call.op in SEVERAL and call.shapes:
        return [_output(call, 0), *_others(call)]
    if call.op not in WHOLE | ELEMENTWISE or call.shapes:
        raise call.unsupported(why)
    whole = _whole(call)
    if call.op in RESHAPES:
        _note_flattened(call, whole)
    return whole


def _relaid(call: Call) -> Call:
    """The call with its map gathered and brought into (N, C, H, W), which it is a map in again.

    Raises NotLocalError where the map lies so already, or is none.
    """
    role = "input" if "input" in call.args else "self"
    value = call.argument()
    if not isinstance(value, Value) or value.layout is None or value.layout.is_standard:
        raise NotLocalError("its dimensions are those of a map already")
    gathered = Value(actual(call.graph, value), value.shape, None, value.dtype)
    return replace(call, args={**call.args, role: gathered})


def _check_result(call: Call) -> None:
    """Raise UnsupportedError for results without elements, or of sizes that depend on data."""
    if call.overload == "dtype" and call.op in ("view", "view_copy"):
        raise call.unsupported("it reads the bits of one type as another")
    several = call.shapes if call.op in MANY | SEVERAL else ()
    sizes = [size for shape in (call.shape, *several) for size in shape]
    if not all(isinstance(size, int) for size in sizes):
        raise call.unsupported("the sizes of what it makes depend on data")
    if 0 in sizes:
        raise call.unsupported("what it makes has no elements")


def _by_rule(call: Call) -> Result:
    """The nodes that the op's rule makes; rules are for floating-point maps, if not for any.

    Results that the rule does not make are computed whole.
    """
    rule = numbers(call)
    if rule and call.op not in ELEMENTWISE | MOVES | CASTS:
        role, dtype = rule[0]
        raise NotLocalError(f"its {role} is a tensor of {dtype}".replace("torch.", ""))
    if call.op not in RULES:
        raise NotLocalError("it is not known")
    made = RULES[call.op].apply(call)
    return [made, *_others(call)] if call.shapes and isinstance(made, Value) else made


def _others(call: Call) -> list[Value]:
    """All results but the first of an op that has several: each is computed on its own."""
    known = call.op in SEVERAL
    return [_output(call, i) for i in range(1, len(call.shapes))] if known else []


def _output(call: Call, place: int) -> Value:
    name = f"{call.name}.{place}" if place else call.name
    shape, dtype = call.shapes[place], call.dtypes[place]
    return _whole(replace(call, name=name, shape=shape, shapes=(), dtype=dtype), place)


def _note_flattened(call: Call, made: Value) -> None:
    """Remember which map's elements a reshaped tensor has: a linear layer reads that map itself."""
    given = call.argument()
    if isinstance(given, Value):
        source = call.graph.flattened.get(given.tensor, given)
        if source.layout is not None:
            call.graph.flattened[made.tensor] = source


def _whole(call: Call, output: int | None = None) -> Value:
    tensors: list[str] = []
    consts: dict[str, Const] = {}

    def operand(given: Any) -> Any:
        if isinstance(given, list):
            return [operand(each) for each in given]
        if isinstance(given, Value):
            tensors.append(actual(call.graph, given))
            return as_operand(given, len(tensors) - 1)
        if isinstance(given, Const):
            role = {0: "weight", 1: "bias"}.get(len(consts), f"c{len(consts)}")
            consts[role] = given
            return {"param": role}
        return given

    args, kwargs = encode_operands(call, operand)
    attrs: dict[str, Any] = {"overload": call.overload, "args": args, "kwargs": kwargs}
    if output is not None:
        attrs["output"] = output
    shapes = [call.graph.shapes[t] for t in tensors] + [const.shape for const in consts.values()]
    flop = _flop(call.op, shapes, call.shape)
    name = call.graph.add(
        call.name, call.op, tensors, call.shape, attrs=attrs, params=consts, flop=flop
    )
    return Value(name, call.shape, None, result_type(call, shapes))


def _flop(op: str, shapes: Sequence[Sequence[int]], out: Sequence[int]) -> float:
    """2 x length of the inner product per output element; attention has two products."""
    if op.startswith("conv"):
        per_pixel = shapes[0] if op.startswith("conv_transpose") else out
        return 2.0 * math.prod(per_pixel) * math.prod(shapes[1][1:])
    if op in RECURRENT:
        steps = math.prod(shapes[0][:2])
        return 2.0 * steps * sum(math.prod(shape) for shape in shapes if len(shape) == 2)
    if op not in PRODUCTS:
        return flop_per_element(op) * math.prod(out)
    if op == "scaled_dot_product_attention":
        return 4.0 * math.prod(shapes[0]) * shapes[1][-2]
    inner = shapes[0][-1] if op in ("linear", "matmul", "mm", "mv", "bmm") else shapes[-1][-2]
    return 2.0 * math.prod(out) * inner


def _pieces(call: Call) -> list[Value]:
    """Consecutive slices of a whole tensor."""
    dim, at, pieces = int(call.args.get("dim", 0)), 0, []
    source = call.args["self"]
    for i, shape in enumerate(call.shapes):
        size = 1 if call.op == "unbind" else shape[dim]
        args = {"self": source, "dim": dim, "start": at, "end": at + size, "step": 1}
        piece = replace(call, op="slice", overload="Tensor", name=f"{call.name}.{i}", args=args)
        if call.op == "unbind":
            args = {"self": source, "dim": dim, "index": at}
            piece = replace(piece, op="select", overload="int", args=args)
        pieces.append(_whole(replace(piece, shape=shape, shapes=())))
        at += size
    return pieces


def actual(graph: Graph, value: Value) -> str:
    """Name of a tensor that has the model's own shape, made from the canonical one if need be."""
    layout = value.layout
    if layout is None or (layout.is_standard and len(layout.factors) == 1):
        return value.tensor
    wanted = f"{value.tensor}.whole"
    name = graph.add(wanted, "relayout", [value.tensor], value.shape, attrs=value.ordering())
    graph.relaid[name] = value
    return name
