"""ONNX files against onnx's own evaluator, and hostile ones."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from nptp_opt.commands.support import input_shape
from nptp_opt.errors import InputError, UnsupportedError
from nptp_opt.network.from_onnx import declared_input
from nptp_opt.network.load import load_model
from tests.network.partitioned import TOLERANCE, largest_error

LIGHT = sorted((Path(onnx.__file__).parent / "backend/test/data/light").glob("*.onnx"))
EXECUTED = {"squeezenet": 1e-5, "shufflenet": TOLERANCE, "inception_v1": TOLERANCE}
"""Squeezenet ends with a softmax of numbers around 7e9, the last bit of which is 1e-6."""


@pytest.mark.parametrize("name", EXECUTED)
def test_light_models_compute_the_same_when_cut_at_random(name):
    (path,) = (path for path in LIGHT if name in path.stem)
    assert largest_error(load_model(str(path), (1, 3, 224, 224))) < EXECUTED[name]


def test_all_nine_light_models_are_there():
    assert len(LIGHT) == 9


def save(path, nodes, inputs, outputs, weights=(), opset=17):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, [None] * 4) for n in outputs],
        [numpy_helper.from_array(v, n) for n, v in weights],
    )
    more = sorted({node.domain for node in nodes} - {""})
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(each, 1) for each in more)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return str(path)


RNG = np.random.default_rng(0)
W = RNG.standard_normal((6, 4, 3, 3)).astype(np.float32)
V = RNG.uniform(0.5, 1.5, 4).astype(np.float32)
I64 = np.int64

SINGLE = {
    "conv-asymmetric": ("Conv", ["x", "w"], {"pads": [0, 2, 1, 1], "strides": [2, 1]}, {"w": W}),
    "conv-same-upper": (
        "Conv", ["x", "w"], {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, {"w": W},
    ),
    "conv-same-lower": ("Conv", ["x", "w"], {"auto_pad": "SAME_LOWER"}, {"w": W[:, :, :2, :2]}),
    "conv-transpose": (
        "ConvTranspose", ["x", "w"],
        {"strides": [2, 3], "pads": [0, 1, 1, 0], "output_padding": [1, 0]},
        {"w": np.ascontiguousarray(W[:4])},
    ),
    "max-pool-asymmetric": (
        "MaxPool", ["x"], {"kernel_shape": [3, 2], "pads": [1, 0, 0, 1], "strides": [2, 2]}, {},
    ),
    "max-pool-ceil": (
        "MaxPool", ["x"], {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}, {},
    ),
    "average-pool-asymmetric": (
        "AveragePool", ["x"], {"kernel_shape": [3, 3], "pads": [0, 1, 1, 1], "strides": [2, 2]}, {},
    ),
    "average-pool-counted": (
        "AveragePool", ["x"],
        {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}, {},
    ),
    "instance-norm": ("InstanceNormalization", ["x", "v", "v"], {}, {"v": V}),
    "batch-norm": ("BatchNormalization", ["x", "v", "v", "v", "v"], {}, {"v": V}),
    "prelu": ("PRelu", ["x", "v"], {}, {"v": V.reshape(4, 1, 1)}),
    "hard-sigmoid": ("HardSigmoid", ["x"], {"alpha": 0.3}, {}),
    "clip": ("Clip", ["x", "", "high"], {}, {"high": np.float32(0.3)}),
    "softmax-channels": ("Softmax", ["x"], {"axis": 1}, {}),
    "reduce-mean": ("ReduceMean", ["x"], {"axes": [2, 3]}, {}),
    "pad-reflect": ("Pad", ["x", "p"], {"mode": "reflect"}, {"p": I64([0, 0, 1, 2, 0, 0, 2, 0])}),
    "pad-edge": ("Pad", ["x", "p"], {"mode": "edge"}, {"p": I64([0, 0, 1, 2, 0, 0, 2, 0])}),
    "slice-steps": (
        "Slice", ["x", "a", "b", "c", "d"], {},
        {"a": I64([1, -5]), "b": I64([9, 99]), "c": I64([2, 3]), "d": I64([2, 1])},
    ),
    "depth-to-space-dcr": ("DepthToSpace", ["x"], {"blocksize": 2}, {}),
    "depth-to-space-crd": ("DepthToSpace", ["x"], {"blocksize": 2, "mode": "CRD"}, {}),
    "resize-linear": (
        "Resize", ["x", "", "s"], {"mode": "linear"}, {"s": np.float32([1, 1, 2, 1.5])},
    ),
    "resize-nearest-floor": (
        "Resize", ["x", "", "s"],
        {"nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"},
        {"s": np.float32([1, 1, 2, 3])},
    ),
    "resize-cubic-corners": (
        "Resize", ["x", "", "", "s"],
        {"mode": "cubic", "coordinate_transformation_mode": "align_corners"},
        {"s": I64([1, 4, 11, 13])},
    ),
    "matmul-whole": ("MatMul", ["x", "m"], {}, {"m": np.ones((8, 3), np.float32)}),
    "transpose": ("Transpose", ["x"], {"perm": [0, 2, 3, 1]}, {}),
}  # fmt: skip


@pytest.mark.parametrize("case", SINGLE)
def test_operators_agree_with_the_reference_evaluator(case, tmp_path):
    op, inputs, attrs, weights = SINGLE[case]
    node = helper.make_node(op, inputs, ["y"], **attrs)
    path = save(tmp_path / "m.onnx", [node], [("x", [1, 4, 9, 8])], ["y"], weights.items())
    model = load_model(path, (1, 4, 9, 8))
    x = RNG.standard_normal((1, 4, 9, 8)).astype(np.float32)
    (expected,) = ReferenceEvaluator(path).run(None, {"x": x})
    (found,) = model.reference(torch.from_numpy(x), []).values()
    np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=1e-4, atol=1e-5)
    assert largest_error(model) < TOLERANCE


def test_local_response_norm_of_even_size_reaches_further_up(tmp_path):
    """By hand: onnx 1.22's evaluator normalises only as many channels as there are samples."""
    node = helper.make_node("LRN", ["x"], ["y"], size=4, alpha=0.1, beta=0.6, bias=1.5)
    path = save(tmp_path / "m.onnx", [node], [("x", [1, 5, 4, 3])], ["y"])
    model, x = load_model(path, (1, 5, 4, 3)), torch.randn(1, 5, 4, 3, dtype=torch.float64)
    squares = torch.stack([(x[:, max(0, c - 1) : c + 3] ** 2).sum(1) for c in range(5)], 1)
    (found,) = model.reference(x, []).values()
    torch.testing.assert_close(found, x / (1.5 + 0.1 / 4 * squares) ** 0.6)
    assert largest_error(model) < TOLERANCE


