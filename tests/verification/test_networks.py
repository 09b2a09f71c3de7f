"""Imported networks, planned or partitioned at random, proved by the verifier end to end."""

import random

import pytest

from nptp_opt.evaluate.assemble import Choice, assemble
from nptp_opt.evaluate.usage import evaluated
from nptp_opt.geometry import Tile
from nptp_opt.network.load import load_model
from nptp_opt.network.ref import ModelRef
from nptp_opt.plan.model import Plan
from nptp_opt.planner import PlanOptions, plan_network
from nptp_opt.verification.torch_check import verify_plan
from tests.builders import make_cluster
from tests.network.partitioned import random_tiles, segments, whole_convolutions

SWITCHED = make_cluster((2.0, 1.0, 1.5), rates=100.0, latency_ms=0.05)
SHARED = make_cluster((20.0, 10.0, 15.0, 30.0), shared=True, rates=50.0, sink="d2")

NETWORKS = {
    "vgg11": ((1, 3, 33, 47), "coedge-style"),
    "resnet18": ((2, 3, 57, 76), "grid-equal"),
    "inception_v3": ((1, 3, 81, 75), "strip-equal"),
    "googlenet": ((1, 3, 41, 50), "strip-equal"),
    "densenet121": ((1, 3, 33, 40), "strip-equal"),
    "mobilenet_v3_small": ((2, 3, 65, 47), "strip-equal"),
    "regnet_y_400mf": ((1, 3, 33, 47), "strip-equal"),
    "convnext_tiny": ((1, 3, 33, 64), "strip-equal"),
    "shufflenet_v2_x0_5": ((1, 3, 65, 47), "strip-equal"),
    "lraspp_mobilenet_v3_large": ((1, 3, 49, 65), "grid-equal"),
    "deeplabv3_mobilenet_v3_large": ((1, 3, 49, 65), "grid-equal"),
    "tests.network.models:unet": ((2, 3, 21, 27), "nptp"),
    "tests.network.models:detector": ((2, 3, 225, 301), "nptp"),
}


def random_plan(ref, network, cluster, seed=0):
    """Random segments, each cut at random into at most one tile for each device."""
    rng, devices, choices = random.Random(seed), [*range(len(cluster.devices))], []
    for layers in segments(network, rng):
        if layers[-1].kind == "global":
            choices.append(Choice(layers))
            continue
        whole = layers[-1].is_whole
        tiles = [layers[-1].full] if whole else random_tiles(layers[-1].full, 2, rng)
        rng.shuffle(devices)
        choices.append(Choice(layers, dict(zip(devices, tiles, strict=False))))
    steps = assemble(network, cluster, choices)
    return evaluated(Plan(ref, network, cluster, steps, 0.0))


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_are_proved_whatever_partitions_them(name):
    shape, planner = NETWORKS[name]
    model, ref = load_model(name, shape), ModelRef(name, shape)
    assert whole_convolutions(model.network) == []
    plans = [
        random_plan(ref, model.network, SHARED),
        plan_network(ref, model.network, SWITCHED, PlanOptions(planner)),
    ]
    for plan in plans:
        report = verify_plan(plan, model)
        assert report.faults == [] and report.layers == len(model.network.layers)
        assert report.to_json()["max_rel_error_float64"] < 1e-10


def test_a_segment_whose_tile_reads_only_one_of_the_joined_maps():
    """The other map's tile is empty: it was missing instead."""
    shape, cluster = (1, 3, 8, 9), make_cluster((1.0, 1.0, 1.0))
    ref = ModelRef("tests.network.models:end_to_end", shape)
    model = load_model(ref.ref, shape)
    cuts = {0: Tile(0, 5, 0, 9), 1: Tile(5, 11, 0, 9), 2: Tile(11, 16, 0, 9)}
    steps = assemble(model.network, cluster, [Choice(model.network.shared_out, cuts)])
    plan = evaluated(Plan(ref, model.network, cluster, steps, 0.0))
    assert verify_plan(plan, model).faults == []
