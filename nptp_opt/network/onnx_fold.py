"""Values that follow from constants and shapes alone are worked out by the onnx package.

How large a result will be is found out first, from its inference of shapes: a file of a few bytes
may ask for terabytes. Nothing that draws random numbers or runs other graphs is evaluated.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection
from pathlib import Path

import numpy as np
import onnx
import onnx.shape_inference
from onnx.reference import ReferenceEvaluator

from nptp_opt.errors import InputError
from nptp_opt.network.onnx_file import Known, check_size
from nptp_opt.network.onnx_rules import name_of

DRAWN = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
     "RandomUniformLike"}
)  # fmt: skip
"""Operators whose results no plan could repeat."""

NESTED = frozenset({"If", "Loop", "Scan", "SequenceMap"})
"""Operators with graphs of their own."""

DISPUTED = frozenset(
    {"BatchNormalization", "Hardmax", "LogSoftmax", "LRN", "Resize", "Softmax", "Upsample"}
)
"""Operators that the package's evaluator computes otherwise than ONNX Runtime does, or in one
definition where opsets have several."""

BOUNDED = frozenset({"Compress", "NonMaxSuppression", "NonZero", "Unique"})
"""Operators whose results are no larger than what they are given, though of no known size."""

SHOWN = 64
"""Elements up to which values are told to the inference of shapes."""


def folds(node: onnx.NodeProto, known: Collection[str]) -> bool:
    """Whether the node can be worked out as soon as these values are known."""
    mine = node.domain in ("", "ai.onnx") and onnx.defs.has(node.op_type)
    known_inputs = all(not name or name in known for name in node.input)
    return mine and known_inputs and node.op_type not in DRAWN | NESTED | DISPUTED


def folded(node: onnx.NodeProto, known: Known, opset: int, path: Path) -> Known:
    """The node's results by name; nothing where the package has only its definition.

    Raises InputError for one that no tensor can have, or that the package cannot work out.
    """
    where = f"{path}: node {name_of(node)!r}"
    values = {name: known[name] for name in node.input if name}
    model = _alone(node, values, opset)
    _check_results(model, node, where)
    try:
        evaluator = ReferenceEvaluator(model)
    except (NotImplementedError, RuntimeError):  # a definition that it has no function for
        return {}
    try:
        with warnings.catch_warnings(action="ignore"), np.errstate(all="ignore"):
            results = evaluator.run(None, values)
    except Exception as error:  # noqa: BLE001 - the evaluator raises its own kinds
        raise InputError(f"{where}: op {node.op_type}: {error}") from None
    named = zip((each for each in node.output if each), results, strict=True)
    return {name: np.asarray(value) for name, value in named}


def _alone(node: onnx.NodeProto, values: Known, opset: int) -> onnx.ModelProto:
    """A model of one node, which the evaluator reads with the file's opset."""
    inputs = [
        onnx.helper.make_tensor_value_info(
            name, onnx.helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
        )
        for name, value in values.items()
    ]
    outputs = [onnx.helper.make_empty_tensor_value_info(name) for name in node.output if name]
    graph = onnx.helper.make_graph([node], "alone", inputs, outputs)
    graph.initializer.extend(
        onnx.numpy_helper.from_array(value, name)
        for name, value in values.items()
        if value.size <= SHOWN
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])


def _check_results(model: onnx.ModelProto, node: onnx.NodeProto, where: str) -> None:
    """Raise InputError for results that are too large, or of which nobody knows how large."""
    try:
        outputs = onnx.shape_inference.infer_shapes(model, data_prop=True).graph.output
    except Exception as error:  # noqa: BLE001 - onnx raises its own kinds
        raise InputError(f"{where}: op {node.op_type}: {error}") from None
    for each in outputs:
        kind = each.type.tensor_type
        sizes = [dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim]
        known = kind.HasField("shape") and None not in sizes
        if not known and node.op_type not in BOUNDED:
            raise InputError(f"{where}: op {node.op_type}: how large its result is is not known")
        check_size([size or 0 for size in sizes], where)
