"""Operators of torch one by one, cut at random against the model: what is right, and why not.

Most tests name a fault that torch's operator database, or a case beside it, has shown.
"""

import re

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import nn

from nptp_opt.errors import InputError, UnsupportedError
from nptp_opt.geometry import EMPTY
from nptp_opt.kernels import pixelwise
from nptp_opt.network import casts
from nptp_opt.network.functional import SWITCHES
from nptp_opt.network.ir import Node
from nptp_opt.network.load import load_module
from nptp_opt.network.ops import ELEMENTWISE, WHOLE
from nptp_opt.network.ref import ModelRef
from nptp_opt.planner import PlanOptions, plan_network
from nptp_opt.verification.import_check import check_import
from nptp_opt.verification.torch_check import verify_plan
from tests.builders import make_cluster
from tests.network.models import Chain
from tests.network.partitioned import check_module

SHAPE = (1, 2, 8, 9)
TABLE = torch.arange(8.0)
WHOLE_NUMBERS = torch.arange(8) + 2**25
MASK = torch.arange(9) > 4
GRID = torch.linspace(-1, 1, 144).reshape(1, 8, 9, 2)
SQUARE = torch.linspace(-1, 1, 16).reshape(4, 4, 1, 1)


def kinds(function):
    """Import a function between two convolutions, hold it against torch; its layers' kinds."""
    layers = check_module(Chain(function), SHAPE).network.layers
    return ["whole" if layer.is_whole else layer.kind for layer in layers]


def refusal(function):
    with pytest.raises(UnsupportedError) as caught:
        load_module(Chain(function).eval(), "chain", SHAPE)
    return str(caught.value)


@pytest.mark.parametrize("widths", [(-2, 3, 1, -1), (-1, -2, 3, 3), (4, -1, -3, 2), (2, 2, -1, -1)])
def test_circular_padding_wraps_what_negative_widths_leave(widths):
    """It wrapped the whole map round: a wrong plan, on strips and grids."""
    assert set(kinds(lambda x: F.pad(x, widths, mode="circular"))) == {"spatial"}


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.where(x > 0.3, x, x * 2),
        lambda x: x.masked_fill((x < 0.1) | (x > 2), -1.0),
        lambda x: x * ((x > 0.1) & ~(x > 0.4)),
        lambda x: x * ((x > 0.1) ^ (x > 0.4)),
        lambda x: x * x.bool(),
        lambda x: x.where(MASK, torch.tensor(0.5)),
        lambda x: x * ((x > 0.1) + (x > 0.3)),
        lambda x: x * torch.cat([x > 0.1, x > 0.4], 1)[:, :4],
        lambda x: torch.stack((x > 0.1).unbind(1), 1) * x,
        lambda x: x * ((x * 10).long() > 3),
        lambda x: (x * 3).byte() / 2,
        lambda x: F.glu(torch.cat([x, x * 2], 1), 1),
        lambda x: x * torch.sigmoid(x.max(1, keepdim=True)[0]),
        lambda x: x * torch.sigmoid(x.amin(1, keepdim=True)),
        lambda x: x * torch.sigmoid(x.min(1, keepdim=True).values),
    ],
)
def test_truth_values_and_largest_values_are_maps_that_are_cut(function):
    assert set(kinds(function)) == {"spatial"}


@pytest.mark.parametrize(
    "function",
    [
        lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2, output_size=x.shape),
        lambda x: x * x.max(1, keepdim=True)[1],
        lambda x: x + x.topk(2, 1)[0].sum(1, keepdim=True),
        lambda x: x * TABLE[x.argmax(1, keepdim=True)],
        lambda x: x * (x.argmax(1, keepdim=True) == torch.arange(4).view(1, 4, 1, 1)),
        lambda x: x * x.argmax(1, keepdim=True).masked_fill(x > 0.1, -1),
        lambda x: x * x.gather(1, x.argmax(1, keepdim=True)),
        lambda x: x * (x > 0.2).any(1, keepdim=True),
        lambda x: x * (x > 0.2).sum((2, 3), keepdim=True),
        lambda x: F.grid_sample(x, GRID, align_corners=False),
        lambda x: x.sort(2)[0].cumsum(3).rot90(1, (2, 3)),
        lambda x: F.glu(x.repeat(1, 1, 2, 1), 2),
    ],
)
def test_operators_without_a_window_run_whole_in_the_model_s_own_types(function):
    found = kinds(function)
    assert found[0] == "spatial" and {"gather", "whole"}.intersection(found)


