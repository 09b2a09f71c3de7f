"""The compiled simulation against a plain one."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from nptp_opt.cluster import Cluster
from nptp_opt.cost import RIMS
from nptp_opt.evaluate.assemble import Choice, assemble
from nptp_opt.evaluate.simulate import simulate, timeline
from nptp_opt.network.ir import Network
from nptp_opt.plan.steps import SpatialStep, Step
from nptp_opt.planner.baselines.quick import QUICK
from nptp_opt.planner.local_search.moves import neighbours
from tests.builders import conv_chain, make_cluster
from tests.evaluate.oracle import Oracle
from tests.network.partitioned import random_tiles
from tests.networks import residual_network

CHAIN = conv_chain((1, 3, 24, 24), [{}, {"stride": 2}, {}])
RESIDUAL = residual_network(blocks=2)


def varied(network: Network, cluster: Cluster, count: int) -> list[list[Choice]]:
    """Baselines with some partitions changed at random, their other segments left as they are."""
    random_ = random.Random(0)
    starts = [plan(network, cluster) for plan in QUICK.values()]
    found = []
    for _ in range(count):
        choices = list(random_.choice(starts))
        number = random_.choice([k for k, c in enumerate(choices) if c.tiles])
        moved = list(neighbours(choices[number].tiles, 4, cluster.kinds))
        if moved:
            choices[number] = Choice(choices[number].layers, random_.choice(moved))
        found.append(choices)
    return found


def clusters() -> list[Cluster]:
    made = [
        make_cluster((0.01, 0.02, 0.01), rates=(5.0, 20.0, 5.0), latency_ms=0.1),
        make_cluster((0.01, 0.02, 0.01), rates=5.0, shared=True, latency_ms=0.05),
    ]
    slow = made[0].network.model_copy(update={"message_ms": 0.3})
    return [*made, made[0].model_copy(update={"network": slow})]


def in_random_pieces(
    network: Network, cluster: Cluster, steps: tuple[Step, ...], rng: random.Random
) -> tuple[Step, ...]:
    """Tiles cut anywhere into pieces in any order; messages in any order."""
    found = list[Step]()
    for step in steps:
        moves = rng.sample(step.transfers, len(step.transfers))
        pieces = {}
        for device in step.devices if isinstance(step, SpatialStep) else ():
            parts = random_tiles(step.tiles[device], 2, rng)
            pieces[device] = tuple(rng.sample(parts, len(parts)))
        more = {"pieces": pieces} if pieces else {}
        found.append(replace(step, transfers=tuple(moves), **more))
    return tuple(found)


@pytest.mark.parametrize("network", [CHAIN, RESIDUAL], ids=["chain", "residual"])
def test_the_compiled_simulation_equals_the_plain_one(network: Network) -> None:
    """Plans without pieces, with each kind of rims, and with pieces and messages in any order."""
    rng = random.Random(1)
    for cluster in clusters():
        for number, choices in enumerate(varied(network, cluster, 25)):
            rims = RIMS[number % len(RIMS)]
            each = [c if c.is_global else replace(c, rims=rims, first=(2, 0)) for c in choices]
            steps = assemble(network, cluster, each)
            for some in (steps, in_random_pieces(network, cluster, steps, rng)):
                expected = Oracle(network, cluster, some).run()
                assert simulate(network, cluster, some) == pytest.approx(expected, rel=1e-12)
                ends = [p.end_s for p in timeline(network, cluster, some)]
                assert max(ends) == pytest.approx(expected, rel=1e-12)
