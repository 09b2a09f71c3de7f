"""What no rule reads of an ONNX node is refused by name, whatever the operator."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from nptp_opt.errors import InputError, UnsupportedError
from nptp_opt.network import onnx_rules
from nptp_opt.network.from_onnx import read_onnx
from nptp_opt.network.load import load_model
from nptp_opt.network.onnx_rules import CONTRIBUTED, LEGACY_IDLE, REVIEWED, RULES, Attrs, check_node
from tests.network.partitioned import TOLERANCE, largest_error
from tests.network.test_onnx import refused, save

SHAPE = (1, 4, 8, 12)


def versions(op):
    """Every definition of an operator, by the opset that it is from."""
    found, opset = {}, REVIEWED
    while opset >= 1:
        try:
            schema = onnx.defs.get_schema(op, opset)
        except onnx.defs.SchemaError:
            break
        found[schema.since_version] = schema
        opset = schema.since_version - 1
    return found


def other_than(default):
    """A value of the default's kind that it is not; a whole number where there is none."""
    if isinstance(default, bytes):
        return "another"
    return 7 if default is None else default + 1


OF_ONNX = {op: rule for op, rule in RULES.items() if op not in CONTRIBUTED}
"""Rules whose operators have a schema."""

UNREAD = [
    (op, opset, name)
    for op, rule in OF_ONNX.items()
    for opset, schema in versions(op).items()
    for name in schema.attributes
    if name not in rule.reads | rule.idle | LEGACY_IDLE
]


def test_rules_know_only_attributes_that_some_definition_has():
    for op, rule in OF_ONNX.items():
        same = [name for name, other in RULES.items() if other.run is rule.run]
        schemas = [schema for name in same for schema in versions(name).values()]
        known = {name for schema in schemas for name in schema.attributes}
        assert rule.reads | rule.idle <= known, op
        assert not rule.reads & rule.idle, op


def test_there_is_something_that_no_rule_reads():
    assert ("LayerNormalization", 17, "stash_type") in UNREAD


@pytest.mark.parametrize(("op", "opset", "name"), UNREAD)
def test_what_is_not_read_must_have_its_default(op, opset, name):
    default = versions(op)[opset].attributes[name].default_value
    value = onnx.helper.get_attribute_value(default) if default.name else None
    given = helper.make_node(op, ["x"], ["y"], name="it", **{name: other_than(value)})
    with pytest.raises(UnsupportedError, match=f"node 'it': op {op} .* with {name}="):
        check_node(given, opset, {"x", "y"})
    if value is not None:
        check_node(helper.make_node(op, ["x"], ["y"], **{name: value}), opset, {"x", "y"})


def test_a_rule_sees_only_what_it_declares():
    attrs = Attrs(helper.make_node("Flatten", ["x"], ["y"], axis=2), 13)
    assert attrs["axis"] == 2
    with pytest.raises(KeyError):
        attrs["mode"]


def test_absent_attributes_have_the_default_of_their_opset():
    """Softmax changed its axis from 1 to -1 in opset 13."""
    node = helper.make_node("Softmax", ["x"], ["y"])
    assert [Attrs(node, opset)["axis"] for opset in (11, 13)] == [1, -1]
    assert Attrs(helper.make_node("Conv", ["x", "w"], ["y"]), 22)["auto_pad"] == "NOTSET"


def test_definitions_that_are_newer_than_the_rule_are_refused(monkeypatch):
    old = RULES["Softmax"].__class__(**{**vars(RULES["Softmax"]), "newest": 11})
    monkeypatch.setitem(RULES, "Softmax", old)
    node = helper.make_node("Softmax", ["x"], ["y"], name="it")
    check_node(node, 12, {"x", "y"})
    with pytest.raises(UnsupportedError, match="its definition of opset 13: that of opset 11"):
        check_node(node, 13, {"x", "y"})


def test_inputs_and_outputs_beyond_the_rule_are_refused_where_they_are_used():
    inputs = ["x", *"sbmv"]
    node = helper.make_node("BatchNormalization", inputs, ["y", "mean"], name="it")
    check_node(node, 15, {*inputs, "y"})
    with pytest.raises(UnsupportedError, match=r"output 2 \(running_mean, here 'mean'\)"):
        check_node(node, 15, {*inputs, "y", "mean"})
    masked = helper.make_node("Dropout", ["x"], ["y", "mask"])
    with pytest.raises(UnsupportedError, match=r"output 2 \(mask, here 'mask'\)"):
        check_node(masked, 13, {"x", "y", "mask"})
    more = helper.make_node("Relu", ["x", "z"], ["y"])
    with pytest.raises(UnsupportedError, match=r"op Relu .* input 2"):
        check_node(more, 14, {"x", "y", "z"})


