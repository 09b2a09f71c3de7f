"""Models that are written without the onnx package are what that package writes."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from nptp_opt.kernels.executors import onnx_bytes
from nptp_opt.kernels.executors.onnx_bytes import OnnxNode

WEIGHT = np.arange(54, dtype=np.float32).reshape(2, 3, 3, 3)
SIZES = np.array([1, -1], dtype=np.int64)


def ours() -> bytes:
    nodes = [
        OnnxNode("Conv", ("x", "w"), "a", {"pads": [0, 1, 200, 0], "group": 1}),
        OnnxNode("Elu", ("a",), "b", {"alpha": 0.7}),
        OnnxNode("Clip", ("b", "", "high"), "c", {}),
        OnnxNode("Gelu", ("c",), "d", {"approximate": "tanh"}),
        OnnxNode("Reshape", ("d", "sizes"), "y", {"allowzero": -1}),
    ]
    tensors = [
        onnx_bytes.tensor("w", WEIGHT),
        onnx_bytes.tensor("high", np.array(6.0, dtype=np.float32)),
        onnx_bytes.tensor("sizes", SIZES),
    ]
    graph = onnx_bytes.graph("g", nodes, tensors, {"x": (1, 3, 300, 8)}, {"y": (1, 300)})
    return onnx_bytes.model(graph, 20, 10)


def theirs() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[0, 1, 200, 0], group=1),
        helper.make_node("Elu", ["a"], ["b"], alpha=0.7),
        helper.make_node("Clip", ["b", "", "high"], ["c"]),
        helper.make_node("Gelu", ["c"], ["d"], approximate="tanh"),
        helper.make_node("Reshape", ["d", "sizes"], ["y"], allowzero=-1),
    ]
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 300, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 300])],
        [numpy_helper.from_array(WEIGHT, "w"),
         numpy_helper.from_array(np.array(6.0, dtype=np.float32), "high"),
         numpy_helper.from_array(SIZES, "sizes")],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 20)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def test_a_model_has_the_fields_that_the_onnx_package_writes() -> None:
    """Attributes of each kind, an input that is left out, numbers below 0 and above 127."""
    found, expected = onnx.ModelProto.FromString(ours()), theirs()
    for node in expected.graph.node:  # the order of attributes means nothing
        attributes = sorted(node.attribute, key=lambda each: each.name, reverse=True)
        del node.attribute[:]
        node.attribute.extend(attributes)
    assert found == expected


def test_a_weight_elsewhere_names_no_file() -> None:
    """The session is handed its memory."""
    found = TensorProto.FromString(onnx_bytes.tensor_elsewhere("w", WEIGHT))
    assert (found.name, list(found.dims)) == ("w", [2, 3, 3, 3])
    assert found.data_location == TensorProto.EXTERNAL and not found.raw_data
    assert [(entry.key, entry.value) for entry in found.external_data] == [("location", "memory")]
    found = TensorProto.FromString(onnx_bytes.tensor_at_address("w", WEIGHT))
    entries = {entry.key: entry.value for entry in found.external_data}
    assert entries["location"] == "*/_ORT_MEM_ADDR_/*" and not found.raw_data
    assert int(entries["offset"]) == WEIGHT.ctypes.data and int(entries["length"]) == WEIGHT.nbytes