def grouped(x):
    """Two groups of two channels, of which the softmax of means picks a mixture (ResNeSt)."""
    n, c, h, w = x.shape
    split = x.reshape(n, 2, c // 2, h, w)
    weights = split.sum(1).mean((2, 3)).reshape(n, 1, c // 2, 1, 1)
    weights = (split * weights).mean((3, 4)).softmax(1)
    mixed = (split * weights[..., None, None]).sum(1)
    return torch.cat([mixed, -mixed], 1)


def selective(x):
    """Branches stacked, weighted by a softmax over them, and summed (SKNet)."""
    paths = torch.stack([x, x.relu() * 2], dim=1)
    weights = paths.sum(1).mean((2, 3), keepdim=True)
    weights = torch.cat([weights, weights * 2], 1).view(1, 2, 4, 1, 1).softmax(1)
    return (paths * weights).sum(dim=1)


def tokens(x):
    """Rows and columns as one dimension, and back."""
    n, c, h, w = x.shape
    y = x.flatten(2).transpose(1, 2)
    y = y + F.linear(F.layer_norm(y, (c,)), SQUARE[:, :, 0, 0]) * torch.arange(72.0).view(72, 1)
    y = F.group_norm(y.transpose(1, 2), 2).transpose(1, 2) * y.mean(1, keepdim=True)
    return y.transpose(1, 2).reshape(n, c, h, w)


def shuffled(x):
    """A pixel shuffle and back, written as views and permutations."""
    n, c, h, w = x.shape
    y = x.view(n, 1, 2, 2, h, w).permute(0, 1, 4, 2, 5, 3).reshape(n, 1, 2 * h, 2 * w)
    y = y.relu().view(n, 1, h, 2, w, 2).permute(0, 3, 5, 1, 2, 4)
    return y.reshape(n, c, h, w)


def standardised(x):
    """Statistics over pixels and channels by hand (EvoNorm, GRN)."""
    var, mean = torch.var_mean(x, (2, 3), keepdim=True)
    y = (x - mean) / (var + 1e-5).sqrt() + x.std((1, 2, 3), keepdim=True, unbiased=False)
    gate = torch.linalg.vector_norm(x, dim=(2, 3), keepdim=True)
    return y * gate / (gate.mean(1, keepdim=True) + 1e-6) + x.var(1, keepdim=True, correction=0)


def attended(x):
    """Softmax over all pixels, and the sum that it weights (GCNet)."""
    weights = F.softmax(x[:, :1].flatten(2), 2)
    context = torch.matmul(x.flatten(2).unsqueeze(1), weights.unsqueeze(-1)).view(1, 4, 1, 1)
    return x * F.softmax(x.flatten(2), 2).view(x.shape) + context


def deviating(x):
    """The standard deviation of groups of channels, expanded to the map (EvoNorm)."""
    n, c, h, w = x.shape
    split = x.reshape(n, 2, c // 2, h, w)
    spread = split.var(dim=(2, 3, 4), unbiased=False, keepdim=True).add(1e-5).sqrt()
    return x * x.sigmoid() / spread.expand(split.shape).reshape(x.shape)


def located(x):
    """Coordinates of every pixel as channels (CoordConv)."""
    n, _, h, w = x.shape
    rows = torch.linspace(-1, 1, h).view(1, 1, h, 1).expand(n, 1, h, w)
    columns = torch.arange(w).float().view(1, 1, 1, w).expand(n, 1, h, w)
    return torch.cat([rows, x, columns], 1)[:, :4] + torch.cat([x, columns], 1)[:, 1:]


def windows(x):
    """Space to depth, in channels-last order, with a norm over one of the groups of channels."""
    n, c, h, _ = x.shape
    y = x[..., :8].permute(0, 2, 3, 1).reshape(n, h // 2, 2, 4, 2, c).transpose(2, 3)
    y = F.layer_norm(y, (c,)).softmax(3)
    y = y.transpose(2, 3).reshape(n, h, 8, c).permute(0, 3, 1, 2)
    return F.pad(y, (0, 1))


@pytest.mark.parametrize(
    "function",
    [
        grouped,
        selective,
        tokens,
        shuffled,
        standardised,
        attended,
        deviating,
        windows,
        located,
        lambda x: x.flip(2) + x.flip((2, 3)),
        lambda x: x.roll((-2, 3), (2, 3)) + x.roll(4, 2) + x.roll((1, 2), (2, -2)),
        lambda x: x.repeat(1, 1, 2, 3)[:, :, 3:11, 5:14],
        lambda x: x * x.mean(3, keepdim=True) + x.amax(2, keepdim=True) - x.sum(3, keepdim=True),
        lambda x: x * torch.stack(x.unbind(1), 1) + x.select(1, 2).unsqueeze(1),
        lambda x: x * x.mean((1, 2, 3), keepdim=True) + x.sum((1, 2)).view(1, 1, 1, 9),
        lambda x: F.rms_norm(x.permute(0, 2, 3, 1), (4,), TABLE[:4]).permute(0, 3, 1, 2),
        lambda x: F.conv3d(x.unsqueeze(1), SQUARE.view(1, 1, 1, 4, 4)).squeeze(1),
        lambda x: F.prelu(x, TABLE[:4]) + F.prelu(x, TABLE[:1]),
        lambda x: torch.addcmul(x, x, x, value=0.3) + F.softsign(x) + F.hardswish(x.type_as(x)),
    ],
)
def test_what_real_models_have_is_cut(function):
    assert "gather" not in kinds(function)


class Volume(nn.Module):
    """Input 1x2x5x9x8: convolutions, pools and norms of a video, and back to its size."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv3d(2, 4, 3, padding=1), nn.BatchNorm3d(4), nn.PReLU(4))
        self.pool, self.mean = nn.MaxPool3d(3, 2, 1), nn.AvgPool3d((1, 2, 2))
        self.norm = nn.GroupNorm(2, 4)
        self.up = nn.ConvTranspose3d(4, 4, 3, 2, 1, (0, 0, 1))
        self.gate = nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Conv3d(4, 4, 1), nn.Sigmoid())
        self.last = nn.Conv3d(4, 2, (2, 3, 1), (1, 2, 1), groups=2)

    def forward(self, x):
        x = self.first(x)
        y = self.norm(self.pool(x))
        x = x + self.up(y) * self.gate(y)
        return self.last(x), self.mean(x), F.instance_norm(y).amax(2)


def test_volumes_are_cut_along_rows_and_columns():
    """3-D convolutions and pools were gathered, and inputs of five dimensions refused."""
    network = check_module(Volume(), (1, 2, 5, 9, 8)).network
    assert {layer.kind for layer in network.layers} <= {"spatial", "global", "gather"}
    assert all(layer.is_view for layer in network.head)


class Anchored(nn.Module):
    """What detection heads add: a grid of anchors, times the stride that a buffer holds."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3)
        self.register_buffer("strides", torch.tensor([8.0, 16.0]))

    def forward(self, x):
        x = self.conv(x)
        h, w = x.shape[2:]
        rows, columns = torch.arange(h).type_as(x) + 0.5, torch.arange(w).type_as(x) + 0.5
        grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij")).view(1, 2, -1)
        stride = torch.full((h * w,), self.strides[0]) * self.strides[1].item()
        boxes = (grid.expand(1, 2, h * w) + x.view(1, 2, 2, -1).softmax(1)[:, 0]) * stride
        return boxes.permute(0, 2, 1), x.view(1, 4, -1).permute(0, 2, 1).sigmoid().topk(3, 1)[0]


def test_anchors_and_strides_are_constants():
    """No YOLO was imported for a number that a constant holds: "op item is not supported"."""
    model = check_module(Anchored(), (1, 2, 9, 8))
    check_import(model)
    assert model.imported.derived and model.network.layers[0].kind == "spatial"


def test_inputs_of_two_dimensions_are_features():
    model = check_module(nn.Sequential(nn.Linear(10, 6), nn.ReLU(), nn.Linear(6, 3)), (2, 10))
    assert [layer.op for layer in model.network.vectors] == ["linear", "linear"]


def test_a_gathered_map_goes_on_as_the_map_that_it_is_added_to():
    """Behind attention over tokens nothing was a map again."""

    def function(x):
        y = x.permute(0, 2, 3, 1)
        y = y + y.flip(3).cumsum(3)
        z = y.flatten(1, 2)
        z = z + F.scaled_dot_product_attention(z, z, z)
        return z.view(y.shape).permute(0, 3, 1, 2).relu()

    network = check_module(Chain(function), SHAPE).network
    maps = [node for layer in network.layers for node in layer.nodes if node.maps]
    assert [node.op for node in maps].count("add") == 2 and maps[-1].op == "conv2d"


def test_a_convolution_of_a_map_that_lies_otherwise_gathers_it_first():
    """It was refused: "its input's dimensions are not sample, channels, then rows and columns"."""

    def function(x):
        y = F.conv2d(x.permute(0, 2, 1, 3), torch.ones(8, 8, 3, 3), padding=1)
        return y.permute(0, 2, 1, 3)

    network = check_module(Chain(function), SHAPE).network
    assert [layer.op for layer in network.layers].count("conv2d") == 3


def test_whole_numbers_are_floating_point_ones_before_a_convolution():
    """An index reached the convolution as int64: a traceback of torch where the plan ran."""

    def function(x):
        return F.conv2d(x.argmax(1, keepdim=True).float().expand(-1, 4, -1, -1), SQUARE)

    assert kinds(function)[0] == "spatial"


def test_numbers_written_into_a_part_of_a_map():
    def function(x):
        y = x.clone()
        y[:, :1] = 0
        return F.layer_norm(y.permute(0, 2, 3, 1), (4,)).permute(0, 3, 1, 2)

    assert kinds(function)[0] == "spatial"


class Answers(nn.Module):
    """A map, truth values, indices, and values with where they stand."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3)

    def forward(self, x):
        x = self.conv(x)
        return torch.where(x > 0.1, x, -x), (x > 0.1) & (x < 0.5), x.argmax(1), x.topk(2, 1)


def test_truth_values_and_indices_are_outputs():
    """The comparison with the model ended in a traceback: truth values were negated."""
    model = load_module(Answers().eval(), "answers", SHAPE)
    check_import(model)
    cluster = make_cluster([1.0, 2.0])
    plan = plan_network(ModelRef("answers", SHAPE), model.network, cluster, PlanOptions())
    assert verify_plan(plan, model).ok


@pytest.mark.parametrize(
    ("function", "words"),
    [
        # A sum of whole numbers was taken for one of floating-point ones: a wrong plan.
        (lambda x: x * x.sum(1, keepdim=True, dtype=torch.int64), "op sum .* computes in int64"),
        (lambda x: x * (x.argmax(1, keepdim=True) + 1), "op add .* whole numbers from its self"),
        (lambda x: x * WHOLE_NUMBERS[x.argmax(1, keepdim=True)], "op index .* its self is a const"),
        (lambda x: x * torch.where(x > 0.1, 2**25 + 1, 0), "op where .* constant of whole numbers"),
        (
            lambda x: x * x.argmax(1, keepdim=True).masked_fill(x > 0.1, 2**25 + 1),
            "op masked_fill .* its value is a constant of whole numbers",
        ),
        (lambda x: x.double().float(), "op to .* float64, which no feature map is carried in"),
        (lambda x: x.abs().view(torch.int32) * 1.0, "op view .* reads the bits"),
        (lambda x: x + x[:, :, :0].sum(), "op slice .* has no elements"),
        (lambda x: x * x[x > 0.5].sum(), "op index is not supported: the sizes .* depend on data"),
        (
            lambda x: torch.linalg.lstsq(x, torch.ones(1, 4, 8, 1)).solution,
            "op linalg_lstsq .* depend on data",
        ),
    ],
)
def test_refusals_name_the_operator_and_a_true_reason(function, words):
    """``aten.linalg_lstsq.default`` was all that torch's own message said of the last one."""
    message = refusal(function)
    assert re.search(words, message) and "\n" not in message


def test_indices_that_float32_cannot_count_are_refused(monkeypatch):
    monkeypatch.setattr(casts, "EXACT", 100)
    assert "argmax" in refusal(lambda x: x * x.argmax(1, keepdim=True))


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 1)
        self.register_buffer("mean", torch.zeros(2))
        self.register_buffer("spread", torch.ones(2))

    def forward(self, x):
        op = torch.ops.aten._native_batch_norm_legit
        return op(self.conv(x), None, None, self.mean, self.spread, True, 0.1, 1e-5)[0]


def test_a_changed_buffer_names_the_operator():
    """The message named the buffer and the line alone."""
    with pytest.raises(UnsupportedError, match="by op _native_batch_norm_legit"):
        load_module(Counting().eval(), "counting", SHAPE)


def called(op, overload, *args, x=(0.0,)):
    attrs = {"overload": overload, "args": list(args), "kwargs": {}}
    return pixelwise.call_aten(Node("x", op, (), (1,), attrs), {}, [torch.tensor(x)], EMPTY)


def test_a_whole_node_calls_nothing_outside_the_vocabulary():
    with pytest.raises(InputError, match="not in the vocabulary"):
        called("bernoulli", "default", {"in": 0})
    with pytest.raises(InputError, match="cast to 'any' is not known"):
        called("neg", "default", {"in": 0, "dtype": "any"})


def test_a_whole_node_writes_into_nothing():
    """A plan could name the overload that writes its result into a tensor of others."""
    with pytest.raises(InputError, match="may not write into what it is given"):
        called("neg", "out", {"in": 0})


@pytest.mark.parametrize("op", sorted((ELEMENTWISE | WHOLE) - {"relayout", "movedim"}))
def test_whole_operators_are_torch_s_and_draw_no_random_numbers(op):
    packet = getattr(torch.ops.aten, op)
    plain = [getattr(packet, name) for name in packet.overloads()]
    assert any(not overload._schema.is_mutable for overload in plain)
    seeded = any(torch.Tag.nondeterministic_seeded in overload.tags for overload in plain)
    assert not seeded or op in SWITCHES


def written(x, rows):
    y = x.clone()
    y[:, :, rows] = x[:, :, :2] * 2
    return y


WHOLE_ONES = {
    "lstm": lambda x, m: x + m.lstm(x.flatten(2).transpose(1, 2))[0].transpose(1, 2).view(x.shape),
    "gru": lambda x, m: x * m.gru(x.flatten(2).transpose(1, 2))[1].view(1, 4, 1, 1),
    "index_put": lambda x, m: written(x, m.rows),
    "scatter": lambda x, m: x.scatter(2, m.rows.view(1, 1, 2, 1).expand(1, 4, 2, 9), 0.5),
    "index_add": lambda x, m: x.index_add(2, m.rows, x[:, :, :2]),
    "col2im": lambda x, m: F.fold(F.unfold(x, 3), x.shape[2:], 3),
    "grid_sampler_2d": lambda x, m: F.grid_sample(
        x, x.mean(1)[..., None].expand(1, 8, 9, 2), align_corners=False
    ),
    "baddbmm": lambda x, m: torch.baddbmm(x[0], x[0], torch.ones(4, 9, 9))[None],
    "conv1d": lambda x, m: F.conv1d(x.cumsum(2).flatten(2), m.line, padding=1).view(x.shape),
    "upsample_trilinear3d": lambda x, m: F.interpolate(x[None], scale_factor=2.0, mode="trilinear")[
        0, :, ::2, ::2, ::2
    ],
    "cdist": lambda x, m: (
        x + torch.cdist(x.flatten(2), x.flatten(2)).mean((1, 2), keepdim=True)[..., None]
    ),
    "einsum": lambda x, m: x + torch.einsum("nchw,ndhw->ncd", x, x).mean((1, 2)).view(1, 1, 1, 1),
}


class WithParts(Chain):
    """A function of a map and of what it needs: recurrent layers, indices and a filter."""

    def __init__(self, function):
        super().__init__(lambda x: function(x, self))
        self.lstm = nn.LSTM(4, 2, bidirectional=True, batch_first=True)
        self.gru = nn.GRU(4, 4, batch_first=True)
        self.register_buffer("rows", torch.tensor([5, 2]))
        self.register_buffer("line", torch.ones(4, 4, 3) / 3)


@pytest.mark.parametrize("name", WHOLE_ONES)
def test_operators_run_whole_between_convolutions(name):
    """Each was refused for want of an operator."""
    model = check_module(WithParts(WHOLE_ONES[name]), SHAPE)
    check_import(model)


def test_whole_numbers_survive_lossy_transfers():
    found = called("eq", "Scalar", {"in": 0, "dtype": "int64"}, 3, x=(2.9999, 3.0001))
    assert found.tolist() == [1, 1]
