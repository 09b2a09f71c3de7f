"""ONNX files whose bytes, nodes or weights are changed: a model that is like its witness, or words.

What is inferred of shapes is no part of the file: the checker, the rules and ONNX Runtime each have
their own opinion of it, and none may end in a traceback.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from nptp_opt.errors import UnsupportedError
from nptp_opt.network.load import load_model
from tests.fuzz.documents import budget, ends_with_words, garbled, read_or_refused

SHAPE = (1, 4, 10, 8)

SIZES = [-(2**63), -1, 0, 1, 2, 3, 7, 2**31, 2**63 - 1]

MOST_RUN = 2**22
"""Elements of the largest map of a model that is run here."""

OTHER_OPS = ["Add", "Relu", "Conv", "MaxPool", "Reshape", "Gemm", "Loop", "Nothing", "Softmax"]


def made() -> onnx.ModelProto:
    """Windows, a join, a resize and a head; attributes, and values that the graph works out."""
    rng = np.random.default_rng(0)
    weights: dict[str, np.ndarray[Any, Any]] = {
        "w": rng.standard_normal((6, 4, 3, 3), np.float32),
        "b": rng.standard_normal(6, np.float32),
        "v": rng.standard_normal((6, 6, 2, 2), np.float32),
        "scales": np.float32([1, 1, 2, 2]),
        "shape": np.int64([1, -1]),
        "fc": rng.standard_normal((10, 6), np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["a"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("ConvTranspose", ["r", "v"], ["t"], strides=[1, 1], pads=[0, 0, 1, 1]),
        helper.make_node("Add", ["t", "r"], ["s"]),
        helper.make_node("Resize", ["s", "", "scales"], ["z"], mode="linear"),
        helper.make_node("MaxPool", ["z"], ["p"], kernel_shape=[3, 3], strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["p"], ["g"]),
        helper.make_node("Reshape", ["g", "shape"], ["f"]),
        helper.make_node("Gemm", ["f", "fc"], ["y"], transB=1, alpha=1.0),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, None])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _attribute(draw: Callable[..., Any], model: onnx.ModelProto) -> None:
    nodes = [node for node in model.graph.node if node.attribute]
    attribute = draw(st.sampled_from(list(draw(st.sampled_from(nodes)).attribute)))
    if attribute.ints:
        at = draw(st.integers(0, len(attribute.ints)))
        attribute.ints[at : at + 1] = draw(st.lists(st.sampled_from(SIZES), max_size=2))
    else:
        attribute.i = draw(st.sampled_from(SIZES))


def _dims(draw: Callable[..., Any], model: onnx.ModelProto) -> None:
    proto = draw(st.sampled_from(list(model.graph.initializer)))
    at = draw(st.integers(0, len(proto.dims)))
    proto.dims[at : at + 1] = draw(st.lists(st.sampled_from(SIZES), max_size=2))


def _values(draw: Callable[..., Any], model: onnx.ModelProto) -> None:
    proto = draw(st.sampled_from(list(model.graph.initializer)))
    if draw(st.booleans()):
        proto.raw_data = proto.raw_data[: draw(st.integers(0, len(proto.raw_data) - 1))]
    else:
        proto.data_type = draw(st.integers(-1, 30))


def _numbers(draw: Callable[..., Any], model: onnx.ModelProto) -> None:
    """What the graph reads of shapes and scales."""
    name = draw(st.sampled_from(["shape", "scales"]))
    proto = next(each for each in model.graph.initializer if each.name == name)
    values = numpy_helper.to_array(proto).copy()
    extremes = SIZES if name == "shape" else [-1, 0, 1e-30, 0.3, 3, 1e9, np.inf, np.nan]
    values[draw(st.integers(0, len(values) - 1))] = draw(st.sampled_from(extremes))
    proto.CopyFrom(numpy_helper.from_array(values, name))


def _lost(draw: Callable[..., Any], model: onnx.ModelProto) -> None:
    """An initialiser or a node that is not there."""
    parts = draw(st.sampled_from([model.graph.initializer, model.graph.node]))
    del parts[draw(st.integers(0, len(parts) - 1))]


def _wired(draw: Callable[..., Any], model: onnx.ModelProto) -> None:
    """Another value than before: of a later node (a cycle), of another rank, of nothing, twice."""
    node = draw(st.sampled_from(list(model.graph.node)))
    names = ["", "x", *(each.output[0] for each in model.graph.node), "shape", "w", "nowhere"]
    ends = draw(st.sampled_from([node.input, node.output]))
    ends[draw(st.integers(0, len(ends) - 1))] = draw(st.sampled_from(names))


def _operator(draw: Callable[..., Any], model: onnx.ModelProto) -> None:
    node = draw(st.sampled_from(list(model.graph.node)))
    node.op_type = draw(st.sampled_from(OTHER_OPS))
    node.domain = draw(st.sampled_from(["", "", "com.example"]))


def _declared(draw: Callable[..., Any], model: onnx.ModelProto) -> None:
    """Opset, format, and what the file says of its input."""
    how = draw(st.integers(0, 3))
    if how == 0:
        model.opset_import[0].version = draw(st.sampled_from([*SIZES, 7, 11, 13, 99]))
    elif how == 1:
        model.ir_version = draw(st.sampled_from([*SIZES, 3, 10]))
    elif how == 2:
        model.graph.input[0].type.tensor_type.elem_type = draw(st.integers(-1, 30))
    else:
        dims = model.graph.input[0].type.tensor_type.shape.dim
        dims[draw(st.integers(0, 3))].dim_value = draw(st.sampled_from(SIZES))


CHANGES = [_attribute, _dims, _values, _numbers, _lost, _wired, _operator, _declared]


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """The file's bytes, changed in one or two places."""
    model = made()
    for _ in range(draw(st.integers(1, 2))):
        try:
            draw(st.sampled_from(CHANGES))(draw, model)
        except (ValueError, TypeError):  # what no file can hold, or changes that exclude each other
            continue
    return bytes(model.SerializeToString())


