"""ATen ops that need their inputs whole: what is left when no receptive window describes a call."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from nptp_opt.network.aten_pixelwise import encoded
from nptp_opt.network.calls import RULES, Call, NotLocalError, Result
from nptp_opt.network.casts import check_operands
from nptp_opt.network.graph import Const, Graph, Value
from nptp_opt.network.ops import ELEMENTWISE, WHOLE, flop_per_element

MANY = {"chunk", "split", "split_with_sizes", "tensor_split", "unbind"}
PRODUCTS = {"linear", "matmul", "mm", "bmm", "addmm", "scaled_dot_product_attention"}
RESHAPES = {"flatten", "unflatten", "reshape", "squeeze", "unsqueeze", "view"}
SAME_AS = {"_unsafe_view": "reshape", "view": "reshape", "concat": "cat", "concatenate": "cat"}
"""A view is a reshape here: how a tensor lies in memory is no part of a plan."""


def handle(call: Call) -> Result:
    """Turn a call into nodes: pixel by pixel or by window if it can be, whole if it must.

    Raises UnsupportedError with the node's and the op's name when it can be neither.
    """
    check_operands(call)
    why = "it is not known"
    if call.op in RULES:
        try:
            return RULES[call.op].apply(call)
        except NotLocalError as error:
            why = str(error)
    if call.op in MANY:
        return _pieces(call)
    op = SAME_AS.get(call.op, call.op)
    if op not in WHOLE | ELEMENTWISE or call.shapes:
        raise call.unsupported(why)
    made = _whole(replace(call, op=op))
    if op in RESHAPES:
        _note_flattened(call, made)
    return made


def _note_flattened(call: Call, made: Value) -> None:
    """Remember which map's elements a reshaped tensor has: a linear layer reads that map itself."""
    given = call.given()
    if isinstance(given, Value):
        source = call.graph.flattened.get(given.tensor, given)
        if source.layout is not None:
            call.graph.flattened[made.tensor] = source


def _whole(call: Call) -> Value:
    tensors: list[str] = []
    consts: dict[str, Const] = {}

    def operand(given: Any) -> Any:
        if isinstance(given, list):
            return [operand(each) for each in given]
        if isinstance(given, Value):
            tensors.append(actual(call.graph, given))
            return {"in": len(tensors) - 1}
        if isinstance(given, Const):
            role = {0: "weight", 1: "bias"}.get(len(consts), f"c{len(consts)}")
            consts[role] = given
            return {"param": role}
        return given

    args, kwargs = encoded(call, operand)
    attrs = {"overload": call.overload, "args": args, "kwargs": kwargs}
    shapes = [call.graph.shapes[t] for t in tensors] + [const.shape for const in consts.values()]
    flop = _flop(call.op, shapes, call.shape)
    name = call.graph.add(
        call.name, call.op, tensors, call.shape, attrs=attrs, params=consts, flop=flop
    )
    return Value(name, call.shape, None)


def _flop(op: str, shapes: Sequence[Sequence[int]], out: Sequence[int]) -> float:
    """2 x length of the inner product per output element; attention has two products."""
    if op not in PRODUCTS:
        return flop_per_element(op) * math.prod(out)
    if op == "scaled_dot_product_attention":
        return 4.0 * math.prod(shapes[0]) * shapes[1][-2]
    inner = shapes[0][-1] if op in ("linear", "matmul", "mm", "bmm") else shapes[-1][-2]
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
