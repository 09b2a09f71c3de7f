"""Front end for ONNX: a file becomes a torch module, which is exported like any other.

Nothing in a file is executed or unpickled. What depends on constants alone (shapes, axes, scales)
is worked out by the onnx package's own evaluator; weights that are missing are random.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx.reference import ReferenceEvaluator

from nptp_opt.errors import InputError, UnsupportedError
from nptp_opt.network import onnx_shapes
from nptp_opt.network.onnx_ops import OPS, STATIC

__all__ = ["OnnxModule", "OnnxNode", "onnx_shapes", "read_onnx"]

log = logging.getLogger(__name__)

MAX_CONSTANT_ELEMENTS = 2**30

FOLDABLE = frozenset(
    {"Add", "Cast", "Ceil", "Concat", "Constant", "ConstantOfShape", "Div", "Equal", "Floor",
     "Gather", "Identity", "Mul", "Neg", "Reshape", "Shape", "Slice", "Sqrt", "Squeeze", "Sub",
     "Transpose", "Unsqueeze", "Where"}
)  # fmt: skip
"""Ops that are worked out when the file is read, where all their inputs are known."""

Known = dict[str, np.ndarray[Any, Any]]


def read_onnx(path: Path, input_shape: tuple[int, ...], seed: int) -> torch.nn.Module:
    """The file as a torch module of one input; ``seed`` makes the weights that it lacks.

    Raises InputError for a file that is broken or reaches outside its folder, UnsupportedError
    with the node's name for an operator that is not known.
    """
    graph, opset = _read(path, seed)
    known = _initialisers(graph, path)
    data, missing = _inputs(graph, known, input_shape, path)
    known.update(_random(missing, seed))
    for node in graph.node:
        _check_node(node, path)
    return OnnxModule(graph, opset, known, data, path)


def declared_input(path: Path) -> tuple[int, ...] | None:
    """The shape that the file's data input was made with; None where it leaves sizes open.

    An open batch is 1. Raises InputError for a file that cannot be read.
    """
    graph, _ = _read(path, 0)
    weights = {each.name for each in graph.initializer}
    free = [_dims(each) for each in graph.input if each.name not in weights]
    batch, *sizes = free[0] if free and free[0] else [None]
    known = [size for size in sizes if size]
    return (batch or 1, *known) if len(known) == len(sizes) >= 2 else None


def _read(path: Path, seed: int) -> tuple[onnx.GraphProto, int]:
    try:
        model = onnx.load(str(path), load_external_data=False)
    except FileNotFoundError:
        here = "" if path.is_absolute() else f" (looked in {Path.cwd()})"
        raise InputError(f"{path}: there is no such file{here}") from None
    except Exception as error:  # noqa: BLE001 - protobuf raises its own kinds
        raise _unusable(path, error) from None
    _take_external(model.graph, path, seed)
    try:
        if model.functions:
            model = onnx.inliner.inline_local_functions(model)
        onnx.checker.check_model(model)
    except Exception as error:  # noqa: BLE001 - the checker raises its own kinds
        raise _unusable(path, error) from None
    opsets = {each.domain: each.version for each in model.opset_import}
    graph: onnx.GraphProto = model.graph
    return graph, int(opsets.get("", opsets.get("ai.onnx", 1)))


def _unusable(path: Path, error: Exception) -> InputError:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return InputError(f"{path}: not a usable ONNX file: {lines[0]}")


def _check_node(node: onnx.NodeProto, path: Path) -> None:
    if (node.op_type not in OPS and node.op_type not in FOLDABLE) or node.domain not in (
        "",
        "ai.onnx",
    ):
        raise UnsupportedError(f"{path}: node {_name(node)!r}: op {node.op_type} is not supported")
    if any(each.t.data_location == onnx.TensorProto.EXTERNAL for each in node.attribute):
        raise UnsupportedError(f"{path}: node {_name(node)!r}: external data in an attribute")


def _name(node: onnx.NodeProto) -> str:
    return str(node.name or node.output[0])


def _take_external(graph: onnx.GraphProto, path: Path, seed: int) -> None:
    """Put external data into the graph; where its file is missing, random weights."""
    absent = {}
    for proto in graph.initializer:
        _check_size(tuple(proto.dims), f"{path}: initialiser {proto.name!r}")
        if proto.data_location == onnx.TensorProto.EXTERNAL and not _fetch(proto, path):
            absent[proto.name] = tuple(proto.dims)
    made = _random(absent, seed)
    for proto in graph.initializer:
        if proto.name in made:
            proto.CopyFrom(onnx.numpy_helper.from_array(made[proto.name], proto.name))
    if absent:
        log.warning("%s: weights of %d tensors are missing: random ones", path, len(absent))


def _initialisers(graph: onnx.GraphProto, path: Path) -> Known:
    """Every initialiser as an array."""
    known: Known = {}
    for proto in graph.initializer:
        try:
            known[proto.name] = onnx.numpy_helper.to_array(proto)
        except Exception as error:  # noqa: BLE001 - numpy and onnx raise their own kinds
            raise InputError(f"{path}: initialiser {proto.name!r}: {error}") from None
    return known


def _fetch(proto: onnx.TensorProto, path: Path) -> bool:
    """Load external data in place; False when its file does not exist."""
    folder = path.resolve().parent
    location = next((each.value for each in proto.external_data if each.key == "location"), "")
    file = (folder / location).resolve()
    if not location or Path(location).is_absolute() or not file.is_relative_to(folder):
        raise InputError(
            f"{path}: initialiser {proto.name!r}: external data {location!r} lies outside the "
            "file's folder"
        )
    if not file.is_file():
        return False
    try:
        onnx.external_data_helper.load_external_data_for_tensor(proto, str(folder))
    except Exception as error:  # noqa: BLE001 - onnx raises its own kinds
        raise InputError(f"{path}: initialiser {proto.name!r}: {error}") from None
    return True


def _check_size(shape: Sequence[int], where: str) -> None:
    if any(size < 0 for size in shape) or math.prod(shape) > MAX_CONSTANT_ELEMENTS:
        raise InputError(f"{where}: shape {tuple(shape)} is not possible")


def _inputs(
    graph: onnx.GraphProto, known: Mapping[str, Any], shape: tuple[int, ...], path: Path
) -> tuple[str, dict[str, tuple[int, ...]]]:
    """Name of the data input, and the shapes of the inputs that are missing weights.

    Files may list their weights as inputs. The data is the input whose shape fits and that some
    node takes in first place.
    """
    free = [each for each in graph.input if each.name not in known]
    first = {node.input[0] for node in graph.node if node.input}
    fitting = [each.name for each in free if _fits(_dims(each), shape)]
    chosen = [name for name in fitting if name in first] or fitting
    if not chosen:
        found = ", ".join(f"{each.name} {_dims(each)}" for each in free) or "none"
        raise InputError(f"{path}: no input takes {'x'.join(map(str, shape))}; inputs: {found}")
    missing = {}
    for each in free:
        if each.name != chosen[0]:
            dims = _dims(each)
            if None in dims:
                raise InputError(f"{path}: input {each.name!r} has no fixed shape and no value")
            missing[each.name] = tuple(int(d or 0) for d in dims)
            _check_size(missing[each.name], f"{path}: input {each.name!r}")
    if missing:
        log.warning("%s: %d inputs have no value: random ones", path, len(missing))
    return chosen[0], missing


def _dims(value: onnx.ValueInfoProto) -> list[int | None]:
    dims = value.type.tensor_type.shape.dim
    return [int(d.dim_value) if d.HasField("dim_value") else None for d in dims]


def _fits(dims: Sequence[int | None], shape: Sequence[int]) -> bool:
    """Rank and channels must agree; other declared sizes are only what the file was made with."""
    agree = len(dims) == len(shape)
    return agree and (len(dims) < 2 or dims[1] in (None, 0, shape[1]))


def _random(shapes: Mapping[str, tuple[int, ...]], seed: int) -> Known:
    """Weights of a size that keeps activations of order one; vectors are positive."""
    rng = np.random.default_rng(seed)
    made: Known = {}
    for name, shape in shapes.items():
        if len(shape) < 2:
            made[name] = rng.uniform(0.5, 1.5, shape).astype(np.float32)
        else:
            scale = math.sqrt(2.0 / math.prod(shape[1:]))
            made[name] = (rng.standard_normal(shape) * scale).astype(np.float32)
    return made


class OnnxNode(torch.nn.Module):
    """One operator; a module of its own so that the exported graph bears its name."""

    def __init__(self, node: onnx.NodeProto, opset: int) -> None:
        super().__init__()
        self.name, self.op_type = _name(node), node.op_type
        self.attrs = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
        self.attrs |= {"op_type": node.op_type, "opset": opset, "n_outputs": len(node.output)}

    def forward(self, *values: Any) -> Any:
        try:
            return OPS[self.op_type](self.attrs, *values)
        except UnsupportedError as error:
            raise UnsupportedError(
                f"node {self.name!r}: op {self.op_type} is not supported with {error}"
            ) from None


class OnnxModule(torch.nn.Module):
    """An ONNX graph that runs on torch. Known values stay numpy arrays until an op takes them."""

    def __init__(
        self, graph: onnx.GraphProto, opset: int, known: Known, data: str, path: Path
    ) -> None:
        super().__init__()
        self.opset, self.data, self.path = opset, data, path
        self.outputs = [each.name for each in graph.output]
        self.protos: list[tuple[onnx.NodeProto, str]] = []
        self.nodes = torch.nn.ModuleDict()
        self.weights = torch.nn.ParameterDict()
        self.known = dict(known)
        self.keys: dict[str, str] = {}
        for node in graph.node:
            if self._folds(node, self.known):
                self.known.update(self._folded(node, self.known))
            else:
                self._keep(node)

    def _keep(self, node: onnx.NodeProto) -> None:
        key = _free(_name(node), self.nodes)
        if node.op_type in OPS:
            self.nodes[key] = OnnxNode(node, self.opset)
        self.protos.append((node, key))
        static = STATIC.get(node.op_type, frozenset())
        for i, name in enumerate(node.input):
            value = self.known.get(name)
            if value is not None and value.dtype.kind == "f" and i not in static:
                self._register(name, value)

    def _register(self, name: str, value: np.ndarray[Any, Any]) -> None:
        if name not in self.keys:
            self.keys[name] = _free(name, self.weights)
            tensor = torch.tensor(value, dtype=torch.float32)
            self.weights[self.keys[name]] = torch.nn.Parameter(tensor, requires_grad=False)

    def _folds(self, node: onnx.NodeProto, known: Mapping[str, Any]) -> bool:
        return node.op_type in FOLDABLE and all(not name or name in known for name in node.input)

    def _folded(self, node: onnx.NodeProto, known: Known) -> Known:
        if node.op_type == "ConstantOfShape":
            shape = [int(v) for v in known[node.input[0]]]
            _check_size(shape, f"{self.path}: node {_name(node)!r}")
        values = {name: known[name] for name in node.input if name}
        try:
            results = ReferenceEvaluator(_alone(node, values, self.opset)).run(None, values)
        except Exception as error:  # noqa: BLE001 - the evaluator raises its own kinds
            raise InputError(f"{self.path}: node {_name(node)!r}: {error}") from None
        return {k: np.asarray(v) for k, v in zip(node.output, results, strict=True)}

    def forward(self, x: torch.Tensor) -> list[Any]:
        values: dict[str, Any] = {**self.known, self.data: x}
        for node, key in self.protos:
            values.update(zip(node.output, self._ran(node, key, values), strict=False))
        return [values[name] for name in self.outputs]

    def _ran(self, node: onnx.NodeProto, key: str, values: dict[str, Any]) -> list[Any]:
        arrays = {name: values[name] for name in node.input if name}
        if node.op_type == "Shape":
            shape = np.array(arrays[node.input[0]].shape, dtype=np.int64)
            starts = {each.name: each.i for each in node.attribute}
            return [shape[starts.get("start", 0) : starts.get("end", len(shape))]]
        static = all(isinstance(value, np.ndarray) for value in arrays.values())
        if static and node.op_type in FOLDABLE:
            return list(self._folded(node, arrays).values())
        if key not in self.nodes:
            raise UnsupportedError(f"node {_name(node)!r}: op {node.op_type} is not supported here")
        fixed = STATIC.get(node.op_type, frozenset())
        given = [self._given(name, values, i in fixed) for i, name in enumerate(node.input)]
        result = self.nodes[key](*given)
        return list(result) if isinstance(result, (list, tuple)) else [result]

    def _given(self, name: str, values: Mapping[str, Any], static: bool) -> Any:
        if not name:
            return None
        value = values[name]
        if static and not isinstance(value, np.ndarray):
            raise UnsupportedError(
                f"{name!r} depends on the data: dynamic shapes are not supported"
            )
        return self.weights[self.keys[name]] if not static and name in self.keys else value


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
