"""Linear layers of every kind of input, cut over their features, against torch's own."""

import random
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from nptp_opt.kernels import run_layer
from nptp_opt.network.load import load_model, load_module
from tests.kernels.test_ops import DRAWS, Apply, seeds, sizes
from tests.network.partitioned import TOLERANCE, check_module, largest_error, random_tiles


def linears(model):
    """Names of the linear layers that are partitioned over their features."""
    return [layer.name for layer in model.network.spatial if layer.op == "linear"]


@DRAWS
@given(st.integers(1, 3), sizes, sizes, st.integers(1, 17), st.booleans(), seeds)
def test_a_flattened_map_in_any_batch_and_size(batch, height, width, features, bias, seed):
    model = nn.Sequential(
        nn.Conv2d(2, 3, 1), nn.Flatten(), nn.Dropout(),
        nn.Linear(3 * height * width, features, bias), nn.ReLU(),
    )  # fmt: skip
    found = check_module(model, (batch, 2, height, width), seed)
    assert linears(found) == ["3"] and found.network.by_name["3"].shape == (batch, 1, features, 1)


@DRAWS
@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), seeds)
def test_chains_behind_a_global_pool(batch, hidden, features, seed):
    """The pooled channels are on every device; a feature alone is still a map."""
    model = nn.Sequential(
        nn.Conv2d(2, 5, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Hardswish(),
        nn.Linear(5, hidden), nn.BatchNorm1d(hidden).eval(), nn.ReLU(),
        nn.Linear(hidden, features, bias=False),
    )  # fmt: skip
    nn.init.normal_(model[5].running_mean)
    found = check_module(model, (batch, 2, 6, 5), seed)
    assert linears(found) == ["4", "7"]
    assert [node.op for node in found.network.by_name["4"].nodes] == [
        "linear",
        "batch_norm",
        "relu",
    ]


class Residual(nn.Module):
    """Two linear layers, their sum, the halves of it joined again, and a product with a weight."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(24, 7), nn.Linear(7, 7), nn.Parameter(torch.randn(7, 4))
        self.scale = nn.Parameter(torch.randn(7))

    def forward(self, x):
        x = self.a(x.flatten(1)).relu()
        x = x + self.b(x) * self.scale
        first, second = x[:, :3], x[:, 3:]
        return torch.cat([second, first], 1) @ self.c


def test_sums_slices_and_joins_of_features():
    found = check_module(Residual(), (2, 2, 4, 3))
    assert {layer.kind for layer in found.network.layers[:-1]} == {"spatial"}


@pytest.mark.parametrize(
    "flat",
    [
        lambda x: x.permute(0, 2, 3, 1).flatten(1),
        lambda x: x.flatten(2).flatten(1),
        lambda x: x.reshape(x.shape[0], -1),
        lambda x: x.transpose(1, 3).reshape(2, -1),
    ],
)
def test_the_model_s_own_order_of_elements_counts(flat):
    model = nn.Sequential(nn.Conv2d(2, 3, 1), Apply(flat), nn.Linear(3 * 5 * 4, 6))
    assert linears(check_module(model, (2, 2, 5, 4))) == ["2"]


def test_one_sample_whose_dimension_comes_and_goes():
    model = nn.Sequential(
        nn.Conv2d(2, 3, 1), Apply(lambda x: x.squeeze(0).transpose(0, 1).reshape(1, -1)),
        nn.Linear(60, 6),
    )  # fmt: skip
    assert linears(check_module(model, (1, 2, 5, 4))) == ["2"]


def test_samples_that_mix_are_gathered():
    model = nn.Sequential(nn.Conv2d(2, 3, 1), Apply(lambda x: x.reshape(4, -1)), nn.Linear(30, 6))
    assert linears(check_module(model, (2, 2, 5, 4))) == []


def test_products_with_a_weight_are_linear_layers():
    weight, bias = nn.Parameter(torch.randn(40, 6)), nn.Parameter(torch.randn(6))

    class Product(nn.Module):
        def __init__(self, call):
            super().__init__()
            self.weight, self.bias, self.call = weight, bias, call

        def forward(self, x):
            return self.call(x.flatten(1), self.weight, self.bias)

    for call in (
        lambda x, w, b: torch.matmul(x, w),
        lambda x, w, b: torch.mm(x, w) + b,
        lambda x, w, b: torch.addmm(b, x, w),
    ):
        assert len(linears(check_module(Product(call), (2, 2, 4, 5)))) == 1
    scaled = check_module(Product(lambda x, w, b: torch.addmm(b, x, w, alpha=2)), (2, 2, 4, 5))
    assert linears(scaled) == []


def test_a_model_of_linear_layers_alone():
    model = nn.Sequential(nn.Linear(9, 8), nn.Tanh(), nn.Linear(8, 3))
    assert linears(check_module(model, (2, 9))) == ["0", "2"]


@pytest.mark.parametrize("transposed", [0, 1])
def test_onnx_gemm_and_matmul_with_add(transposed, tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        "w": rng.standard_normal((7, 60) if transposed else (60, 7)),
        "b": rng.standard_normal(7),
        "v": rng.standard_normal((7, 5)),
        "c": rng.standard_normal(5),
    }
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Flatten", ["r"], ["f"], axis=1),
        helper.make_node("Gemm", ["f", "w", "b"], ["g"], transB=transposed, alpha=0.5),
        helper.make_node("Relu", ["g"], ["h"]),
        helper.make_node("MatMul", ["h", "v"], ["m"]),
        helper.make_node("Add", ["m", "c"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3, 4, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 5])],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in arrays.items()],
    )
    path = Path(tmp_path) / "linear.onnx"
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    model = load_model(str(path), (2, 3, 4, 5))
    assert len(linears(model)) == 2 and largest_error(model) < TOLERANCE
    assert [layer.is_view for layer in model.network.head] == [True]


def test_float32_features_are_those_of_the_whole_product():
    model = load_module(
        nn.Sequential(nn.Flatten(), nn.Linear(75, 11)).eval(), "linear", (2, 3, 5, 5)
    )
    layer, x = model.network.layers[0], torch.randn(2, 3, 5, 5)
    expected = model.reference(x, [layer.name])[layer.name]
    held = {layer.inputs[0]: (model.network.full(layer.inputs[0]), x)}
    for tile in random_tiles(layer.full, 3, random.Random(0)):
        found = run_layer(layer, model.weights(), held, tile)
        assert found.shape == (2, 1, tile.height, tile.width)
        torch.testing.assert_close(found, expected[:, :, tile.y0 : tile.y1, tile.x0 : tile.x1])


# -- what stays on one device ----------------------------------------------------------------------


class Gate(nn.Module):
    """Squeeze and excitation by linear layers: its channels go back onto the map."""

    def __init__(self):
        super().__init__()
        self.down, self.up = nn.Linear(4, 2), nn.Linear(2, 4)

    def forward(self, x):
        gate = self.up(self.down(x.mean((2, 3))).relu()).sigmoid()
        return x * gate[:, :, None, None]


def test_channels_that_go_back_onto_a_map_stay_with_every_device():
    found = check_module(nn.Sequential(nn.Conv2d(2, 4, 3), Gate()), (2, 2, 7, 6))
    assert linears(found) == [] and not found.network.head


class Heads(nn.Module):
    """Two linear layers of one map, or of one linear layer."""

    def __init__(self, shared):
        super().__init__()
        self.shared = nn.Linear(18, 6) if shared else nn.Identity()
        self.a, self.b = (nn.Linear(6 if shared else 18, 3) for _ in range(2))

    def forward(self, x):
        x = self.shared(x.flatten(1))
        return self.a(x), self.b(x)


def test_a_map_that_two_linear_layers_read_is_fetched_once():
    """Each on its own would fetch the map again, so both run where it is gathered."""
    conv = nn.Conv2d(2, 2, 1)
    assert linears(check_module(nn.Sequential(conv, Heads(shared=False)), (1, 2, 3, 3))) == []
    shared = check_module(nn.Sequential(conv, Heads(shared=True)), (1, 2, 3, 3))
    assert linears(shared) == ["1.shared", "1.a", "1.b"]


class Features(nn.Module):
    """The last map is a result as well."""

    def __init__(self):
        super().__init__()
        self.conv, self.linear = nn.Conv2d(2, 2, 1), nn.Linear(18, 3)

    def forward(self, x):
        x = self.conv(x)
        return x, self.linear(x.flatten(1))


def test_a_map_that_is_a_result_is_fetched_once():
    assert linears(check_module(Features(), (1, 2, 3, 3))) == []


def test_softmax_and_layer_norm_of_features_are_gathered():
    for last in (nn.Softmax(1), nn.LogSoftmax(1), nn.LayerNorm(6)):
        model = nn.Sequential(nn.Conv2d(2, 2, 1), nn.Flatten(), nn.Linear(18, 6), last)
        found = check_module(model, (2, 2, 3, 3))
        assert linears(found) == ["2"] and found.network.layers[-1].kind == "gather"
