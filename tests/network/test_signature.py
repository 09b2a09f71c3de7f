"""A model's inputs and outputs by its own names, shapes and types."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from nptp_opt.errors import InputError
from nptp_opt.network.load import LoadedModel, load_model, load_module


class _Several(nn.Module):
    """Outputs in a dictionary and a tuple, one permuted, one of whole numbers; an unread input."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 5)

    def forward(self, image: Tensor, extra: Tensor, unread: Tensor) -> dict[str, Any]:
        y = self.conv(image)
        score = self.head(y.mean((2, 3))) + extra
        return {"map": y.permute(0, 2, 3, 1), "boxes": (score, y.flatten(2).argmax(1))}


SHAPES = ((1, 3, 8, 6), (1, 5), (1, 2))


@pytest.fixture(scope="module")
def module() -> nn.Module:
    torch.manual_seed(0)
    return _Several().eval()


@pytest.fixture(scope="module")
def model(module: nn.Module) -> LoadedModel:
    return load_module(module, "given:several", SHAPES)


def _inputs() -> dict[str, Tensor]:
    names = ("image", "extra", "unread")
    return {name: torch.randn(shape) for name, shape in zip(names, SHAPES, strict=True)}


def test_names_shapes_and_types_are_the_models_own(model: LoadedModel) -> None:
    found = model.signature
    assert [(spec.name, spec.shape) for spec in found.inputs] == [
        ("image", (1, 3, 8, 6)), ("extra", (1, 5)), ("unread", (1, 2)),
    ]  # fmt: skip
    assert [(spec.name, spec.shape, spec.dtype) for spec in found.outputs] == [
        ("map", (1, 8, 6, 4), torch.float32),
        ("boxes.0", (1, 5), torch.float32),
        ("boxes.1", (1, 48), torch.int64),
    ]


def test_what_the_network_computes_comes_back_as_the_modules_outputs(
    model: LoadedModel, module: nn.Module
) -> None:
    """Permuted as the module permutes, whole numbers as such."""
    given = _inputs()
    made = model.signature.own_outputs(model.reference(model.signature.network_inputs(given), ()))
    expected = module(*given.values())
    assert list(made) == ["map", "boxes.0", "boxes.1"]
    assert torch.allclose(made["map"], expected["map"], atol=1e-6)
    assert torch.allclose(made["boxes.0"], expected["boxes"][0], atol=1e-6)
    assert torch.equal(made["boxes.1"], expected["boxes"][1])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image": torch.zeros(1, 3, 8, 7)},
         "input 'image' has shape 1x3x8x7, the model takes 1x3x8x6"),
        ({"image": torch.zeros(())}, "has shape scalar"),
        ({"image": torch.zeros(1, 3, 8, 6, dtype=torch.float64)},
         "input 'image' is float64, the model takes float32: convert it"),
        ({"imag": torch.zeros(1)}, "no input 'imag'; it takes image, extra, unread"),
        ({"extra": None}, "input 'extra' is missing; the model takes image, extra, unread"),
        ({"unread": None}, None),
    ],
)  # fmt: skip
def test_inputs_are_held_against_it(
    model: LoadedModel, change: dict[str, Tensor | None], words: str | None
) -> None:
    """Shape, type and name; what the network does not read may be missing."""
    given = {name: value for name, value in (_inputs() | change).items() if value is not None}
    if words is None:
        model.signature.network_inputs(given)
        return
    with pytest.raises(InputError, match=re.escape(words)):
        model.signature.network_inputs(given)


def test_a_single_output_and_those_of_a_tuple() -> None:
    assert [
        s.name for s in load_model("tests.models:small_cnn", (1, 3, 20, 24)).signature.outputs
    ] == ["output"]
    together = load_model("tests.runtime.models:together", (1, 3, 24, 20)).signature
    assert [spec.name for spec in together.outputs] == ["output_0", "output_1"]


def test_an_onnx_files_own_names(tmp_path: Path) -> None:
    """Not those of the module that it becomes."""
    given = helper.make_tensor_value_info("the image", TensorProto.FLOAT, [1, 3, 8, 8])
    made = helper.make_tensor_value_info("features/1", TensorProto.FLOAT, [1, 4, 6, 6])
    weight = numpy_helper.from_array(np.ones((4, 3, 3, 3), dtype=np.float32), "w")
    node = helper.make_node("Conv", ["the image", "w"], ["features/1"])
    graph = helper.make_graph([node], "net", [given], [made], [weight])
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "net.onnx")
    found = load_model(str(tmp_path / "net.onnx"), (1, 3, 8, 8)).signature
    assert found.inputs[0].name == "the image" and found.outputs[0].name == "features/1"
