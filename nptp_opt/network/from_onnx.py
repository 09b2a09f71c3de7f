"""Front end for ONNX: a file becomes a torch module, which is exported like any other.

What depends on constants alone (shapes, axes, scales) is worked out by the onnx package's own
evaluator; everything else by the rules.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx.reference import ReferenceEvaluator
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from nptp_opt.errors import InputError, UnsupportedError
from nptp_opt.network import onnx_ops, onnx_resize, onnx_shapes, onnx_windows
from nptp_opt.network.onnx_file import Known, OnnxFile, check_size, declared_input, read_file
from nptp_opt.network.onnx_rules import RULES, Attrs, check_node, name_of, refuse
from nptp_opt.network.onnx_witness import OnnxWitness

__all__ = [
    "OnnxModule",
    "OnnxNode",
    "declared_input",
    "onnx_ops",
    "onnx_resize",
    "onnx_shapes",
    "onnx_windows",
    "read_onnx",
]

FOLDABLE = frozenset(
    {"Add", "Cast", "Ceil", "Concat", "Constant", "ConstantOfShape", "Div", "Equal", "Floor",
     "Gather", "Identity", "Mul", "Neg", "Reshape", "Shape", "Size", "Slice", "Sqrt", "Squeeze",
     "Sub", "Transpose", "Unsqueeze", "Where"}
)  # fmt: skip
"""Ops that are worked out when the file is read, where all their inputs are known."""


def read_onnx(path: Path, input_shape: tuple[int, ...], seed: int) -> OnnxModule:
    """The file as a torch module of one input; ``seed`` makes the weights that it lacks.

    Raises InputError for a file that is broken or reaches outside its folder, UnsupportedError
    with the node's name for an operator that is not known, or for what no rule reads of it.
    """
    file = read_file(path, input_shape, seed)
    for node in file.graph.node:
        _check_known(node, path)
    try:
        return OnnxModule(file, partial(read_file, path, input_shape, seed))
    except UnsupportedError as error:
        raise UnsupportedError(f"{path}: {error}") from None


def _check_known(node: onnx.NodeProto, path: Path) -> None:
    where = f"{path}: node {name_of(node)!r}"
    if node.domain not in ("", "ai.onnx"):
        raise UnsupportedError(f"{where}: op {node.op_type} of {node.domain} is not supported")
    if node.op_type not in RULES and node.op_type not in FOLDABLE:
        raise UnsupportedError(f"{where}: op {node.op_type} is not supported")
    if any(each.t.data_location == onnx.TensorProto.EXTERNAL for each in node.attribute):
        raise UnsupportedError(f"{where}: external data in an attribute of op {node.op_type}")


class OnnxNode(torch.nn.Module):
    """One operator; a module of its own so that the exported graph bears its name."""

    def __init__(self, node: onnx.NodeProto, opset: int) -> None:
        super().__init__()
        self.name, self.op_type = name_of(node), str(node.op_type)
        self.attrs = Attrs(node, opset)

    def forward(self, *values: Any) -> Any:
        try:
            return _filled(RULES[self.op_type].run(self.attrs, *values))
        except UnsupportedError as error:
            raise UnsupportedError(
                f"node {self.name!r}: op {self.op_type} is not supported with {error}"
            ) from None
        except GuardOnDataDependentSymNode:
            raise
        except (RuntimeError, ValueError) as error:  # torch's own, where inputs do not fit
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise InputError(f"op {self.op_type}: {lines[0]}") from None


def _filled(result: Any) -> Any:
    """The result of a rule; refuses one without elements, which nobody could be given a part of."""
    for each in result if isinstance(result, (list, tuple)) else [result]:
        if isinstance(each, torch.Tensor) and each.numel() == 0:
            raise refuse(f"a result without elements, {'x'.join(map(str, each.shape))}")
    return result


class OnnxModule(torch.nn.Module):
    """An ONNX graph that runs on torch. Known values stay numpy arrays until an op takes them.

    ``again`` reads the file once more, for the witness: until then its weights lie in memory once.
    """

    def __init__(self, file: OnnxFile, again: Callable[[], OnnxFile]) -> None:
        super().__init__()
        self.opset, self.data, self.path, self.again = file.opset, file.data, file.path, again
        self.outputs = [str(each.name) for each in file.graph.output]
        self.protos: list[tuple[onnx.NodeProto, str]] = []
        self.nodes = torch.nn.ModuleDict()
        self.weights = torch.nn.ParameterDict()
        self.known = dict(file.known)
        self.keys: dict[str, str] = {}
        used = _used(file.graph)
        for node in file.graph.node:
            if self._folds(node, self.known):
                self.known.update(self._folded(node, self.known))
            else:
                self._keep(node, used)

    def witness(self) -> OnnxWitness:
        """Another engine for the same file, made when it is first asked for anything."""
        return OnnxWitness(self.again, [(key, node.output[0]) for node, key in self.protos])

    def _keep(self, node: onnx.NodeProto, used: Collection[str]) -> None:
        """A node of its own: a part of the file's message would hold all of it in memory."""
        key = _free(name_of(node), self.nodes)
        own = onnx.NodeProto()
        own.CopyFrom(node)
        self.protos.append((own, key))
        rule = RULES.get(node.op_type)
        if rule is None:
            return
        check_node(node, self.opset, used)
        self.nodes[key] = OnnxNode(node, self.opset)
        for i, name in enumerate(node.input):
            value = self.known.get(name)
            if value is not None and value.dtype.kind == "f" and i not in rule.static:
                self._register(name, value)

    def _register(self, name: str, value: np.ndarray[Any, Any]) -> None:
        """As a parameter that shares its memory with the known value."""
        if name not in self.keys:
            self.keys[name] = _free(name, self.weights)
            own = np.array(value, dtype=np.float32)
            if value.dtype == np.float32:
                self.known[name] = own
            tensor = torch.from_numpy(own)
            self.weights[self.keys[name]] = torch.nn.Parameter(tensor, requires_grad=False)

    def _folds(self, node: onnx.NodeProto, known: Mapping[str, Any]) -> bool:
        return node.op_type in FOLDABLE and all(not name or name in known for name in node.input)

    def _folded(self, node: onnx.NodeProto, known: Known) -> Known:
        if node.op_type == "ConstantOfShape":
            shape = [int(v) for v in known[node.input[0]]]
            check_size(shape, f"{self.path}: node {name_of(node)!r}")
        values = {name: known[name] for name in node.input if name}
        try:
            results = ReferenceEvaluator(_alone(node, values, self.opset)).run(None, values)
        except Exception as error:  # noqa: BLE001 - the evaluator raises its own kinds
            raise InputError(f"{self.path}: node {name_of(node)!r}: {error}") from None
        return {k: np.asarray(v) for k, v in zip(node.output, results, strict=True)}

    def forward(self, x: torch.Tensor) -> list[Any]:
        values: dict[str, Any] = {**self.known, self.data: x}
        for node, key in self.protos:
            values.update(zip(node.output, self._ran(node, key, values), strict=False))
        return [self._returned(values[name], name) for name in self.outputs]

    def _returned(self, value: Any, name: str) -> torch.Tensor:
        if isinstance(value, torch.Tensor):
            return value
        raise UnsupportedError(f"output {name!r} does not depend on the input's values")

    def _ran(self, node: onnx.NodeProto, key: str, values: dict[str, Any]) -> list[Any]:
        arrays = {name: values[name] for name in node.input if name}
        static = all(isinstance(value, np.ndarray) for value in arrays.values())
        if static and node.op_type in FOLDABLE:
            return list(self._folded(node, arrays).values())
        if key not in self.nodes:
            raise UnsupportedError(
                f"node {name_of(node)!r}: op {node.op_type} is not supported with inputs that "
                "depend on the data: only constants and shapes are known there"
            )
        fixed = RULES[node.op_type].static
        given = [self._given(node, i, values, i in fixed) for i in range(len(node.input))]
        result = self.nodes[key](*given)
        return list(result) if isinstance(result, (list, tuple)) else [result]

    def _given(self, node: onnx.NodeProto, i: int, values: Mapping[str, Any], static: bool) -> Any:
        name = node.input[i]
        if not name:
            return None
        if static and not isinstance(values[name], np.ndarray):
            raise UnsupportedError(
                f"node {name_of(node)!r}: op {node.op_type} is not supported with input {i + 1} "
                f"({name!r}) that depends on the data: dynamic shapes are not known"
            )
        return self.weights[self.keys[name]] if not static and name in self.keys else values[name]


def _used(graph: onnx.GraphProto) -> frozenset[str]:
    """Names that some node reads or the graph returns; nodes of inner graphs are refused."""
    read = (name for node in graph.node for name in node.input)
    return frozenset([*read, *(each.name for each in graph.output)])


def _alone(node: onnx.NodeProto, values: Known, opset: int) -> onnx.ModelProto:
    """A model of one node, which the evaluator reads with the file's opset."""
    inputs = [
        onnx.helper.make_tensor_value_info(
            name, onnx.helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
        )
        for name, value in values.items()
    ]
    outputs = [onnx.helper.make_empty_tensor_value_info(name) for name in node.output]
    graph = onnx.helper.make_graph([node], "alone", inputs, outputs)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])


def _free(name: str, taken: Any) -> str:
    """A key for torch's containers: no dots, no name twice."""
    base = name.replace(".", "_") or "unnamed"
    tries = (f"{base}__{i}" if i else base for i in range(len(taken) + 1))
    return next(key for key in tries if key not in taken and not hasattr(taken, key))
