"""Every op, drawn at random with its parameters, shape and cuts, against torch's own op."""

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.network.partitioned import check_module

DRAWS = settings(max_examples=20)
sizes = st.integers(1, 13)
seeds = st.integers(0, 1000)


class Apply(nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def spatial(model):
    """Every layer of the model can be partitioned."""
    return all(layer.kind == "spatial" for layer in model.network.layers)


@DRAWS
@given(st.data(), seeds)
def test_convolutions_of_any_window_match_torch(data, seed):
    draw = data.draw
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    dilation = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    padding = draw(st.tuples(st.integers(0, 4), st.integers(0, 4)))
    spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    size = [max(draw(sizes), span - 2 * p, 1) for span, p in zip(spans, padding, strict=True)]
    groups = draw(st.sampled_from([1, 2, 4]))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    conv = nn.Conv2d(4, 8, kernel, stride, padding, dilation, groups, draw(st.booleans()))
    assert spatial(check_module(conv, (draw(st.integers(1, 2)), 4, *size), seed))


@DRAWS
@given(st.data(), seeds)
def test_transposed_convolutions_match_torch(data, seed):
    draw = data.draw
    kernel, stride = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    dilation = draw(st.integers(1, 2))
    padding = draw(st.integers(0, dilation * (kernel - 1) // 2))
    extra = draw(st.integers(0, max(stride, dilation) - 1))
    conv = nn.ConvTranspose2d(4, 6, kernel, stride, padding, extra, 2, dilation=dilation)
    assert spatial(check_module(conv, (1, 4, draw(sizes) + 1, draw(sizes) + 1), seed))


@DRAWS
@given(st.data(), seeds)
def test_poolings_match_torch_at_padded_borders(data, seed):
    draw = data.draw
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    size = [draw(st.integers(k, 13)) for k in kernel]
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    ceil, counted = draw(st.booleans()), draw(st.booleans())
    divisor = draw(st.sampled_from([None, 3]))
    average = nn.AvgPool2d(kernel, stride, padding, ceil, counted, divisor)
    dilated = nn.MaxPool2d(kernel, stride, padding, dilation=1, ceil_mode=ceil)
    check_module(nn.Sequential(nn.Conv2d(2, 2, 1), average), (2, 2, *size), seed)
    assert spatial(check_module(dilated, (2, 2, *size), seed))


@DRAWS
@given(st.data(), seeds)
def test_resizes_match_torch_with_a_size_or_a_factor(data, seed):
    draw = data.draw
    mode = draw(st.sampled_from(["nearest", "nearest-exact", "bilinear", "bicubic"]))
    size = draw(st.tuples(st.integers(2, 9), st.integers(2, 9)))
    options = {"mode": mode}
    if mode.startswith("bi"):
        options["align_corners"] = draw(st.booleans())
    if draw(st.booleans()):
        options["size"] = draw(st.tuples(sizes, sizes))
    else:
        options["scale_factor"] = draw(st.sampled_from([0.5, 0.7, 1.5, 2.0, 3.0]))
    assert spatial(check_module(Apply(lambda x: F.interpolate(x, **options)), (1, 2, *size), seed))


@DRAWS
@given(st.data(), seeds)
def test_adaptive_poolings_match_torch(data, seed):
    draw = data.draw
    out = draw(st.tuples(sizes, sizes))
    kind = draw(st.sampled_from([nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d]))
    check_module(nn.Sequential(nn.Conv2d(2, 2, 1), kind(out)), (2, 2, draw(sizes), draw(sizes)))


@DRAWS
@given(st.data(), seeds)
def test_pads_and_crops_match_torch(data, seed):
    draw = data.draw
    mode = draw(st.sampled_from(["constant", "reflect", "replicate", "circular"]))
    low = -2 if mode == "constant" else 0
    pads = draw(st.tuples(*[st.integers(low, 4)] * 4))
    size = draw(st.tuples(st.integers(5, 9), st.integers(5, 9)))
    assert spatial(check_module(Apply(lambda x: F.pad(x, pads, mode)), (1, 2, *size), seed))


@DRAWS
@given(st.data(), seeds)
def test_strided_slices_and_joins_match_torch(data, seed):
    draw = data.draw
    dim, start, step = draw(st.integers(1, 3)), draw(st.integers(-3, 3)), draw(st.integers(1, 3))

    def cut(x):
        index = [slice(None)] * 4
        index[dim] = slice(start, None, step)
        part = x[tuple(index)]
        return torch.cat([part, F.relu(part), part], draw_dim)

    draw_dim = draw(st.integers(1, 3))
    assert spatial(check_module(Apply(cut), (1, 6, draw(sizes) + 3, draw(sizes) + 3), seed))


@DRAWS
@given(st.integers(1, 3), sizes, sizes, seeds)
def test_pixel_shuffles_match_torch_both_ways(factor, height, width, seed):
    shuffle = nn.PixelShuffle(factor)
    assert spatial(check_module(shuffle, (2, 2 * factor**2, height, width), seed))
    down = nn.PixelUnshuffle(factor)
    assert spatial(check_module(down, (2, 3, height * factor, width * factor), seed))


@DRAWS
@given(st.sampled_from(["same", "valid"]), st.integers(1, 4), st.integers(1, 3), sizes, seeds)
def test_same_padding_of_even_kernels_lies_behind(padding, kernel, dilation, size, seed):
    conv = nn.Conv2d(2, 3, kernel, padding=padding, dilation=dilation)
    assert spatial(check_module(conv, (1, 2, size + 9, size + 9), seed))


@DRAWS
@given(st.sampled_from(["zeros", "reflect", "replicate", "circular"]), st.integers(5, 9), seeds)
def test_padding_modes_of_convolutions_match_torch(mode, size, seed):
    conv = nn.Conv2d(2, 3, (3, 5), padding=(1, 2), padding_mode=mode)
    assert spatial(check_module(conv, (1, 2, size, size + 1), seed))


@DRAWS
@given(st.integers(1, 4), st.integers(1, 2), st.integers(1, 2), st.integers(9, 20), seeds)
def test_one_dimensional_models_are_maps_of_one_row(kernel, stride, dilation, length, seed):
    model = nn.Sequential(
        nn.Conv1d(2, 4, kernel, stride, dilation=dilation), nn.BatchNorm1d(4), nn.ReLU(),
        nn.MaxPool1d(2), nn.ConvTranspose1d(4, 2, 3, 2), nn.Upsample(scale_factor=2, mode="linear"),
    )  # fmt: skip
    found = check_module(model, (2, 2, length + 4), seed)
    assert [layer.kind for layer in found.network.layers].count("gather") == 1


ACTIVATIONS = [
    nn.ReLU(inplace=True), nn.ReLU6(), nn.Hardtanh(-1, 2), nn.Sigmoid(), nn.Tanh(), nn.SiLU(),
    nn.Hardswish(), nn.Hardsigmoid(), nn.GELU(), nn.GELU("tanh"), nn.ELU(), nn.LeakyReLU(0.2),
    nn.Softplus(), nn.Mish(), nn.PReLU(3), nn.PReLU(), nn.SELU(), nn.CELU(), nn.LogSigmoid(),
    nn.Threshold(0.1, -1.0), nn.Softmax(1), nn.LogSoftmax(1), nn.Softmax2d(), nn.Dropout2d(),
    nn.LocalResponseNorm(3), nn.LocalResponseNorm(4, k=2.0),
]  # fmt: skip


def test_activations_and_channel_ops_fold_onto_their_convolution():
    for activation in ACTIVATIONS:
        model = check_module(nn.Sequential(nn.Conv2d(3, 3, 3), activation), (2, 3, 9, 7))
        few = 2 if isinstance(activation, nn.LocalResponseNorm) else 1
        assert len(model.network.layers) == few and spatial(model), activation


class Arithmetic(nn.Module):
    """Scalars, per-channel weights, weights with rows and columns, broadcasts of maps."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.randn(4, 1, 1))
        self.grid = nn.Parameter(torch.randn(1, 4, 6, 5))

    def forward(self, x):
        gate = torch.sigmoid(x.mean(1, keepdim=True))
        y = 2.0 - (x * self.scale + self.grid) / 3.0
        return torch.maximum(y * gate, x.amax(1, keepdim=True)) ** 2


def test_weights_of_any_broadcast_shape_are_cut_with_the_tile():
    assert spatial(check_module(Arithmetic(), (2, 4, 6, 5)))


class ChannelsLast(nn.Module):
    """ConvNeXt's way: permute, norm and linear over channels, permute back."""

    def __init__(self):
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(4), nn.Linear(4, 6)
        self.gamma = nn.Parameter(torch.randn(6))

    def forward(self, x):
        y = self.linear(self.norm(x.permute(0, 2, 3, 1)))
        return (self.gamma * F.gelu(y)).permute(0, 3, 1, 2)


def test_channels_last_blocks_stay_maps():
    model = check_module(ChannelsLast(), (2, 4, 6, 5))
    assert spatial(model)
    assert [layer.op for layer in model.network.layers] == ["channel_norm", "conv2d"]


def test_channel_shuffles_by_view_and_transpose_stay_maps():
    def shuffled(x):
        n, c, h, w = x.shape
        y = x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w)
        return torch.cat(y.chunk(2, 1)[::-1], 1)

    assert spatial(check_module(Apply(shuffled), (2, 6, 4, 5)))
    assert spatial(check_module(nn.ChannelShuffle(3), (2, 6, 4, 5)))


def test_reductions_of_whole_maps_are_partials_of_tiles():
    models = [
        nn.Sequential(nn.Conv2d(3, 6, 3), nn.GroupNorm(3, 6), nn.ReLU()),
        nn.InstanceNorm2d(3, affine=True),
        Apply(lambda x: x * torch.sigmoid(F.adaptive_avg_pool2d(x, 1))),
        Apply(lambda x: x - x.amax((2, 3), keepdim=True)),
        Apply(lambda x: x * x.mean((2, 3))[:, :, None, None].expand_as(x)),
    ]
    for model in models:
        found = check_module(model, (2, 3, 7, 6))
        kinds = {layer.kind for layer in found.network.layers}
        assert kinds == {"spatial", "global"}


def test_group_norm_is_stable_far_from_zero():
    check_module(Apply(lambda x: F.group_norm(x + 1e4, 2)), (1, 4, 7, 6))