def test_two_rules_for_one_operator_are_a_mistake():
    with pytest.raises(KeyError, match="two rules for Relu"):
        onnx_rules.op("Relu")(lambda attrs, x: x)


# -- faults that were seen ------------------------------------------------------------------------


def one_node(path, op, *, constants=(), opset=17, **attrs):
    names = ["x", *(name for name, _ in constants)]
    node = helper.make_node(op, names, ["y"], name="it", **attrs)
    given = [(name, value) for name, value in constants if name]
    return save(path, [node], [("x", list(SHAPE))], ["y"], given, opset=opset)


def outputs(path):
    """What the import computes for one input, and what the witness does."""
    model = load_model(path, SHAPE)
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    witness = read_onnx(Path(path), SHAPE, 0).witness()
    return list(model.reference(x, []).values()), witness.outputs(x)


@pytest.mark.parametrize("axis", [-4, -3, -2, -1])
def test_flatten_counts_negative_axes_from_the_rank(axis, tmp_path):
    """Bug: -2 gave 64x12 of a map of 1x8x8x12 instead of 8x96."""
    one_node(tmp_path / "m.onnx", "Flatten", axis=axis)
    module, x = read_onnx(tmp_path / "m.onnx", SHAPE, 0), torch.randn(SHAPE)
    assert torch.equal(module(x)[0], module.witness().outputs(x)[0])


@pytest.mark.parametrize("op", ["SpaceToDepth", "DepthToSpace"])
@pytest.mark.parametrize("mode", ["CRD", "DCR"])
def test_both_pixel_shuffles_read_their_mode(op, mode, tmp_path):
    """Bug: SpaceToDepth, which has a mode since opset 28, always did DCR."""
    path = one_node(tmp_path / "m.onnx", op, opset=28, mode=mode, blocksize=2)
    (found,), (expected,) = outputs(path)
    assert torch.equal(found.reshape(expected.shape), expected)
    assert largest_error(load_model(path, SHAPE)) < TOLERANCE


@pytest.mark.parametrize("rounding", ["ceil", "floor", "round_prefer_ceil", "round_prefer_floor"])
def test_a_nearest_resize_is_rounded_as_its_node_says(rounding, tmp_path):
    """Bug: by sizes at half-pixel centres, rounded up, was computed as rounded down."""
    sizes = [("", None), ("", None), ("sizes", np.int64([1, 4, 16, 24]))]
    path = one_node(
        tmp_path / "m.onnx", "Resize", constants=sizes, mode="nearest", nearest_mode=rounding
    )
    (found,), (expected,) = outputs(path)
    assert torch.equal(found, expected)
    assert largest_error(load_model(path, SHAPE)) < TOLERANCE


def test_corners_are_spread_over_the_elements_that_there_are(tmp_path):
    """The onnx package's evaluator spreads them over 9.6 elements, ONNX Runtime over 9."""
    scales = [("", None), ("s", np.float32([1, 1, 1, 0.8]))]
    mode = {"mode": "linear", "coordinate_transformation_mode": "align_corners"}
    (found,), (expected,) = outputs(
        one_node(tmp_path / "m.onnx", "Resize", constants=scales, **mode)
    )
    torch.testing.assert_close(found, expected)


def test_batch_norm_of_old_opsets_in_training_is_refused(tmp_path):
    """Bug: is_test and spatial were not read; without is_test the statistics are the batch's."""
    ones = [(name, np.ones(4, np.float32)) for name in ("s", "b", "m", "v")]
    for attrs, why in (({}, "training mode"), ({"is_test": 1, "spatial": 0}, "spatial=0")):
        path = one_node(tmp_path / "m.onnx", "BatchNormalization", constants=ones, opset=6, **attrs)
        refused(path, f"'it': op BatchNormalization .* {why}", UnsupportedError, SHAPE)


def test_slopes_of_old_opsets_lie_along_the_channels(tmp_path):
    """Bug: a vector of slopes was broadcast along the last axis before opset 7 too."""
    slopes = [("s", np.float32([0.1, 0.2, 0.3, 0.4]))]
    path = one_node(tmp_path / "m.onnx", "PRelu", constants=slopes, opset=6)
    (found,), _ = outputs(path)
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(found, torch.nn.functional.prelu(x, torch.tensor(slopes[0][1])))


def test_reductions_over_no_axes_may_be_nothing(tmp_path):
    """Bug: noop_with_empty_axes was not read."""
    axes = [("a", np.int64([]))]
    one_node(tmp_path / "m.onnx", "ReduceSum", constants=axes, opset=13, noop_with_empty_axes=1)
    x = torch.randn(SHAPE)
    assert torch.equal(read_onnx(tmp_path / "m.onnx", SHAPE, 0)(x)[0], x)


