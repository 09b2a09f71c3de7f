"""The witness of an ONNX file: another engine with the same weights."""

import sys

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from nptp_opt.errors import InputError
from nptp_opt.network import onnx_witness
from nptp_opt.network.from_onnx import read_onnx
from nptp_opt.network.onnx_rules import RULES
from tests.network.test_onnx import W, save, with_external

SHAPE = (1, 4, 9, 8)
NODES = [
    helper.make_node("Conv", ["x", "w"], ["a"], name="first"),
    helper.make_node("Relu", ["a"], ["b"]),
    helper.make_node("MaxPool", ["b"], ["c"], name="pool.two", kernel_shape=[2, 2]),
]
X = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def file(tmp_path):
    save(tmp_path / "m.onnx", NODES, [("x", SHAPE)], ["c", "b"], [("w", W)])
    return tmp_path / "m.onnx"


def agrees(module, x=X):
    """Witness and module give the same outputs in the file's order; the witness."""
    witness = module.witness()
    with torch.no_grad():
        found = module(x)
    expected = witness.outputs(x)
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    return witness


def test_onnx_runtime_gives_the_outputs_in_order(file):
    assert agrees(read_onnx(file, SHAPE, 0)).name.startswith("ONNX Runtime ")


def test_inner_values_bear_the_names_of_the_import(file):
    module = read_onnx(file, SHAPE, 0)
    values = list(module.witness().inner(X))
    assert [name for name, _ in values] == [*module.nodes] == ["first", "b", "pool_two"]
    for (_, value), shape in zip(values, [(1, 6, 7, 6), (1, 6, 7, 6), (1, 6, 6, 5)], strict=True):
        assert value.shape == shape
    assert torch.equal(values[1][1], values[0][1].relu())


def test_the_witness_shares_no_rule_with_the_import(file, monkeypatch):
    """A broken rule changes the import alone, and the inner values tell where."""
    monkeypatch.setitem(
        RULES, "Relu", RULES["Relu"].__class__(**{**vars(RULES["Relu"]), "run": lambda a, x: -x})
    )
    module = read_onnx(file, SHAPE, 0)
    witness, seen = module.witness(), {}
    for name, node in module.nodes.items():
        node.register_forward_hook(lambda _, __, value, name=name: seen.update({name: value}))
    with torch.no_grad():
        assert not torch.allclose(module(X)[0], witness.outputs(X)[0])
    wrong = [name for name, value in witness.inner(X) if not torch.allclose(value, seen[name])]
    assert wrong == ["b", "pool_two"]


def test_without_onnx_runtime_the_evaluator_is_asked(file, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    module = read_onnx(file, SHAPE, 0)
    assert agrees(module).name == f"onnx reference evaluator {onnx.__version__}"
    assert [name for name, _ in module.witness().inner(X)] == ["first", "b", "pool_two"]


def test_what_onnx_runtime_refuses_the_evaluator_is_asked(tmp_path):
    """ONNX Runtime has no PRelu from before opset 7."""
    node = helper.make_node("PRelu", ["x", "s"], ["y"])
    slopes = [("s", np.float32([0.1]))]
    save(tmp_path / "m.onnx", [node], [("x", SHAPE)], ["y"], slopes, opset=6)
    assert "evaluator" in agrees(read_onnx(tmp_path / "m.onnx", SHAPE, 0)).name


@pytest.mark.parametrize(
    "attrs", [{"size": 3}, {"size": 4}, {"size": 3, "alpha": 0.1, "beta": 0.6, "bias": 1.5}]
)
def test_the_evaluator_normalises_all_channels(attrs, tmp_path, monkeypatch):
    """Bug: onnx's own does so with as many as there are samples; of even size there is no other."""
    monkeypatch.setattr(onnx_witness, "_runtime", lambda *_, **__: None)
    node = helper.make_node("LRN", ["x"], ["y"], **attrs)
    save(tmp_path / "m.onnx", [node], [("x", SHAPE)], ["y"])
    assert "evaluator" in agrees(read_onnx(tmp_path / "m.onnx", SHAPE, 0), 30 * X).name


def test_what_onnx_runtime_gives_up_on_the_evaluator_is_asked(file, monkeypatch):
    def give_up(*_):
        raise RuntimeError("no kernel")

    monkeypatch.setattr(onnx_witness, "_runtime", lambda *_, **__: ("ONNX Runtime 0", give_up))
    assert "evaluator" in agrees(read_onnx(file, SHAPE, 0)).name


def test_what_no_engine_runs_is_one_line(file, monkeypatch):
    class Broken:
        def __init__(self, _, new_ops):
            pass

        def run(self, *_):
            raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr(onnx_witness, "_runtime", lambda *_, **__: None)
    monkeypatch.setattr(onnx_witness, "ReferenceEvaluator", Broken)
    with pytest.raises(InputError, match=r"cannot run the file: first line$"):
        read_onnx(file, SHAPE, 0).witness().outputs(X)


def test_weights_that_were_made_up_are_the_same(tmp_path):
    inputs = [("w", [6, 4, 3, 3]), ("x", ["n", 4, None, None])]
    save(tmp_path / "m.onnx", NODES, inputs, ["c"])
    agrees(read_onnx(tmp_path / "m.onnx", SHAPE, 3))


def test_weights_beside_the_file_are_read_or_made_up(tmp_path):
    (tmp_path / "w.bin").write_bytes(W.tobytes())
    with_external(tmp_path / "m.onnx", "w.bin")
    agrees(read_onnx(tmp_path / "m.onnx", SHAPE, 0))
    (tmp_path / "w.bin").unlink()
    agrees(read_onnx(tmp_path / "m.onnx", SHAPE, 0))


def test_shapes_that_the_file_declares_for_another_input_are_forgotten(tmp_path):
    inner = helper.make_tensor_value_info("a", TensorProto.FLOAT, [1, 6, 30, 30])
    graph = helper.make_graph(
        NODES,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 32, 32])],
        [helper.make_tensor_value_info("c", TensorProto.FLOAT, [1, 6, 29, 29])],
        [onnx.numpy_helper.from_array(W, "w")],
        value_info=[inner],
    )
    onnx.save(helper.make_model(graph, ir_version=8), tmp_path / "m.onnx")
    agrees(read_onnx(tmp_path / "m.onnx", SHAPE, 0))


