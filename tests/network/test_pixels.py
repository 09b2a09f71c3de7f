"""Inputs of uint8: the network normalises them itself, and nothing differs by a bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import nptp_opt
from nptp_opt.cost import sent_bytes, wire_dtype
from nptp_opt.errors import InputError
from nptp_opt.kernels import run_network
from nptp_opt.network.given import random_inputs
from nptp_opt.network.pixels import normalised
from nptp_opt.network.ref import Pixels, pixels_of
from nptp_opt.plan.document import plan_from_json, plan_to_json
from nptp_opt.verification.import_check import check_import
from tests.builders import make_cluster
from tests.models import small_cnn
from tests.network.several_inputs import OneUnused, TwoImages

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SHAPE = (1, 3, 16, 15)


def test_the_result_is_that_of_normalising_first_to_the_bit() -> None:
    """All 256 values in every channel, against torch's own operations in the stated order."""
    module = small_cnn().eval()
    loaded = nptp_opt.load_model(module, SHAPE, input_dtype="uint8", scale=255, mean=MEAN, std=STD)
    plain = nptp_opt.load_model(module, SHAPE)
    pixels = (torch.arange(720) % 256).to(torch.uint8).view(SHAPE)
    first = (pixels.float() / 255 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[
        :, None, None
    ]
    made = dict(run_network(loaded.network, loaded.weights(), pixels))
    wanted = dict(run_network(plain.network, plain.weights(), first))
    assert wanted.keys() < made.keys()
    for name, values in wanted.items():
        assert torch.equal(made[name], values)
    witnessed, own = loaded.witness_outputs(pixels), plain.witness_outputs(first)
    assert all(torch.equal(witnessed[name], own[name]) for name in own)
    with torch.no_grad():
        assert torch.equal(next(iter(own.values())), module(first))


def test_pixels_are_sent_as_bytes_and_maps_as_before() -> None:
    """A byte per element, whatever type maps are sent as."""
    loaded = nptp_opt.load_model(small_cnn().eval(), SHAPE, input_dtype="uint8", scale=255)
    network, cluster = loaded.network, make_cluster([1.0, 1.0]).sending_as("int8")
    (image,) = network.inputs
    assert wire_dtype(cluster, network, image) == "uint8"
    assert sent_bytes(cluster, network, image, network.full(image)) == 3 * 16 * 15
    assert network.layers[0].name == image.removesuffix(".pixels")
    first = network.layers[0]
    assert sent_bytes(cluster, network, first.name, first.full) == 3 * 16 * 15 + 4
    x = random_inputs(network, 0)[0]
    assert x.dtype == torch.float32 and torch.equal(x, x.to(torch.uint8).float())


def test_a_model_that_casts_and_divides_itself_gets_no_layer() -> None:
    """It takes the values as they are: only the input's type is another."""

    class Camera(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(self.conv(x.to(torch.float32) / 255.0))

    loaded = nptp_opt.load_model(Camera(), SHAPE, input_dtype="uint8")
    assert loaded.network.input_dtypes == {"x": "uint8"}
    check_import(loaded)


def _two_cameras(**options: object) -> nptp_opt.LoadedModel:
    torch.manual_seed(0)
    return nptp_opt.load_model(TwoImages(), (SHAPE, SHAPE), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "left", "right"),
    [
        ({"scale": 255, "mean": MEAN}, Pixels(255.0, MEAN), Pixels(255.0, MEAN)),
        ({"scale": (255, 127.5), "std": (STD, 0.5)},
         Pixels(255.0, std=STD), Pixels(127.5, std=(0.5,))),
        ({"input_dtype": ("uint8", "float32"), "scale": 2}, Pixels(2.0), None),
        ({"input_dtype": ("float32", "uint8"), "mean": (MEAN,)}, None, Pixels(mean=MEAN)),
    ],
)  # fmt: skip
def test_of_several_inputs_each_has_its_own_pixels(
    options: dict[str, object], left: Pixels | None, right: Pixels | None
) -> None:
    """Two cameras, or a camera and a depth map: to the bit as if each had been normalised first;
    planned, sent as bytes, verified and read again from the file."""
    loaded, plain = _two_cameras(**{"input_dtype": "uint8", **options}), _two_cameras()
    assert loaded.ref.pixels == (left, right)
    given = random_inputs(loaded.network, 0)
    first = [x if each is None else normalised(x, *each.numbers)
             for x, each in zip(given, (left, right), strict=True)]  # fmt: skip
    made = dict(run_network(loaded.network, loaded.weights(), given))
    for name, values in run_network(plain.network, plain.weights(), first):
        assert torch.equal(made[name], values)
    witnessed, own = loaded.witness_outputs(given), plain.witness_outputs(first)
    assert all(torch.equal(witnessed[name], own[name]) for name in own)
    kinds = [spec.dtype == torch.uint8 for spec in loaded.signature.inputs]
    assert kinds == [left is not None, right is not None]
    cluster = make_cluster([0.01] * 2, rates=50.0)
    plan = nptp_opt.solve(loaded, cluster, planner="strip-equal", bound=False)
    for move in (move for step in plan.steps for move in step.transfers):
        if move.tensor in loaded.network.inputs:
            width = 1 if move.tensor in loaded.network.input_dtypes else 4
            assert move.bytes == 3 * move.tile.area * width
    read = plan_from_json(plan_to_json(plan))
    assert read == plan
    report = nptp_opt.verify(read, loaded)
    assert report.ok, report.faults


def test_an_input_that_is_read_and_one_that_is_not_may_both_be_pixels() -> None:
    """The one that no layer reads is a type in the signature, and no more."""
    torch.manual_seed(0)
    loaded = nptp_opt.load_model(OneUnused(), (SHAPE, SHAPE), input_dtype="uint8", scale=255)
    assert [spec.dtype for spec in loaded.signature.inputs] == [torch.uint8] * 2
    assert len(loaded.network.input_dtypes) == 1
    check_import(loaded)


def test_a_file_of_several_inputs_has_the_types_that_it_says(tmp_path: Path) -> None:
    """A camera of UINT8 beside one of FLOAT: bug: that was refused. The first is normalised by
    the file itself; numbers for it would be applied twice."""
    helper, kind = onnx.helper, onnx.TensorProto
    weights = np.random.default_rng(0).standard_normal((4, 6, 3, 3)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["a"], ["f"], to=kind.FLOAT),
            helper.make_node("Div", ["f", "scale"], ["d"]),
            helper.make_node("Concat", ["d", "b"], ["c"], axis=1),
            helper.make_node("Conv", ["c", "w"], ["y"], pads=[1, 1, 1, 1]),
        ],
        "cameras",
        [helper.make_tensor_value_info("a", kind.UINT8, SHAPE),
         helper.make_tensor_value_info("b", kind.FLOAT, SHAPE)],
        [helper.make_tensor_value_info("y", kind.FLOAT, (1, 4, 16, 15))],
        [onnx.numpy_helper.from_array(np.array(255.0, np.float32), "scale"),
         onnx.numpy_helper.from_array(weights, "w")],
    )  # fmt: skip
    path = tmp_path / "cameras.onnx"
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    loaded = nptp_opt.load_model(path, (SHAPE, SHAPE))
    assert loaded.ref.pixels == (Pixels(), None)
    check_import(loaded)
    both = nptp_opt.load_model(path, (SHAPE, SHAPE), input_dtype=("float32", "uint8"), scale=9)
    assert both.ref.pixels == (Pixels(), Pixels(9.0))
    check_import(both)
    with pytest.raises(InputError, match="input 'a' is uint8 and normalised already"):
        nptp_opt.load_model(path, (SHAPE, SHAPE), input_dtype="uint8", scale=255)


