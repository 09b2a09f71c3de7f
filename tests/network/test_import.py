"""Whole networks, partitioned at random, against the unpartitioned model; and what is refused."""

import itertools

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import nn

from nptp_opt.errors import InputError
from nptp_opt.geometry import Tile
from nptp_opt.network.describe import alive, cut_points, gathered_layers, rows
from nptp_opt.network.load import load_model, load_module
from tests.network.models import Chain, Detector, UNet
from tests.network.partitioned import (
    TOLERANCE,
    check_module,
    doubles,
    largest_error,
    run_tiles,
    whole_convolutions,
)

IMPORTED = (
    "vgg13 vgg16 vgg19 resnet152 resnext50_32x4d wide_resnet50_2 squeezenet1_0 mobilenet_v2 "
    "efficientnet_b0 efficientnet_v2_s regnet_x_400mf mnasnet0_5 fcn_resnet50"
).split()
"""The families of which ``test_verified`` executes no member, and the deepest models."""


@pytest.mark.parametrize("name", IMPORTED)
def test_zoo_models_import_at_an_odd_size_with_every_conv_partitioned(name):
    network = load_model(name, (1, 3, 225, 301)).network
    assert whole_convolutions(network) == []
    assert set(network.outputs) <= set(network.shapes)


def test_u_net_skips_compute_the_same_at_odd_sizes():
    model = check_module(UNet(), (2, 3, 21, 27))
    assert {layer.kind for layer in model.network.layers} == {"spatial"}


def test_detector_has_three_partitioned_outputs():
    model = check_module(Detector(), (1, 3, 37, 50))
    assert [model.network.shapes[t][1:] for t in model.network.outputs] == [
        (6, 5, 7), (6, 10, 13), (6, 19, 25),
    ]  # fmt: skip


def test_seed_alone_decides_the_weights():
    one, same, other = (load_model("squeezenet1_1", (1, 3, 64, 64), s).weights() for s in (0, 0, 1))
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert any(not torch.equal(one[key], other[key]) for key in one)


def test_vgg_folds_bias_and_relu_and_the_classifier_has_maps_of_features():
    network = load_model("vgg16", (1, 3, 224, 224)).network
    assert len(network.spatial) == 21 and [layer.is_view for layer in network.head] == [True]
    assert [layer.shape for layer in network.vectors] == [
        (1, 1, 4096, 1), (1, 1, 4096, 1), (1, 1, 1000, 1),
    ]  # fmt: skip
    first = network.by_name["classifier.0"]
    assert [node.op for node in first.nodes] == ["linear", "relu"]
    assert first.need(first.inputs[0], Tile(5, 6, 0, 1)) == Tile(0, 7, 0, 7)
    assert network.shapes[network.outputs[0]] == (1, 1000)
    assert network.by_name["features.0"].flop == 2 * 9 * 3 * 64 * 224**2 + 64 * 224**2
    assert sum(layer.flop for layer in network.layers) == pytest.approx(30.96e9, rel=0.01)
    assert sum(layer.param_bytes for layer in network.layers) == 4 * 138_357_544
    assert len(cut_points(network)) == 21


def test_residual_add_folds_onto_the_last_convolution():
    network = load_model("resnet18", (1, 3, 64, 64)).network
    layer = network.by_name["layer1.0.conv2"]
    assert [node.op for node in layer.nodes] == ["conv2d", "batch_norm", "add", "relu"]
    assert set(layer.inputs) == {"layer1.0.conv1", "maxpool"}


def test_reductions_are_small_messages_and_the_last_one_feeds_the_linear_layer():
    cut = load_model("mobilenet_v3_small", (1, 3, 64, 64)).network
    pool = next(layer for layer in cut.layers if layer.reduces)
    assert pool.partial_elements == 16 and pool.name in cut.replicated
    tail = load_model("resnet18", (1, 3, 64, 64)).network
    assert tail.by_name["avgpool"].reduces
    kinds = [(layer.name, layer.kind) for layer in tail.layers[-3:]]
    assert kinds == [("avgpool", "global"), ("fc", "spatial"), ("fc.whole", "gather")]


def test_batch_norm_of_a_batch_above_one_and_a_callable():
    model = load_model("tests.network.models:unet", (3, 3, 16, 16))
    assert largest_error(model) < TOLERANCE


def test_in_place_ops_reach_later_readers():
    def change(x):
        y = x + 1
        y.mul_(2.0)
        return y + x.relu_() + x

    check_module(Chain(change), (1, 2, 9, 9))


def test_weights_computed_from_weights_are_evaluated():
    class Standardised(nn.Conv2d):
        def forward(self, x):
            weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
            return F.conv2d(x, weight, self.bias)

    check_module(Standardised(2, 3, 3), (1, 2, 9, 9))


