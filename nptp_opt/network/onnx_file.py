"""Reading an ONNX file: bytes, weights and inputs, made safe and complete.

Nothing in a file is executed or unpickled, and nothing outside its folder is read. Weights that are
missing are random.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import torch

from nptp_opt.errors import InputError, UnsupportedError
from nptp_opt.network.ref import InputShape, Shape, shapes_of, spelled

log = logging.getLogger(__name__)

MAX_CONSTANT_ELEMENTS = 2**30

EQUAL = frozenset(("Concat", "Max", "Mean", "Min", "Sum"))
"""Operators all of whose inputs are of one kind."""

Known = dict[str, np.ndarray[Any, Any]]

TAKEN = {
    onnx.TensorProto.FLOAT: torch.float32,
    onnx.TensorProto.FLOAT16: torch.float16,
    onnx.TensorProto.UINT8: torch.uint8,
}
"""Types that the data may have in the file; it is given in float32 in any case."""


@dataclass(frozen=True)
class Data:
    """An input that is no weight: its name, the shape that was asked for, its type in the file."""

    name: str
    shape: Shape
    dtype: torch.dtype = torch.float32


@dataclass(frozen=True)
class OnnxFile:
    """A file that its data completes: ``data`` are those inputs, ``known`` is everything else."""

    path: Path
    model: onnx.ModelProto
    opset: int
    known: Known
    data: tuple[Data, ...]

    @property
    def graph(self) -> onnx.GraphProto:
        return self.model.graph


def read_file(path: Path, input_shape: InputShape, seed: int) -> OnnxFile:
    """The file for inputs of these shapes; ``seed`` makes the weights that it lacks.

    Raises InputError for a file that is broken or reaches outside its folder, and for shapes that
    it does not take.
    """
    model = _read(path, seed)
    known = initialisers(model.graph, path)
    shapes = shapes_of(input_shape)
    chosen, missing = _inputs(model.graph, known, shapes, path)
    known.update(_random(missing, seed))
    data = tuple(
        Data(str(each.name), shape, _type(each, path))
        for each, shape in zip(chosen, shapes, strict=True)
    )
    return OnnxFile(path, model, _opset(model, path), known, data)


def declared_input(path: Path) -> InputShape | None:
    """The shape, or shapes, that the file's data was made with; None where it leaves sizes open.

    An open batch is 1. Raises InputError for a file that cannot be read.
    """
    graph = _read(path, 0).graph
    weights = {each.name for each in graph.initializer}
    free = [each for each in graph.input if each.name not in weights]
    data = _no_weights(free, graph)
    if len(data) < 2:
        return _declared(_dims(free[0]), 2) if free else None
    shapes = [_declared(_dims(each), 1) for each in data]
    known = tuple(shape for shape in shapes if shape is not None)
    return known if len(known) == len(shapes) else None


def _declared(dims: Sequence[int | None], least: int) -> Shape | None:
    """A shape of which only the batch may be open, and that has ``least`` sizes behind it."""
    batch, *sizes = dims or [None]
    known = [size for size in sizes if size]
    return (batch or 1, *known) if len(known) == len(sizes) >= least else None


def check_size(shape: Sequence[int], where: str) -> None:
    """Raise InputError for a shape that no tensor of a file may have."""
    if any(size < 0 for size in shape) or math.prod(shape) > MAX_CONSTANT_ELEMENTS:
        raise InputError(f"{where}: shape {tuple(shape)} is not possible")


def _read(path: Path, seed: int) -> onnx.ModelProto:
    try:
        model = onnx.load(str(path), load_external_data=False)
    except FileNotFoundError:
        here = "" if path.is_absolute() else f" (looked in {Path.cwd()})"
        raise InputError(f"{path}: there is no such file{here}") from None
    except Exception as error:  # noqa: BLE001 - protobuf raises its own kinds
        raise _unusable(path, error) from None
    try:
        if model.functions:
            model = onnx.inliner.inline_local_functions(model)
        onnx.checker.check_model(_without_external(model))
    except Exception as error:  # noqa: BLE001 - the checker raises its own kinds
        raise _unusable(path, error) from None
    _take_external(model.graph, path, seed)
    return model


def _without_external(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with weights beside it as inputs: no message may have 2 GiB, the checker's too."""
    beside = [each for each in model.graph.initializer if _is_external(each)]
    if not beside:
        return model
    light = onnx.ModelProto()
    light.CopyFrom(model)
    graph, listed = light.graph, {each.name for each in model.graph.input}
    del graph.initializer[:]
    graph.initializer.extend(each for each in model.graph.initializer if not _is_external(each))
    graph.input.extend(
        onnx.helper.make_tensor_value_info(each.name, each.data_type, tuple(each.dims))
        for each in beside
        if each.name not in listed
    )
    return light