def test_weights_beyond_a_message_go_through_a_file(file, monkeypatch):
    monkeypatch.setattr(onnx_witness, "MESSAGE_LIMIT", 0)
    assert agrees(read_onnx(file, SHAPE, 0)).name.startswith("ONNX Runtime ")


def test_the_engine_is_made_when_it_is_asked(file):
    """A file that is gone by then is named."""
    module = read_onnx(file, SHAPE, 0)
    witness = module.witness()
    file.unlink()
    with pytest.raises(InputError, match="there is no such file"):
        witness.outputs(X)


def test_sums_of_bytes_are_not_saturated(tmp_path):
    """Bug: on x86 without dot products of bytes ONNX Runtime adds two products in 16 bits, and the
    import of a quantised MobileNet was 18 steps off its witness."""
    weight = np.full((16, 64, 1, 1), 127, dtype=np.int8)
    numbers = {"one": np.float32(1), "none": np.uint8(0), "w": weight, "zero": np.int8(0),
               "scale": np.float32(1 / (127 * 64))}  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "one", "none"], ["q"]),
        helper.make_node(
            "QLinearConv", ["q", "one", "none", "w", "scale", "zero", "one", "none"], ["c"]
        ),
        helper.make_node("DequantizeLinear", ["c", "one", "none"], ["y"]),
    ]
    shape = (1, 64, 4, 4)
    weights = [(name, np.asarray(value)) for name, value in numbers.items()]
    save(tmp_path / "m.onnx", nodes, [("x", shape)], ["y"], weights)
    x = torch.full(shape, 255.0)
    assert torch.equal(
        read_onnx(tmp_path / "m.onnx", shape, 0).witness().outputs(x)[0],
        torch.full((1, 16, 4, 4), 255.0),
    )


def test_a_file_that_exact_sums_are_not_for_goes_to_onnx_runtime_as_it_is(tmp_path):
    """Of signed bytes its QGemm takes signed weights alone, and needs no other sums."""
    inputs = ["q", "one", "zero", "w", "one", "zero", "", "one", "zero"]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "one", "zero"], ["q"]),
        helper.make_node("QGemm", inputs, ["c"], domain="com.microsoft", transB=1),
        helper.make_node("DequantizeLinear", ["c", "one", "zero"], ["y"]),
    ]
    weight = np.eye(4, dtype=np.int8)
    numbers = {"one": np.float32(1), "zero": np.int8(0), "w": weight}
    weights = [(name, np.asarray(value)) for name, value in numbers.items()]
    save(tmp_path / "m.onnx", nodes, [("x", (2, 4))], ["y"], weights)
    witness = read_onnx(tmp_path / "m.onnx", (2, 4), 0).witness()
    x = torch.tensor([[1.0, -2.0, 3.0, 200.0], [0.0, 0.0, 5.0, -200.0]])
    assert torch.equal(witness.outputs(x)[0], x.clamp(-128, 127))
    assert witness.name.startswith("ONNX Runtime ")