# -- traps that other systems fell into ----------------------------------------------------------


def cut_rows(module, shape, rows):
    """The layer's map from bands of rows, against the whole."""
    model = load_module(module.eval(), "trap", shape)
    (layer,) = model.network.layers
    x = torch.randn(shape, dtype=torch.float64)
    edges = [0, *rows, layer.height]
    tiles = [Tile(a, b, 0, layer.width) for a, b in itertools.pairwise(edges)]
    found = run_tiles(layer, doubles(model), {layer.inputs[0]: x}, tiles)
    torch.testing.assert_close(
        found, model.reference(x, [layer.name])[layer.name], rtol=0, atol=TOLERANCE
    )


def test_trap_stride_two_on_ten_rows_cut_on_outputs():
    cut_rows(nn.Conv2d(2, 2, 3, 2, 1), (1, 2, 10, 6), [2])
    cut_rows(nn.Conv2d(2, 2, 3, 2, 1), (1, 2, 9, 6), [3])
    cut_rows(nn.Conv2d(2, 2, 3, 2, 1), (1, 2, 7, 6), [2])


def test_trap_max_pool_of_a_padded_border_ignores_zeros():
    cut_rows(nn.Sequential(nn.MaxPool2d(3, 2, 1)), (1, 2, 11, 9), [1, 4])


def test_trap_even_kernels_with_padding():
    cut_rows(nn.Conv2d(2, 2, 4, 2, 1), (1, 2, 10, 9), [1, 3])


def test_trap_dilation():
    cut_rows(nn.Conv2d(2, 2, 3, 1, 4, 4), (1, 2, 10, 9), [1, 2, 9])


def test_trap_fewer_rows_than_the_halo_is_wide_and_tiles_of_one_row_or_none():
    cut_rows(nn.Conv2d(2, 2, 7, 1, 3), (1, 2, 6, 5), [1, 1, 2, 3, 4, 5])


def test_trap_windows_that_lie_in_the_padding_altogether():
    cut_rows(nn.Conv2d(2, 2, 1, 1, 3), (1, 2, 4, 4), [1, 2, 5, 8])


def test_trap_average_pooling_at_a_padded_border():
    cut_rows(nn.AvgPool2d(3, 2, 1, ceil_mode=True), (1, 2, 10, 9), [1, 5])
    cut_rows(nn.AvgPool2d(3, 2, 1, count_include_pad=False), (1, 2, 10, 9), [1, 4])


def test_trap_align_corners_at_a_cut():
    for align in (True, False):
        cut_rows(nn.Upsample((13, 9), mode="bilinear", align_corners=align), (1, 2, 6, 5), [4, 5])


# -- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ref", "match"),
    [
        ("vgg61", "unknown model 'vgg61'.*Did you mean"),
        ("tests.network.models:broken", "RuntimeError: no weights here and a second line$"),
        ("tests.network.models:not_a_module", "not a torch.nn.Module"),
        ("tests.network.models:missing", "has no attribute"),
        ("no_such_module_at_all:model", "No module named"),
        ("tests.network.models:branching", "depend on data are not supported"),
        ("tests.network.models:conditional", "control flow"),
        ("tests.network.models:nonzero", "op|refuses"),
        ("tests.network.models:factoring", "node 'linalg_qr': op linalg_qr is not supported"),
        ("tests.network.models:dropout_on", "op dropout draws random numbers"),
    ],
)
def test_models_that_cannot_be_planned_are_refused_in_one_line(ref, match):
    with pytest.raises(InputError, match=match) as caught:
        load_model(ref, (1, 2, 16, 16))
    assert "\n" not in str(caught.value)


def test_input_that_is_too_small_names_the_module():
    with pytest.raises(InputError, match=r"1x3x8x8 in 'features\.\d+'"):
        load_model("vgg16", (1, 3, 8, 8))
    for shape in ((1, 3, 0, 8), (), (1, 3, 2**20, 2**20)):
        with pytest.raises(InputError, match="input"):
            load_model("vgg16", shape)


def test_description_lists_windows_liveness_and_what_is_gathered():
    network = load_model("resnet18", (1, 3, 64, 64)).network
    table = {row.name: row for row in rows(network)}
    assert table["conv1"].window == "k7 s2 p3+3, k7 s2 p3+3"
    assert table["conv1"].out_bytes == 4 * 64 * 32 * 32
    assert table["conv1"].in_shapes == ((1, 3, 64, 64),)
    assert [each.name for each in gathered_layers(network)] == ["avgpool", "fc.whole"]
    assert table["fc"].window == "whole, whole"
    assert max(len(held) for held in alive(network)) == 2
    assert "layer1.0.conv1" not in cut_points(network) and "maxpool" in cut_points(network)
