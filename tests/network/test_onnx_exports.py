"""Files as exporters write them: imported, cut at random, equal to ONNX Runtime."""

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from nptp_opt.errors import UnsupportedError
from nptp_opt.network.from_onnx import read_onnx
from nptp_opt.network.load import load_model
from tests.network import onnx_exports
from tests.network.partitioned import TOLERANCE, largest_error, whole_convolutions
from tests.network.test_onnx import refused

SHAPES = {
    "yolo8": (1, 3, 64, 64),
    "yolo5": (1, 3, 32, 32),
    "channels_last": (1, 32, 32, 3),
    "quantised": (1, 3, 16, 16),
    "half": (1, 3, 16, 16),
    "reader": (1, 1, 8, 20),
}
NEAR = {"half": 2e-3}
"""Relative differences to ONNX Runtime, which computes float16 in float32: where not 1e-5."""


@pytest.mark.parametrize("name", SHAPES)
def test_an_export_computes_what_onnx_runtime_does_however_it_is_cut(name, tmp_path):
    model = load_model(getattr(onnx_exports, name)(tmp_path / "m.onnx"), SHAPES[name])
    x = torch.randn(SHAPES[name], generator=torch.Generator().manual_seed(0))
    found, expected = model.reference(x, []), model.witness_outputs(x)
    assert model.witness.name.startswith("ONNX Runtime")
    for output, value in expected.items():
        far = (found[output].reshape(value.shape) - value).abs().max() / value.abs().max()
        assert far < NEAR.get(name, 1e-5), output
    assert largest_error(model) < TOLERANCE


@pytest.mark.parametrize("name", SHAPES)
def test_the_convolutions_of_an_export_are_cut(name, tmp_path):
    """Bug: none was in files from TensorFlow, which turn every map around its convolutions."""
    model = load_model(getattr(onnx_exports, name)(tmp_path / "m.onnx"), SHAPES[name])
    in_head = [op for op in whole_convolutions(model.network) if name == "yolo8"]
    assert len(whole_convolutions(model.network)) == len(in_head) <= 1
    if name == "channels_last":
        assert not [node for layer in model.network.spatial for node in layer.nodes
                    if node.op == "relayout"]  # fmt: skip


def test_quantised_numbers_are_those_of_onnx_runtime(tmp_path):
    """Not one of them is rounded the other way."""
    path = onnx_exports.quantised(tmp_path / "m.onnx")
    model, x = load_model(path, SHAPES["quantised"]), torch.randn(SHAPES["quantised"])
    ((name, expected),) = model.witnessed(x).items()
    assert torch.equal(model.reference(x, [])[name].reshape(expected.shape), expected)


def test_functions_of_a_file_are_put_in_their_place(tmp_path):
    """Bug: such files were refused, as the package's inliner was not imported."""
    nodes = [helper.make_node("Sigmoid", ["a"], ["s"]), helper.make_node("Mul", ["a", "s"], ["b"])]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    silu = helper.make_function("own", "Silu", ["a"], ["b"], nodes, opsets[:1])
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 4, 8, 12]) for n in "xy"]
    call = helper.make_node("Silu", ["x"], ["y"], domain="own")
    graph = helper.make_graph([call], "g", values[:1], values[1:])
    made = helper.make_model(graph, functions=[silu], opset_imports=opsets, ir_version=9)
    onnx.save(made, tmp_path / "m.onnx")
    model, x = load_model(str(tmp_path / "m.onnx"), (1, 4, 8, 12)), torch.randn(1, 4, 8, 12)
    (found,) = model.reference(x, []).values()
    torch.testing.assert_close(found, torch.nn.functional.silu(x))
    assert largest_error(model) < TOLERANCE


def test_operators_that_onnx_defines_by_others_need_no_rule(tmp_path):
    """Bug of the package's inliner: what a node leaves to defaults, it leaves out of the body."""
    g = onnx_exports.Exported(13)
    y = g.add("MeanVarianceNormalization", ["x"])
    path = g.save(tmp_path / "m.onnx", [3, 4, 5, 6], {y: 4})
    model, x = load_model(path, (3, 4, 5, 6)), torch.randn(3, 4, 5, 6)
    (found,), (expected,) = model.reference(x, []).values(), model.witness.outputs(x)
    torch.testing.assert_close(found.reshape(expected.shape), expected, rtol=1e-4, atol=1e-4)
    assert largest_error(model) < TOLERANCE


def test_large_weights_stay_out_of_what_is_put_in_place(tmp_path):
    g = onnx_exports.Exported(17)
    y = g.add("Conv", ["x", g.drawn(16, 4, 3, 3)])
    y, _ = g.add("LayerNormalization", [y, g.drawn(6), g.drawn(6)], 2, axis=-1)
    path = g.save(tmp_path / "m.onnx", [1, 4, 8, 8], {y: 4, _: 4})
    module, x = read_onnx(tmp_path / "m.onnx", (1, 4, 8, 8), 0), torch.randn(1, 4, 8, 8)
    for found, expected in zip(module(x), module.witness().outputs(x), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert largest_error(load_model(path, (1, 4, 8, 8))) < TOLERANCE


@pytest.mark.parametrize(
    ("attrs", "why"),
    [({"activations": ["Relu", "Tanh", "Tanh"]}, "activations"), ({"clip": 1.0}, "clip=1.0")],
)
def test_what_torch_s_recurrent_layers_lack_is_refused(attrs, why, tmp_path):
    g = onnx_exports.Exported(14)
    x = g.add("Squeeze", ["x", g.const([0], onnx_exports.I64)])
    y, _, _ = g.add("LSTM", [x, g.drawn(1, 8, 5), g.drawn(1, 8, 2)], 3, hidden_size=2, **attrs)
    path = g.save(tmp_path / "m.onnx", [1, 4, 3, 5], {y: 4})
    refused(path, f"op LSTM is not supported with {why}", UnsupportedError, (1, 4, 3, 5))
