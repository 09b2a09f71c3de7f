"""Random plans of random networks, executed: what comes out is what the model computes."""

from __future__ import annotations

from random import Random

import pytest
import torch

from nptp_opt.evaluate.assemble import Choice, assemble
from nptp_opt.network.load import LoadedModel
from nptp_opt.network.ref import ModelRef
from nptp_opt.plan.model import Plan
from nptp_opt.runtime.launcher.report import make_reference
from nptp_opt.verification.torch_check import sent_errors
from tests.builders import make_cluster
from tests.network.partitioned import random_tiles, segments
from tests.runtime.grown import grown_model
from tests.runtime.plans import in_pieces
from tests.runtime.ranks import execute

NETWORKS, PLANS = 12, 6
DTYPES = ["float32", "float32", "float16", "bfloat16", "int8"]


def random_plan(model: LoadedModel, seed: int) -> Plan:
    """Random segments, sizes, owners, ends and transfer type; up to one tile for each of five."""
    rng, choices, devices = Random(seed), list[Choice](), [*range(5)]
    source, sink = (f"d{rng.randrange(5)}" for _ in range(2))
    cluster = make_cluster([1.0] * 5, source=source, sink=sink).sending_as(rng.choice(DTYPES))
    for layers in segments(model.network, rng):
        if layers[-1].kind == "global":
            choices.append(Choice(layers))
            continue
        tiles = random_tiles(layers[-1].full, 2, rng)
        if rng.random() < 0.7:
            rng.shuffle(devices)
        choices.append(Choice(layers, dict(zip(devices, tiles, strict=False))))
    steps = assemble(model.network, cluster, choices)
    shape = model.network.shapes[model.network.inputs[0]]
    plan = Plan(ModelRef("grown", shape), model.network, cluster, steps, 0.0)
    if rng.random() < 0.5:
        return plan
    return in_pieces(plan, rng) if rng.random() < 0.7 else in_pieces(plan)


@pytest.mark.parametrize("seed", range(NETWORKS))
def test_random_plans_give_the_models_output(seed: int) -> None:
    """Unequal and empty tiles, idle devices, fused segments, joins, reductions, several outputs,
    pieces and messages in any order, and transfer types together; the second input goes through
    used buffers."""
    model = grown_model(seed, Random(seed), 16, 15)
    shape = model.network.shapes[model.network.inputs[0]]
    generator = torch.Generator().manual_seed(seed)
    inputs = [torch.randn(shape, generator=generator) for _ in range(2)]
    references = [make_reference(model, x) for x in inputs]
    for number in range(PLANS):
        plan = random_plan(model, 1000 * seed + number)
        answers, sent = execute(plan, model, inputs)
        assert sent == plan.transfer_bytes
        for reference, outputs in zip(references, answers, strict=True):
            lossy = 0.0
            if plan.cluster.transfer_dtype != "float32":
                lossy = 2 * sent_errors(plan, model, reference.inputs).relative
            error, ok = reference.error(outputs, lossy)
            assert ok, (number, plan.cluster.transfer_dtype, error)