def _is_external(proto: onnx.TensorProto) -> bool:
    return bool(proto.data_location == onnx.TensorProto.EXTERNAL)


def _unusable(path: Path, error: Exception) -> InputError:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return InputError(f"{path}: not a usable ONNX file: {lines[0]}")


def _opset(model: onnx.ModelProto, path: Path) -> int:
    """The version of ONNX's own operators; raises UnsupportedError for one from the future."""
    opsets = {each.domain: each.version for each in model.opset_import}
    opset, last = int(opsets.get("", opsets.get("ai.onnx", 1))), onnx.defs.onnx_opset_version()
    if opset > last:
        raise UnsupportedError(
            f"{path}: opset {opset} is not known to the onnx package {onnx.__version__}, which "
            f"ends with {last}; install a newer one"
        )
    return opset


def _take_external(graph: onnx.GraphProto, path: Path, seed: int) -> None:
    """Put external data into the graph; where its file is missing, random weights."""
    absent = {}
    for proto in graph.initializer:
        where = f"{path}: initialiser {proto.name!r}"
        check_size(tuple(proto.dims), where)
        if _is_external(proto) and not _fetch(proto, path):
            _check_float(proto.data_type, f"{where}: its data is missing")
            absent[proto.name] = tuple(proto.dims)
    made = _random(absent, seed)
    for proto in graph.initializer:
        if proto.name in made:
            proto.CopyFrom(onnx.numpy_helper.from_array(made[proto.name], proto.name))
    if absent:
        log.warning("%s: weights of %d tensors are missing: random ones", path, len(absent))


def _check_float(kind: int, where: str) -> None:
    """Raise InputError unless a tensor is one of float32, the only kind that is made up."""
    if kind != onnx.TensorProto.FLOAT:
        name = onnx.TensorProto.DataType.Name(kind)
        raise InputError(f"{where}, and only FLOAT can be made up, not {name}")


def initialisers(graph: onnx.GraphProto, path: Path) -> Known:
    """Every initialiser as an array."""
    known: Known = {}
    if graph.sparse_initializer:
        name = graph.sparse_initializer[0].values.name
        raise UnsupportedError(f"{path}: initialiser {name!r} is sparse, which is not supported")
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


def _inputs(
    graph: onnx.GraphProto, known: Mapping[str, Any], shapes: Sequence[Shape], path: Path
) -> tuple[list[onnx.ValueInfoProto], dict[str, Shape]]:
    """The data, one input for each shape, and the shapes of the inputs that are missing weights."""
    free = [each for each in graph.input if each.name not in known]
    chosen = _data(free, graph, shapes, path)
    sizes: dict[str, int] = {}
    for each, shape in zip(chosen, shapes, strict=True):
        sizes = _bound(each, shape) | sizes
    missing = dict(_open_input(each, sizes, path) for each in free if each not in chosen)
    if missing:
        log.warning("%s: %d inputs have no value: random ones", path, len(missing))
    return chosen, missing


