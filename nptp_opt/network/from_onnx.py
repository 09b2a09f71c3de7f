"""Front end for ONNX: a file becomes a torch module, which is exported like any other.

What depends on constants alone (shapes, axes, scales) is worked out by the onnx package's own
evaluator; everything else by the rules, and by ONNX's own definitions of operators through others.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from nptp_opt.errors import InputError, UnsupportedError
from nptp_opt.network import (
    onnx_choice,
    onnx_ops,
    onnx_quantised,
    onnx_recurrent,
    onnx_reduce,
    onnx_resize,
    onnx_shapes,
    onnx_windows,
)
from nptp_opt.network.onnx_bodies import expanded, with_own_names
from nptp_opt.network.onnx_file import OnnxFile, declared_input, initialisers, read_file
from nptp_opt.network.onnx_fold import BOUNDED, DRAWN, folded, folds
from nptp_opt.network.onnx_rules import (
    RULES,
    Attrs,
    check_node,
    check_result,
    has_rule,
    name_of,
    refuse,
    tensor_of,
    unread,
)
from nptp_opt.network.onnx_witness import OnnxWitness
from nptp_opt.network.ref import InputShape

__all__ = [
    "OnnxModule",
    "OnnxNode",
    "declared_input",
    "onnx_choice",
    "onnx_ops",
    "onnx_quantised",
    "onnx_recurrent",
    "onnx_reduce",
    "onnx_resize",
    "onnx_shapes",
    "onnx_windows",
    "read_onnx",
]

UNFIT = (RuntimeError, ValueError, IndexError, TypeError, ArithmeticError)
"""What torch and numpy raise where inputs do not fit an op, or numbers are beyond theirs."""

Step = tuple[onnx.NodeProto, str]
"""A node that is kept, and its key."""


def read_onnx(path: Path, input_shape: InputShape, seed: int) -> OnnxModule:
    """The file as a torch module of its data; ``seed`` makes the weights that it lacks.

    Raises InputError for a file that is broken or reaches outside its folder. A node that no rule
    reads raises UnsupportedError with its name when the module is run.
    """
    file = read_file(path, input_shape, seed)
    for graph in _graphs(file.graph):
        for node in graph.node:
            _refuse_external(node, path)
    try:
        return OnnxModule(file, partial(read_file, path, input_shape, seed))
    except UnsupportedError as error:
        raise UnsupportedError(f"{path}: {error}") from None


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and all graphs inside its nodes."""
    yield graph
    for node in graph.node:
        for each in node.attribute:
            for inner in (each.g, *each.graphs) if each.HasField("g") else each.graphs:
                yield from _graphs(inner)


def _refuse_external(node: onnx.NodeProto, path: Path) -> None:
    """Only weights may lie in other files, and only those of the outer graph."""
    inner = [proto for each in node.attribute for proto in each.g.initializer]
    for proto in (*inner, *(each.t for each in node.attribute)):
        if proto.data_location == onnx.TensorProto.EXTERNAL:
            where = f"{path}: node {name_of(node)!r}"
            raise UnsupportedError(f"{where}: external data in an attribute of op {node.op_type}")


def _has_no_rule(node: onnx.NodeProto, opset: int, used: Collection[str]) -> bool:
    """Whether a node needs the definition of its operator through others."""
    rule = RULES.get(node.op_type)
    return rule is None or next(unread(node, rule, opset, used), None) is not None