def test_pools_may_pad_more_than_half_a_window(tmp_path):
    """Bug: such files ended in torch's complaint, which named no operator."""
    for op in ("MaxPool", "AveragePool"):
        path = one_node(
            tmp_path / "m.onnx", op, kernel_shape=[3, 3], pads=[2, 2, 2, 2], strides=[2, 2]
        )
        (found,), (expected,) = outputs(path)
        torch.testing.assert_close(found, expected)
        assert largest_error(load_model(path, SHAPE)) < TOLERANCE


def test_torchs_own_complaints_come_with_the_operator(tmp_path):
    path = one_node(tmp_path / "m.onnx", "Reshape", constants=[("s", np.int64([1, 5, -1]))])
    refused(path, "op Reshape: ", shape=SHAPE)


def test_opsets_from_the_future_are_refused(tmp_path):
    path = one_node(tmp_path / "m.onnx", "Relu", opset=onnx.defs.onnx_opset_version() + 1)
    refused(path, "opset .* is not known to the onnx package", UnsupportedError, SHAPE)


def test_operators_of_other_domains_are_not_taken_for_onnx_s(tmp_path):
    node = helper.make_node("Relu", ["x"], ["y"], name="it", domain="org.example")
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * 4)],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("org.example", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "m.onnx")
    refused(
        tmp_path / "m.onnx",
        "'it': op Relu of org.example is not supported",
        UnsupportedError,
        SHAPE,
    )


def typed(path, nodes, inputs):
    """A file whose inputs have these types and shapes."""
    given = [helper.make_tensor_value_info(*each) for each in inputs]
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * 4)
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", given, [out]), ir_version=8), path)
    return path


def test_only_floating_point_is_taken_and_only_float32_made_up(tmp_path):
    """Bug: missing whole numbers were drawn as random fractions."""
    relu = [helper.make_node("Relu", ["x"], ["y"])]
    path = typed(tmp_path / "m.onnx", relu, [("x", TensorProto.INT32, SHAPE)])
    refused(path, "input 'x' takes INT32", UnsupportedError, SHAPE)
    inputs = [("x", TensorProto.FLOAT, SHAPE), ("s", TensorProto.INT64, [4])]
    shaped = [helper.make_node("Reshape", ["x", "s"], ["y"])]
    path = typed(tmp_path / "n.onnx", shaped, inputs)
    refused(path, "input 's' has no value, and only FLOAT", shape=SHAPE)


def test_open_sizes_of_other_inputs_are_those_of_the_data(tmp_path):
    inputs = [
        ("x", TensorProto.FLOAT, ["n", 4, "h", 12]),
        ("z", TensorProto.FLOAT, ["batch", 4, "h", 1]),
    ]
    path = typed(tmp_path / "m.onnx", [helper.make_node("Add", ["x", "z"], ["y"])], inputs)
    assert [*load_model(str(path), SHAPE).network.params.values()] == [(1, 4, 8, 1)]
    inputs[1] = ("z", TensorProto.FLOAT, ["batch", 4, "other", 1])
    refused(typed(path, [helper.make_node("Add", ["x", "z"], ["y"])], inputs), "no fixed shape")


def test_sparse_weights_are_refused(tmp_path):
    values = numpy_helper.from_array(np.float32([1.0]), "w")
    sparse = helper.make_sparse_tensor(values, numpy_helper.from_array(np.int64([0])), [4])
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, SHAPE)
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    graph.sparse_initializer.append(sparse)
    onnx.save(helper.make_model(graph, ir_version=8), tmp_path / "m.onnx")
    refused(tmp_path / "m.onnx", "initialiser 'w' is sparse", UnsupportedError, SHAPE)