def test_shapes_that_the_graph_works_out_itself(tmp_path):
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"], axis=0),
        helper.make_node("Unsqueeze", ["n", "axes"], ["n1"]),
        helper.make_node("Concat", ["n1", "rest"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w", "b"], ["y"], transB=1, alpha=0.5),
    ]
    weights = {
        "zero": I64(0), "axes": I64([0]), "rest": I64([-1]),
        "w": RNG.standard_normal((3, 40)).astype(np.float32), "b": np.ones(3, np.float32),
    }  # fmt: skip
    path = save(tmp_path / "m.onnx", nodes, [("x", [2, 2, 4, 5])], ["y"], weights.items())
    model = load_model(path, (2, 2, 4, 5))
    assert largest_error(model) < TOLERANCE
    assert [model.network.shapes[name] for name in model.network.outputs] == [(2, 3)]


def test_weights_that_are_inputs_without_value_are_random_by_seed(tmp_path):
    node = helper.make_node("Conv", ["data", "w"], ["y"], name="the-conv")
    inputs = [("w", [6, 4, 3, 3]), ("data", ["n", 4, None, None])]
    path = save(tmp_path / "m.onnx", [node], inputs, ["y"])
    one, same, other = (load_model(path, (1, 4, 7, 7), seed).weights() for seed in (0, 0, 1))
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not any(torch.equal(one[key], other[key]) for key in one)
    assert [layer.name for layer in load_model(path, (1, 4, 7, 7)).network.layers] == ["the-conv"]


# -- what is refused -----------------------------------------------------------------------------


def refused(path, match, kind=InputError, shape=(1, 4, 9, 8)):
    with pytest.raises(kind, match=match) as caught:
        load_model(str(path), shape)
    assert "\n" not in str(caught.value)


def test_unknown_operators_are_named(tmp_path):
    node = helper.make_node("NonZero", ["x"], ["y"], name="where")
    path = save(tmp_path / "m.onnx", [node], [("x", [1, 4, 9, 8])], ["y"])
    refused(path, "node 'where': op NonZero is not supported", UnsupportedError)


def choice(path, condition):
    """A file with an If whose sides are the input's square and its root; the latter has a rule
    of no engine."""
    sides = {
        f"{side}_branch": helper.make_graph(
            [helper.make_node(op, inputs, [side])], side, [],
            [helper.make_tensor_value_info(side, TensorProto.FLOAT, None)],
        )
        for side, op, inputs in (("then", "Mul", ["x", "x"]), ("else", "Unique", ["x"]))
    }  # fmt: skip
    nodes = [*condition, helper.make_node("If", ["c"], ["y"], name="branch", **sides)]
    return save(path, nodes, [("x", [1, 4, 9, 8])], ["y"], [("t", np.array([1], np.int64))])


def test_of_a_choice_by_shapes_one_side_is_taken(tmp_path):
    """Nothing is asked of the other side, whose operator has no rule."""
    condition = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "t"], ["n"]),
        helper.make_node("Greater", ["n", "t"], ["c"]),
    ]
    model = load_model(choice(tmp_path / "m.onnx", condition), (1, 4, 9, 8))
    x = torch.randn(1, 4, 9, 8)
    (found,) = model.reference(x, []).values()
    assert torch.equal(found, x * x)


