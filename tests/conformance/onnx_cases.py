"""The onnx package's own test cases whose data is one map: 4 dimensions, float32.

Every other input of a case becomes an initialiser.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from onnx.backend.test.case import node as nodes

from nptp_opt.network.load import load_model
from tests.conformance.verdicts import Case

DATA = Path(onnx.__file__).parent / "backend/test/data"
WEIGHTS_ALONE = 4
"""The first version of the format in which initialisers need not be inputs."""

FOLDERS = ("pytorch-operator", "pytorch-converted", "simple")

DIFFERENT = {
    f"test_resize_downsample_scales_{mode}_align_corners": "the package spreads the corners over "
    "the size before it is cut to whole elements, ONNX Runtime over the size that there is"
    for mode in ("linear", "cubic")
}
"""Cases for which ONNX Runtime's answer counts, not the package's, and why."""

QUICK = {
    "batch_normalization": "batchnorm",
    "convtranspose": "convtranspose",
    "depthtospace": "depthtospace",
    "flatten": "flatten",
    "groupnormalization": "group_normalization",
    "instance_normalization": "instancenorm",
    "layernormalization": "layer_normalization",
    "lrn": "lrn",
    "pad": "constant_pad",
    "resize": "resize",
    "spacetodepth": "spacetodepth",
    "upsample": "upsample",
}
"""Modules whose cases are made in no time, with what the names of those begin with: a sample."""


def node_cases(folder: Path, modules: Mapping[str, str] | None = None) -> list[Case]:
    """Cases of single operators; those of ``modules`` alone, as making all takes long."""
    for name in modules or ():
        importlib.import_module(f"{nodes.__name__}.{name}")
    made = nodes._NodeTestCases if modules else nodes.collect_testcases()
    wanted = tuple(f"test_{name}" for name in (modules or {"": ""}).values())
    return [
        _case(each.name, each.model, *each.data_sets[0], folder)
        for each in made
        if each.name.startswith(wanted) and _takes_a_map(each.model)
    ]


def folder_cases(folder: Path) -> list[Case]:
    """Cases of whole small models that torch has exported."""
    return [
        _case(f"{kind}/{path.name}", model, *_stored(path, model), folder)
        for kind in FOLDERS
        for path in sorted((DATA / kind).iterdir())
        if _takes_a_map(model := onnx.load(path / "model.onnx"))
    ]


def _takes_a_map(model: onnx.ModelProto) -> bool:
    if not model.graph.input:
        return False
    kind = model.graph.input[0].type.tensor_type
    return kind.elem_type == onnx.TensorProto.FLOAT and len(kind.shape.dim) == 4


def _stored(path: Path, model: onnx.ModelProto) -> tuple[list[np.ndarray], list[np.ndarray]]:
    data = path / "test_data_set_0"
    weights = {each.name for each in model.graph.initializer}
    count = sum(each.name not in weights for each in model.graph.input)
    return (
        [_array(data / f"input_{i}.pb") for i in range(count)],
        [_array(data / f"output_{i}.pb") for i in range(len(model.graph.output))],
    )


def _array(path: Path) -> np.ndarray:
    proto = onnx.TensorProto()
    proto.ParseFromString(path.read_bytes())
    return numpy_helper.to_array(proto)


def _case(
    name: str,
    model: onnx.ModelProto,
    inputs: Sequence[np.ndarray],
    outputs: Sequence[np.ndarray],
    folder: Path,
) -> Case:
    x = torch.from_numpy(np.array(inputs[0]))
    stem = name.replace("/", "_")

    def load(prefix: str, made: onnx.ModelProto):
        path = folder / f"{prefix}{stem}.onnx"
        onnx.save(made, path)
        return load_model(str(path), tuple(x.shape))

    return Case(
        name,
        lambda: load("", _with_constants(model, inputs)),
        x,
        [_tensor(each) for each in (_of_runtime(model, inputs) if name in DIFFERENT else outputs)],
        tuple(sorted({node.op_type for node in model.graph.node})),
        behind=lambda: load("behind-", _behind_convolution(_with_constants(model, inputs), x)),
    )


def _of_runtime(model: onnx.ModelProto, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [each.name for each in session.get_inputs()]
    return session.run(None, dict(zip(names, inputs, strict=True)))


def _with_constants(model: onnx.ModelProto, inputs: Sequence[np.ndarray]) -> onnx.ModelProto:
    """The model with every input but the first as an initialiser."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    weights = {each.name for each in made.graph.initializer}
    free = [each for each in made.graph.input if each.name not in weights]
    for value, array in list(zip(free, inputs, strict=True))[1:]:
        made.graph.initializer.append(_proto(array, value.name))
    if made.ir_version >= WEIGHTS_ALONE:
        del made.graph.input[:]
        made.graph.input.append(free[0])
    return made


def _behind_convolution(model: onnx.ModelProto, x: torch.Tensor) -> onnx.ModelProto:
    """The model behind a convolution that changes nothing: so there is a map to be cut."""
    data, channels = model.graph.input[0].name, x.shape[1]
    weight = np.ones((channels, 1, 1, 1), np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weight, "behind.weight"))
    for node in model.graph.node:
        node.input[:] = ["behind" if name == data else name for name in node.input]
    node = onnx.helper.make_node("Conv", [data, "behind.weight"], ["behind"], group=channels)
    model.graph.node.insert(0, node)
    if model.ir_version < WEIGHTS_ALONE:
        shape = onnx.helper.make_tensor_value_info("behind.weight", 1, weight.shape)
        model.graph.input.append(shape)
    return model


def _proto(value, name: str) -> onnx.TensorProto:
    if isinstance(value, onnx.TensorProto):
        proto = onnx.TensorProto()
        proto.CopyFrom(value)
        proto.name = name
        return proto
    return numpy_helper.from_array(np.asarray(value), name)


def _tensor(value) -> torch.Tensor:
    array = numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value
    return torch.from_numpy(np.array(array))