def test_what_depends_on_the_data_is_named_with_its_operator(tmp_path):
    nodes = [
        helper.make_node("Cast", ["x"], ["n"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["x", "n"], ["y"], name="it"),
    ]
    path = save(tmp_path / "m.onnx", nodes, [("x", [1, 4, 1, 1])], ["y"])
    refused(path, "'it': op Reshape .* depends on the data", UnsupportedError, (1, 4, 1, 1))


def test_an_output_that_is_constant_is_refused(tmp_path):
    nodes = [
        helper.make_node("Relu", ["x"], ["y"]),
        helper.make_node("Identity", ["c"], ["z"]),
    ]
    path = save(
        tmp_path / "m.onnx", nodes, [("x", SHAPE)], ["y", "z"], [("c", np.ones(SHAPE, np.float32))]
    )
    refused(path, "output 'z' .op Identity. does not depend on the input", UnsupportedError, SHAPE)


def test_a_part_without_elements_is_left_out_and_refused_anywhere_else(tmp_path):
    """Bug: a split of which one part is empty ended in a division by its size."""
    sizes = [("s", np.int64([12, 0]))]
    split = helper.make_node("Split", ["x", "s"], ["a", "b"], axis=3)
    joined = helper.make_node("Concat", ["a", "b"], ["y"], axis=3)
    path = save(tmp_path / "m.onnx", [split, joined], [("x", SHAPE)], ["y"], sizes)
    (found,), (expected,) = outputs(path)
    assert torch.equal(found, expected)
    relu = helper.make_node("Relu", ["b"], ["y"], name="it")
    path = save(tmp_path / "n.onnx", [split, relu], [("x", SHAPE)], ["y"], sizes)
    refused(path, "'it': op Relu .* without elements, 1x4x8x0", UnsupportedError, SHAPE)


def test_whole_numbers_become_fractions_where_they_are_cast(tmp_path):
    """Bug: a cast to FLOAT did nothing, whatever it was given."""
    nodes = [
        helper.make_node("ArgMax", ["x"], ["i"], axis=1),
        helper.make_node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["f", "two"], ["y"]),
    ]
    path = save(tmp_path / "m.onnx", nodes, [("x", SHAPE)], ["y"], [("two", np.float32(2))])
    (found,), (expected,) = outputs(path)
    assert torch.equal(found.reshape(expected.shape), expected)
    assert (expected % 1 == 0.5).any()


def test_whole_numbers_are_divided_towards_zero():
    """Bug: their quotient was a fraction."""
    attrs = Attrs(helper.make_node("Div", ["a", "b"], ["y"]), 17)
    found = RULES["Div"].run(attrs, torch.tensor([-7, 7, 6]), torch.tensor([2, 2, 3]))
    assert found.tolist() == [-3, 3, 2]


def test_a_constant_of_one_element_keeps_its_dimensions(tmp_path):
    """Bug: one that was worked out from shapes was a number: the result lost dimensions."""
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Cast", ["s"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Slice", ["f", "one", "two"], ["c"]),
        helper.make_node("Reshape", ["c", "ones"], ["cc"]),
        helper.make_node("ReduceMax", ["x"], ["m"], axes=[0, 1, 2], keepdims=0),
        helper.make_node("Mul", ["m", "cc"], ["y"]),
    ]
    given = [("one", np.int64([1])), ("two", np.int64([2])), ("ones", np.int64([1, 1, 1, 1]))]
    path = save(tmp_path / "m.onnx", nodes, [("x", SHAPE)], ["y"], given)
    found, expected = read_onnx(Path(path), SHAPE, 0)(torch.ones(SHAPE))[0], torch.full((12,), 4.0)
    assert torch.equal(found, expected.reshape(1, 1, 1, 12))


def test_known_places_are_slices_where_they_are_few_runs(tmp_path):
    """So channels that are picked by places stay maps; they were not known at all."""
    for places in ([0, 1, 2], [3, 1, 0], [-1, 0], [1, 3]):
        path = one_node(tmp_path / "m.onnx", "Gather", constants=[("i", np.int64(places))], axis=1)
        model = load_model(path, SHAPE)
        (found,), (expected,) = outputs(path)
        assert torch.equal(found.reshape(expected.shape), expected)
        assert {layer.kind for layer in model.network.layers} == {"spatial"}
        assert largest_error(model) < TOLERANCE


def test_places_of_maxima_are_counted_over_all_channels(tmp_path):
    nodes = [
        helper.make_node("MaxPool", ["x"], ["p", "i"], kernel_shape=[2, 2], storage_order=order,
                         strides=[2, 2], name=f"pool{order}")
        for order in (0, 1)
    ]  # fmt: skip
    for node in nodes:
        last = helper.make_node("Cast", ["i"], ["y"], to=TensorProto.FLOAT)
        path = save(tmp_path / "m.onnx", [node, last], [("x", SHAPE)], ["y"])
        (found,), (expected,) = outputs(path)
        assert torch.equal(found.reshape(expected.shape), expected)


def test_a_witness_without_the_operator_says_so(tmp_path):
    """Bug: it ended in a traceback: neither engine has a function for GlobalLpPool."""
    path = one_node(tmp_path / "m.onnx", "GlobalLpPool", p=3, opset=22)
    module = read_onnx(Path(path), SHAPE, 0)
    x = torch.randn(SHAPE)
    sums = (x.double().abs() ** 3).sum((2, 3), keepdim=True)
    torch.testing.assert_close(module(x)[0].double(), sums ** (1 / 3), rtol=1e-5, atol=0.0)
    with pytest.raises(InputError, match=r"evaluator .* cannot run the file: No registered"):
        module.witness().outputs(x)