@pytest.mark.parametrize("rows", [9, 10])
def test_sides_of_a_choice_may_use_the_same_names(rows, tmp_path):
    """They did not see each other's constants and values."""
    sides = {
        f"{side}_branch": helper.make_graph(
            [helper.make_node("Add", ["x", "c"], ["z"]), helper.make_node("Relu", ["z"], ["w"])],
            side, [], [helper.make_tensor_value_info("w", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(np.float32(value), "c")],
        )
        for side, value in (("then", 1.0), ("else", 5.0))
    }  # fmt: skip
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "two"], ["n"]),
        helper.make_node("Equal", ["n", "nine"], ["c0"]),
        helper.make_node("If", ["c0"], ["y"], name="branch", **sides),
    ]
    given = [("two", I64([2])), ("nine", I64([9]))]
    path = save(tmp_path / "m.onnx", nodes, [("x", [1, 4, rows, 8])], ["y"], given)
    x = torch.randn(1, 4, rows, 8)
    (found,) = load_model(path, (1, 4, rows, 8)).reference(x, []).values()
    torch.testing.assert_close(found, (x + (1.0 if rows == 9 else 5.0)).relu())


def test_control_flow_is_refused_by_name(tmp_path):
    condition = [
        helper.make_node("ReduceMax", ["x"], ["m"], keepdims=0),
        helper.make_node("Cast", ["m"], ["c"], to=TensorProto.BOOL),
    ]
    path = choice(tmp_path / "m.onnx", condition)
    refused(path, "node 'branch': op If .* depends on the data", UnsupportedError)
    body = helper.make_graph(
        [helper.make_node("Identity", ["b"], ["d"]), helper.make_node("Mul", ["a", "a"], ["e"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("b", TensorProto.BOOL, []),
            helper.make_tensor_value_info("a", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("d", TensorProto.BOOL, []),
            helper.make_tensor_value_info("e", TensorProto.FLOAT, None),
        ],
    )
    node = helper.make_node("Loop", ["t", "", "x"], ["y"], name="again", body=body)
    path = save(tmp_path / "n.onnx", [node], [("x", [1, 4, 9, 8])], ["y"], [("t", I64(2))])
    refused(path, "node 'again': op Loop is not supported", UnsupportedError)


def test_what_has_a_size_that_depends_on_data_is_refused_by_name(tmp_path):
    boxes = [("b", [1, 6, 4]), ("s", [1, 1, 6])]
    weights = [(name, RNG.uniform(size=shape).astype(np.float32)) for name, shape in boxes]
    nodes = [
        helper.make_node("Slice", ["x", "i", "j", "i"], ["z"]),
        helper.make_node("ReduceMax", ["z"], ["m"], axes=[0, 1, 2], keepdims=0),
        helper.make_node("Mul", ["s", "m"], ["scores"]),
        helper.make_node("NonMaxSuppression", ["b", "scores"], ["y"], name="boxes"),
    ]
    weights += [("i", I64([0])), ("j", I64([1]))]
    path = save(tmp_path / "m.onnx", nodes, [("x", [1, 1, 6, 1])], ["y"], weights)
    refused(path, "'boxes': op NonMaxSuppression .* depend on data", UnsupportedError, (1, 1, 6, 1))


def test_random_numbers_are_refused_by_name(tmp_path):
    nodes = [
        helper.make_node("RandomNormal", [], ["r"], name="noise", shape=[1, 4, 9, 8]),
        helper.make_node("Add", ["x", "r"], ["y"]),
    ]
    path = save(tmp_path / "m.onnx", nodes, [("x", [1, 4, 9, 8])], ["y"])
    refused(path, "'noise': op RandomNormal .* draws random numbers", UnsupportedError)


def test_unsupported_ways_of_using_an_operator_are_named(tmp_path):
    node = helper.make_node(
        "BatchNormalization", ["x", "v", "v", "v", "v"], ["y"], name="grow", training_mode=1
    )
    path = save(tmp_path / "m.onnx", [node], [("x", [1, 4, 9, 8])], ["y"], [("v", V)])
    refused(path, "'grow'.*training mode", UnsupportedError)


def test_truncated_and_foreign_files_are_refused(tmp_path):
    whole = LIGHT[0].read_bytes()
    for name, content in (("cut", whole[: len(whole) // 2]), ("text", b"hello"), ("empty", b"")):
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(content)
        refused(path, "not a usable ONNX file")
    refused(tmp_path / "absent.onnx", "there is no such file")


def test_cyclic_graphs_are_refused(tmp_path):
    nodes = [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])]
    path = save(tmp_path / "m.onnx", nodes, [("x", [1, 4, 9, 8])], ["b"])
    refused(path, "not a usable ONNX file")


def test_huge_declared_shapes_are_refused_before_they_are_made(tmp_path):
    node = helper.make_node("ConstantOfShape", ["s"], ["c"], name="huge")
    add = helper.make_node("Add", ["x", "c"], ["y"])
    path = save(
        tmp_path / "m.onnx", [node, add], [("x", [1, 4, 9, 8])], ["y"], [("s", I64([2**20, 2**20]))]
    )
    refused(path, "'huge'.*is not possible")
    conv = helper.make_node("Conv", ["x", "w"], ["y"])
    inputs = [("x", [1, 4, 9, 8]), ("w", [2**20, 2**20, 3, 3])]
    refused(save(tmp_path / "n.onnx", [conv], inputs, ["y"]), "input 'w'.*is not possible")


def with_external(path, location):
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    save(path, [node], [("x", [1, 4, 9, 8])], ["y"], [("w", W)])
    model = onnx.load(path)
    tensor = model.graph.initializer[0]
    onnx.external_data_helper.set_external_data(tensor, location=location)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    path.write_bytes(model.SerializeToString())


def test_external_data_is_read_only_from_the_files_folder(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    path = folder / "m.onnx"
    (tmp_path / "secret.bin").write_bytes(W.tobytes())
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    (folder / "w.bin").write_bytes(W.tobytes())
    for location in ("../secret.bin", "/etc/passwd", "link.bin"):
        with_external(path, location)
        refused(path, "not a usable ONNX file|outside the file's folder")
    with_external(path, "w.bin")
    assert torch.equal(
        next(iter(load_model(str(path), (1, 4, 9, 8)).weights().values())), torch.from_numpy(W)
    )
    (folder / "w.bin").unlink()
    with_external(path, "w.bin")
    assert load_model(str(path), (1, 4, 9, 8)).weights()


def test_an_input_that_the_file_does_not_take_is_refused(tmp_path):
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    path = save(tmp_path / "m.onnx", [node], [("x", [1, 4, 9, 8])], ["y"], [("w", W)])
    refused(path, "no input takes 1x3x9x8; inputs: x", shape=(1, 3, 9, 8))
    refused(path, "refuses an input of 1x4x2x2", shape=(1, 4, 2, 2))


@pytest.mark.parametrize(
    ("shape", "declared"),
    [
        ((1, 4, 9, 8), (1, 4, 9, 8)),
        (("n", 4, 9, 8), (1, 4, 9, 8)),
        ((2, 4, 9, 8), (2, 4, 9, 8)),
        ((1, 4, "h", 8), None),
        ((-1, 4, -1, -1), None),
        ((-1, 4, 9, 8), (1, 4, 9, 8)),
    ],
)
def test_the_file_says_for_which_input_it_was_made(tmp_path, shape, declared):
    """Bug: without --input a file that was made for another size was planned for 1x3x224x224.

    Bug: sizes of -1, as Paddle writes open ones, were taken for sizes.
    """
    data = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [data], [out])
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    assert declared_input(path) == declared
    if declared is not None:
        assert input_shape(None, str(path)) == declared
        assert input_shape("1x4x5x5", str(path)) == (1, 4, 5, 5)
