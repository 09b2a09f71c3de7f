"""Whole nodes in the middle: what follows on them is divided again, or held by every device."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own idiom

from nptp_opt.network.describe import gathered, whole_share
from nptp_opt.network.load import load_module
from nptp_opt.planner import PlanOptions, plan_network
from nptp_opt.planner.baselines.quick import QUICK
from nptp_opt.verification.static import paper_faults
from nptp_opt.verification.torch_check import verify_plan
from tests.builders import make_cluster
from tests.network.partitioned import check_module, largest_error, whole_convolutions


class Attention(nn.Module):
    """Attention over pixels with a convolution on its values, as in YOLO11's C2PSA."""

    def __init__(self, channels: int = 8, heads: int = 2):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.position = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.proj = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        n, c, h, w = x.shape
        each = c // self.heads
        qkv = self.qkv(x).view(n, self.heads, 3 * each, h * w)
        q, k, v = qkv.split([each] * 3, dim=2)
        weights = ((q.transpose(-2, -1) @ k) * each**-0.5).softmax(-1)
        y = (v @ weights.transpose(-2, -1)).view(n, c, h, w)
        return x + self.proj(y + self.position(v.reshape(n, c, h, w)))


class ChannelAttention(nn.Module):
    """As ECA's, with an op over the pooled channels that has no rule of its own."""

    def forward(self, x):
        return x * torch.cumsum(x.mean((2, 3)), 1).sigmoid().view(x.shape[0], -1, 1, 1)


class Tokens(nn.Module):
    """A transformer block between two convolutions, with a norm and an MLP over tokens."""

    def __init__(self, channels: int = 8):
        super().__init__()
        self.norm, self.mlp = nn.LayerNorm(channels), nn.Linear(channels, channels)

    def forward(self, x):
        n, c, h, w = x.shape
        t = x.flatten(2).transpose(1, 2)
        t = t + F.scaled_dot_product_attention(t, t, t)
        t = t + self.mlp(self.norm(t))
        return t.transpose(1, 2).reshape(n, c, h, w)


class Cumulated(nn.Module):
    """An op without any window, on a map of the usual order."""

    def forward(self, x):
        return torch.cumsum(x, 2)


def between(*middle: nn.Module, channels: int = 8) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, channels, 3, 2, 1),
        nn.ReLU(),
        *middle,
        nn.Conv2d(channels, channels, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(channels, 4, 3, padding=1),
    )


SHAPE = (1, 3, 16, 14)


@pytest.mark.parametrize("middle", [Attention, Tokens, Cumulated])
def test_what_follows_on_a_whole_node_is_divided_again(middle):
    network = check_module(between(middle()), SHAPE).network
    assert not whole_convolutions(network) and not network.head
    assert any(layer.is_whole for layer in network.layers)
    assert network.layers[-1].kind == "spatial" and not network.layers[-1].is_whole
    assert any("divided again" in entry.why for entry in gathered(network))
    flop, made = whole_share(network)
    assert 0 < flop < 1 and 0 < made < 1


def test_channel_attention_runs_on_every_device():
    network = check_module(between(ChannelAttention()), SHAPE).network
    assert not network.head and not any(layer.is_whole for layer in network.layers)
    assert [layer.kind for layer in network.layers].count("global") == 2
    assert whole_share(network) == (0.0, 0.0)


def test_work_that_is_too_little_stays_with_the_whole_nodes():
    """A scale behind the attention is no reason to hand a map out."""

    class Head(nn.Module):
        def forward(self, x):
            return (torch.cumsum(x, 3) * 2.0).mean((2, 3))

    network = check_module(nn.Sequential(nn.Conv2d(3, 64, 11), Head()), SHAPE).network
    assert {layer.kind for layer in network.layers[1:]} == {"gather"}


def test_a_heavy_node_that_two_exits_share_is_not_computed_twice():
    """Each way out would need the whole product again, so all stays on one device."""

    class Forked(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)

        def forward(self, x):
            n, c, h, w = x.shape
            t = x.flatten(2)
            t = t.transpose(1, 2) @ (t @ (t.transpose(1, 2) @ t))  # (n, hw, hw): heavy
            one = t[:, :, : c * 1].transpose(1, 2).reshape(n, c, h, w)
            two = t[:, :, c : 2 * c].transpose(1, 2).reshape(n, c, h, w)
            return self.a(one) + self.b(two)

    network = check_module(between(Forked()), SHAPE).network
    names = [node.name for layer in network.layers for node in layer.nodes]
    assert len(names) == len(set(names))
    assert sum(node.op == "matmul" for layer in network.layers for node in layer.nodes) == 3


def test_a_light_node_that_two_exits_share_is_copied_under_names_of_its_own():
    class Forked(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)

        def forward(self, x):
            t = torch.cumsum(x.flatten(2), 2)
            mixed = t.transpose(1, 2).reshape(x.shape)
            return self.a(t.reshape(x.shape)) + self.b(mixed)

    network = check_module(between(Forked()), SHAPE).network
    names = [node.name for layer in network.layers for node in layer.nodes]
    assert len(names) == len(set(names))
    assert any(".for." in name for name in names)
    assert not whole_convolutions(network)


CLUSTERS = {
    "shared": make_cluster((2.0, 1.0, 2.0), shared=True, rates=50.0),
    "alone": make_cluster((1.0,)),
}


@pytest.mark.parametrize("planner", [*QUICK, "nptp"])
@pytest.mark.parametrize("cluster", CLUSTERS)
def test_every_planner_gives_whole_layers_to_one_device_and_the_plan_is_right(planner, cluster):
    body = between(Attention(), ChannelAttention(), Tokens())
    model = load_module(body.eval(), "both", SHAPE)
    plan = plan_network(model.ref, model.network, CLUSTERS[cluster], PlanOptions(planner))
    for step in plan.steps:
        layers = plan.layers_of(step)
        if step.kind == "spatial" and layers[-1].is_whole:
            assert list(step.tiles.values()) == [layers[-1].full]
        assert not any(layer.is_whole for layer in layers[:-1])
    assert not verify_plan(plan, model).faults


def test_a_whole_layer_in_two_tiles_is_refused():
    model = load_module(between(Cumulated()).eval(), "cut", SHAPE)
    plan = plan_network(model.ref, model.network, CLUSTERS["shared"], PlanOptions("strip-equal"))
    ends = enumerate(step.layers[-1:] for step in plan.steps)
    number = next(k for k, end in ends if end and model.network.by_name[end[0]].is_whole)
    step = plan.steps[number]
    full = plan.layers_of(step)[-1].full
    tiles = {0: full.rows(0, 3), 1: full.rows(3, full.y1)}
    steps = (*plan.steps[:number], replace(step, tiles=tiles), *plan.steps[number + 1 :])
    faults = paper_faults(replace(plan, steps=steps))
    assert any("runs whole" in fault for fault in faults)


def drawn(rng: random.Random) -> nn.Module:
    blocks = [Attention, Tokens, Cumulated, ChannelAttention, lambda: nn.Conv2d(8, 8, 3, 1, 1)]
    return between(*(rng.choice(blocks)() for _ in range(rng.randint(1, 4))))


@pytest.mark.parametrize("seed", range(12))
def test_random_networks_with_whole_nodes_in_between_compute_the_same(seed):
    rng = random.Random(seed)
    torch.manual_seed(seed)
    model = load_module(drawn(rng).eval(), f"drawn-{seed}", SHAPE)
    assert largest_error(model, seed) < 1e-9
    assert not whole_convolutions(model.network)