def like_its_witness(path: Path) -> None:
    """The import, where there is one, computes what ONNX Runtime does, or says that it does not."""
    model = load_model(str(path), SHAPE)
    if max(math.prod(shape) for shape in model.network.shapes.values()) > MOST_RUN:
        return
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    found = model.reference(x, [])
    for name, expected in zip(model.network.outputs, model.witness.outputs(x), strict=True):
        torch.testing.assert_close(
            found[name].reshape(expected.shape).float(), expected.float(), rtol=1e-3, atol=1e-3,
            equal_nan=True,
        )  # fmt: skip


def test_the_file_that_is_changed_is_taken(tmp_path: Path) -> None:
    onnx.save(made(), tmp_path / "m.onnx")
    like_its_witness(tmp_path / "m.onnx")
    assert ends_with_words(["inspect", tmp_path / "m.onnx"]) == 0


@budget(25)
@given(content=files())
def test_any_file_is_like_its_witness_or_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    read_or_refused(lambda: like_its_witness(path))


@budget(20)
@given(content=garbled(made().SerializeToString()))
def test_a_garbled_file_is_like_its_witness_or_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    read_or_refused(lambda: like_its_witness(path))


@pytest.mark.parametrize("factor", [1e9, 3e38, np.inf, np.nan, -1.0])
def test_a_factor_that_no_map_can_have_is_refused_before_it_is_made(
    factor: float, tmp_path: Path
) -> None:
    """A file of a few bytes took all memory, or ended in an OverflowError."""
    model = made()
    scales = next(each for each in model.graph.initializer if each.name == "scales")
    scales.CopyFrom(numpy_helper.from_array(np.float32([1, 1, factor, 2]), "scales"))
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(UnsupportedError, match="op Resize is not supported with a"):
        load_model(str(tmp_path / "m.onnx"), SHAPE)