def _data(
    free: list[onnx.ValueInfoProto], graph: onnx.GraphProto, shapes: Sequence[Shape], path: Path
) -> list[onnx.ValueInfoProto]:
    """The inputs that shapes are given for, in the file's order.

    Files may list their weights as inputs, without a value. Where there are more inputs than
    shapes, what can be no weight is data; one shape is that of the input that it fits and that
    some node takes in first place.
    """
    sure = _no_weights(free, graph)
    if len(shapes) == 1:
        chosen = [_only(free, sure, shapes[0], path)]
    else:
        chosen = free if len(free) == len(shapes) else sure
    if len(chosen) != len(shapes) or (len(shapes) == 1 and len(sure) > 1):
        names = sure or free
        raise InputError(
            f"{path}: number of inputs: the file takes {len(names)} "
            f"({', '.join(map(_described, names))}), the shapes are {len(shapes)}: "
            f"{spelled(shapes)}; give one for each, in this order"
        )
    for each, shape in zip(chosen, shapes, strict=True):
        if not _fits(_dims(each), shape):
            raise InputError(f"{path}: input {_described(each)} does not take {spelled(shape)}")
    return chosen


def _only(
    free: Sequence[onnx.ValueInfoProto],
    sure: Sequence[onnx.ValueInfoProto],
    shape: Shape,
    path: Path,
) -> onnx.ValueInfoProto:
    """The input that a single shape is for."""
    fitting = [each for each in free if _fits(_dims(each), shape)]
    if not fitting:
        found = ", ".join(map(_described, free)) or "none"
        raise InputError(f"{path}: no input takes {spelled(shape)}; inputs: {found}")
    return next((each for each in fitting if each in sure), fitting[0])


def _no_weights(
    free: Sequence[onnx.ValueInfoProto], graph: onnx.GraphProto
) -> list[onnx.ValueInfoProto]:
    """The inputs that some node takes in first place, or as one of many: those are no weights."""
    first = {node.input[0] for node in graph.node if node.input}
    equal = {name for node in graph.node if node.op_type in EQUAL for name in node.input}
    return [each for each in free if each.name in first | equal]


def _described(value: onnx.ValueInfoProto) -> str:
    return f"{value.name} {_dims(value)}"


def _type(value: onnx.ValueInfoProto, path: Path) -> torch.dtype:
    kind = value.type.tensor_type.elem_type
    if kind not in TAKEN:
        name = onnx.TensorProto.DataType.Name(kind)
        raise UnsupportedError(
            f"{path}: input {value.name!r} takes {name}: only FLOAT, FLOAT16 and UINT8 are "
            "supported"
        )
    return TAKEN[kind]


def _bound(data: onnx.ValueInfoProto, shape: Sequence[int]) -> dict[str, int]:
    """What the data's shape says of the sizes that the file names; an open first one is a batch."""
    dims = data.type.tensor_type.shape.dim
    named = {dim.dim_param: size for dim, size in zip(dims, shape, strict=True) if dim.dim_param}
    return {"": shape[0], **named}


def _open_input(
    value: onnx.ValueInfoProto, sizes: Mapping[str, int], path: Path
) -> tuple[str, tuple[int, ...]]:
    """Name and shape of an input that gets random values."""
    where, dims = f"{path}: input {value.name!r}", _dims(value)
    names = [dim.dim_param for dim in value.type.tensor_type.shape.dim]
    dims = [sizes.get(name) if d is None else d for d, name in zip(dims, names, strict=True)]
    dims[:1] = [sizes[""] if d is None else d for d in dims[:1]]
    if None in dims:
        raise InputError(f"{where} has no fixed shape and no value")
    _check_float(value.type.tensor_type.elem_type, f"{where} has no value")
    shape = tuple(int(d or 0) for d in dims)
    check_size(shape, where)
    return str(value.name), shape


def _dims(value: onnx.ValueInfoProto) -> list[int | None]:
    """Sizes as the file declares them; those that it leaves open are None, however it says so."""
    dims = value.type.tensor_type.shape.dim
    return [int(d.dim_value) if d.dim_value > 0 else None for d in dims]


def _fits(dims: Sequence[int | None], shape: Sequence[int]) -> bool:
    """Rank and channels must agree; other declared sizes are only what the file was made with."""
    agree = len(dims) == len(shape)
    return agree and (len(dims) < 2 or dims[1] in (None, shape[1]))


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