class OnnxNode(torch.nn.Module):
    """One operator; a module of its own so that the exported graph bears its name.

    What its rule does not read of it is refused when it is run: no branch that is not taken and
    nothing that is folded away needs a rule.
    """

    def __init__(self, node: onnx.NodeProto, opset: int, used: Collection[str]) -> None:
        super().__init__()
        self.name, self.op_type = name_of(node), str(node.op_type)
        self.refusal: UnsupportedError | None = None
        try:
            check_node(node, opset, used)
            self.attrs = Attrs(node, opset)
        except UnsupportedError as error:
            self.refusal = error

    def forward(self, *values: Any) -> Any:
        if self.refusal is not None:
            raise self.refusal
        try:
            result = RULES[self.op_type].run(self.attrs, *values)
            return _checked(result, self.op_type)
        except UnsupportedError as error:
            raise UnsupportedError(
                f"node {self.name!r}: op {self.op_type} is not supported with {error}"
            ) from None
        except GuardOnDataDependentSymNode:
            raise
        except UNFIT as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise InputError(f"op {self.op_type}: {lines[0]}") from None


def _checked(result: Any, op_type: str) -> Any:
    """The result of a rule; refuses one that is too large, or without elements, which nobody could
    be given a part of. Only a split may have such parts, which a concatenation leaves out.
    """
    for each in result if isinstance(result, (list, tuple)) else [result]:
        if isinstance(each, torch.Tensor):
            check_result(each.shape)
            if each.numel() == 0 and op_type != "Split":
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
        self.makers = {name: node.op_type for node in file.graph.node for name in node.output}
        self.nodes = torch.nn.ModuleDict()
        self.weights = torch.nn.ParameterDict()
        self.known = dict(file.known)
        self.keys: dict[str, str] = {}
        self.branches: dict[str, list[tuple[list[Step], list[str]]]] = {}
        used = _used_names(file.graph)
        model = expanded(file.model, file.opset, partial(_has_no_rule, opset=file.opset, used=used))
        self.steps = self._kept(model.graph, _used_names(model.graph))

    def witness(self) -> OnnxWitness:
        """Another engine for the same file, made when it is first asked for anything."""
        inner = [(key, node.output[0]) for node, key in self.steps if node.output[0] in self.makers]
        return OnnxWitness(self.again, inner)

    def _kept(self, graph: onnx.GraphProto, used: Collection[str]) -> list[Step]:
        """The nodes of a graph that are not worked out at once."""
        steps = []
        for node in graph.node:
            results = self._fold(node, self.known)
            self.known.update(results)
            if not results:
                steps.append(self._step(node, used))
        return steps

    def _step(self, node: onnx.NodeProto, used: Collection[str]) -> Step:
        """A node of its own: a part of the file's message would hold all of it in memory."""
        key = _free(name_of(node), self.nodes)
        own = onnx.NodeProto()
        own.CopyFrom(node)
        rule = RULES[node.op_type] if has_rule(node) else None
        if node.op_type == "If":
            self.branches[key] = [self._branch(node, side, key) for side in ("else", "then")]
        elif rule is not None:
            self.nodes[key] = OnnxNode(node, self.opset, used)
            for i, name in enumerate(node.input):
                if name in self.known and i not in rule.static | rule.either:
                    self._register(name, self.known[name])
        return own, key

    def _branch(self, node: onnx.NodeProto, side: str, key: str) -> tuple[list[Step], list[str]]:
        """The nodes of one side of a choice, and the names of its results."""
        given = next(each.g for each in node.attribute if each.name == f"{side}_branch")
        graph = with_own_names(given, f"{key}.{side}")
        self.known.update(initialisers(graph, self.path))
        return self._kept(graph, _used_names(graph)), [str(each.name) for each in graph.output]

    def _register(self, name: str, value: np.ndarray[Any, Any]) -> None:
        """As a parameter that shares its memory with the known value."""
        if name not in self.keys:
            self.keys[name] = _free(name, self.weights)
            if value.dtype == np.float64:
                value = value.astype(np.float32)
            own = np.array(value)
            self.known[name] = own
            self.weights[self.keys[name]] = torch.nn.Parameter(tensor_of(own), requires_grad=False)

    def _fold(self, node: onnx.NodeProto, known: Mapping[str, Any]) -> Mapping[str, Any]:
        """The results of a node all of whose inputs are known; nothing for any other."""
        values = {name: known[name] for name in node.input if name in known}
        static = {name: each for name, each in values.items() if isinstance(each, np.ndarray)}
        return folded(node, static, self.opset, self.path) if folds(node, static) else {}

    def forward(self, x: torch.Tensor, *more: torch.Tensor) -> list[Any]:
        values: dict[str, Any] = dict(self.known)
        for each, given in zip(self.data, (x, *more), strict=True):
            values[each.name] = given if each.dtype == torch.float32 else given.to(each.dtype)
        self._run(self.steps, values)
        return [self._as_output(values[name], name) for name in self.outputs]

    def _run(self, steps: list[Step], values: dict[str, Any]) -> None:
        for node, key in steps:
            values.update(zip(node.output, self._run_node(node, key, values), strict=False))

    def _as_output(self, value: Any, name: str) -> torch.Tensor:
        if isinstance(value, torch.Tensor):
            return value
        raise UnsupportedError(
            f"output {name!r} (op {self.makers.get(name, 'Constant')}) does not depend on the "
            "input's values: leave it out"
        )

    def _run_node(self, node: onnx.NodeProto, key: str, values: dict[str, Any]) -> list[Any]:
        results = self._fold(node, values)
        if results:
            return [results.get(name) for name in node.output]
        if key in self.branches:
            return self._chosen(node, key, values)
        if key not in self.nodes:
            raise UnsupportedError(_why_unknown(node))
        result = self.nodes[key](*self._inputs(node, values))
        return list(result) if isinstance(result, (list, tuple)) else [result]

    def _chosen(self, node: onnx.NodeProto, key: str, values: dict[str, Any]) -> list[Any]:
        """The results of the side that a known condition takes."""
        condition = self._input(node, 0, values, static=True)
        steps, names = self.branches[key][bool(condition)]
        self._run(steps, values)
        return [values[name] for name in names]

    def _inputs(self, node: onnx.NodeProto, values: Mapping[str, Any]) -> list[Any]:
        rule = RULES[node.op_type]
        found = [
            self._input(node, i, values, static=i in rule.static) for i in range(len(node.input))
        ]
        raw = rule.static | rule.either
        return [
            tensor_of(value) if isinstance(value, np.ndarray) and i not in raw else value
            for i, value in enumerate(found)
        ]

    def _input(
        self, node: onnx.NodeProto, i: int, values: Mapping[str, Any], *, static: bool
    ) -> Any:
        """An input: a tensor, or an array where it is known and not one of the weights."""
        name = node.input[i]
        if not name:
            return None
        if static and not isinstance(values[name], np.ndarray):
            raise UnsupportedError(
                f"node {name_of(node)!r}: op {node.op_type} is not supported with input {i + 1} "
                f"({name!r}) that depends on the data: dynamic shapes are not known"
            )
        rule = RULES.get(node.op_type)
        raw = static or (rule is not None and i in rule.either)
        return self.weights[self.keys[name]] if name in self.keys and not raw else values[name]


def _why_unknown(node: onnx.NodeProto) -> str:
    domain = "" if node.domain in ("", "ai.onnx") else f" of {node.domain}"
    why = ""
    if node.op_type in DRAWN:
        why = ": it draws random numbers"
    elif node.op_type in BOUNDED:
        why = ": the sizes of what it makes depend on data"
    return f"node {name_of(node)!r}: op {node.op_type}{domain} is not supported{why}"


def _used_names(graph: onnx.GraphProto) -> frozenset[str]:
    """Names that some node reads or some graph returns."""
    graphs = list(_graphs(graph))
    read = (name for each in graphs for node in each.node for name in node.input)
    return frozenset([*read, *(out.name for each in graphs for out in each.output)])


def _free(name: str, taken: Any) -> str:
    """A key for torch's containers: no dots, no name twice."""
    base = name.replace(".", "_") or "unnamed"
    tries = (f"{base}__{i}" if i else base for i in range(len(taken) + 1))
    return next(key for key in tries if key not in taken and not hasattr(taken, key))
