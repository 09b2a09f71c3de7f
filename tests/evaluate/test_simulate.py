"""The compiled simulation against a plain one."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from nptp_opt.cluster import Cluster
from nptp_opt.evaluate.assemble import Choice, assemble
from nptp_opt.evaluate.simulate import simulate, timeline
from nptp_opt.network.ir import Network
from nptp_opt.planner.baselines.quick import QUICK
from nptp_opt.planner.local_search.moves import neighbours
from tests.builders import conv_chain, make_cluster
from tests.evaluate.oracle import Oracle
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


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("network", [CHAIN, RESIDUAL], ids=["chain", "residual"])
def test_the_compiled_simulation_equals_the_plain_one(network: Network, overlap: bool) -> None:
    for cluster in clusters():
        for choices in varied(network, cluster, 20):
            each = [replace(c, overlap=overlap and not c.is_global) for c in choices]
            steps = assemble(network, cluster, each)
            expected = Oracle(network, cluster, steps).run()
            assert simulate(network, cluster, steps) == pytest.approx(expected, rel=1e-12)
            assert max(p.end_s for p in timeline(network, cluster, steps)) == pytest.approx(
                expected, rel=1e-12
            )