@pytest.mark.parametrize("channels_last", [False, True])
def test_an_onnx_file_of_bytes_is_sent_as_bytes(tmp_path: Path, channels_last: bool) -> None:
    """A file that takes UINT8 and begins with a cast, as cameras give it: nothing has to be asked
    for; the witness is ONNX Runtime on the file itself."""
    helper, kind = onnx.helper, onnx.TensorProto
    shape = (1, 12, 10, 3) if channels_last else (1, 3, 12, 10)
    order = [helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2])]
    nodes = [
        *(order if channels_last else []),
        helper.make_node("Cast", ["t" if channels_last else "x"], ["f"], to=kind.FLOAT),
        helper.make_node("Div", ["f", "scale"], ["d"]),
        helper.make_node("Conv", ["d", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["y"]),
    ]
    weights = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
    graph = helper.make_graph(
        nodes, "camera",
        [helper.make_tensor_value_info("x", kind.UINT8, shape)],
        [helper.make_tensor_value_info("y", kind.FLOAT, (1, 4, 12, 10))],
        [onnx.numpy_helper.from_array(np.array(255.0, np.float32), "scale"),
         onnx.numpy_helper.from_array(weights, "w")],
    )  # fmt: skip
    path = tmp_path / "camera.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    loaded = nptp_opt.load_model(path)
    assert set(loaded.network.input_dtypes.values()) == {"uint8"}
    check_import(loaded)
    plan = nptp_opt.solve(loaded, make_cluster([0.01] * 2), planner="strip-equal", bound=False)
    assert plan_from_json(plan_to_json(plan)).model.pixels == (Pixels(),)
    report = nptp_opt.verify(plan)
    assert report.ok, report.faults


def test_plans_bring_the_pixels_along_and_are_verified() -> None:
    """The file names scale, mean and std; the same network is loaded by it."""
    loaded = nptp_opt.load_model("tests.models:small_cnn", SHAPE, input_dtype="uint8", scale=255,
                                 mean=MEAN, std=STD)  # fmt: skip
    check_import(loaded)
    cluster = make_cluster([0.01] * 3, rates=50.0)
    plan = nptp_opt.solve(loaded, cluster, planner="strip-equal", bound=False)
    content = plan_to_json(plan)
    assert content["model"]["pixels"] == {
        "dtype": "uint8", "scale": 255.0, "mean": list(MEAN), "std": list(STD)
    }  # fmt: skip
    read = plan_from_json(content)
    assert read == plan and read.model.pixels == (Pixels(255.0, MEAN, STD),)
    image = loaded.network.inputs[0]
    moved = [move for step in plan.steps for move in step.transfers if move.tensor == image]
    assert moved and all(move.bytes == 3 * move.tile.area for move in moved)
    for executor in ("torch", "onnxruntime"):
        report = nptp_opt.verify(read, executor=executor)
        assert report.ok, report.faults


def test_a_plan_for_floats_is_not_one_for_pixels() -> None:
    loaded = nptp_opt.load_model("tests.models:small_cnn", SHAPE, input_dtype="uint8", scale=255)
    plan = nptp_opt.solve(loaded, make_cluster([1.0] * 2), planner="single", bound=False)
    report = nptp_opt.verify(plan, nptp_opt.load_model("tests.models:small_cnn", SHAPE))
    assert any("another network" in fault for fault in report.faults)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"scale": 255}, "`scale` is for pixels: give `input_dtype` uint8"),
        ({"input_dtype": "int64"}, "must be float32 or uint8"),
        ({"input_dtype": "uint8", "scale": 0}, "`scale` must be positive"),
        ({"input_dtype": "uint8", "std": (1.0, 0.0, 1.0)}, "`std` must be positive"),
        ({"input_dtype": "uint8", "mean": float("nan")}, "`mean` must be finite"),
        ({"input_dtype": "uint8", "mean": "much"}, "`mean` must be a number"),
        ({"input_dtype": ("uint8",) * 3}, "`input_dtype` has 3 types, the model 2 inputs"),
        ({"input_dtype": "uint8", "scale": (1, 2, 3)}, "`scale` is given 3 times for 2 inputs"),
        ({"input_dtype": ("float32", "uint8"), "mean": (0.1, (0.2,))}, "2 times for 1 inputs"),
        ({"input_dtype": "uint8", "scale": ((1, 2), 3)}, "`scale` must be one number"),
    ],
)
def test_numbers_that_are_no_normalisation_are_refused(given: dict[str, object], why: str) -> None:
    with pytest.raises(InputError, match=why):
        pixels_of(2, **{"input_dtype": "float32", **given})  # type: ignore[arg-type]


def test_numbers_and_models_that_do_not_fit_are_refused() -> None:
    """Two means for three channels; an input that is no image."""
    with pytest.raises(InputError, match=r"`mean` has 2 numbers, the input .* 3 channels"):
        nptp_opt.load_model(small_cnn().eval(), SHAPE, input_dtype="uint8", mean=(0.1, 0.2))
    with pytest.raises(InputError, match="uint8 is for images as"):
        nptp_opt.load_model(nn.Linear(4, 3), (1, 4), input_dtype="uint8", scale=255)
