"""Divisions in which the source has time to hand the input on."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from nptp_opt.cluster import Cluster
from nptp_opt.cost import sent_pixel_bytes
from nptp_opt.evaluate.assemble import Choice
from nptp_opt.evaluate.latencies import Evaluator, Latencies
from nptp_opt.network.ir import Network
from nptp_opt.planner import PlanOptions
from nptp_opt.planner.candidates.coarse import coarse_templates
from nptp_opt.planner.candidates.handing import handing_shares, handing_templates
from nptp_opt.planner.candidates.pool import solved_layers, with_families
from nptp_opt.planner.nptp import Search, nptp
from tests.builders import conv_chain, make_cluster


def three_devices(**link: Any) -> tuple[Network, Cluster]:
    """One layer: computing all of it takes any device 3 s, sending the input over a link 1 s."""
    network = conv_chain((1, 1, 60, 60), [{"channels": 1, "kernel": 1, "padding": 0}])
    gflops = network.spatial[0].flop / 3e9
    size = 60 * 60 * sent_pixel_bytes(make_cluster((1.0,)), network, "input")
    return network, make_cluster((gflops,) * 3, rates=size * 8 / 1e6, **link)


def test_the_source_sends_and_computes_as_long_as_others_fetch_and_compute() -> None:
    """3 x + 1 (1 - x) = (3 + 1) (1 - x) / 2 at x = 1/4, three quarters of an even share: two steps
    of a tenth lie between."""
    network, cluster = three_devices()
    found = np.array(handing_shares(network, cluster))
    assert found == pytest.approx(np.array([[0.9, 1.05, 1.05], [0.8, 1.1, 1.1]]) / 3)


def test_on_one_medium_nobody_sends_while_others_compute() -> None:
    network, cluster = three_devices(shared=True)
    assert handing_shares(network, cluster) == []
    assert handing_templates(network, cluster) == []


def test_a_source_that_had_better_only_send_gets_no_share() -> None:
    """Sending takes longer than computing it all."""
    network, cluster = three_devices()
    slow = [device.model_copy(update={"gflops": 10 * device.gflops}) for device in cluster.devices]
    assert handing_shares(network, cluster.model_copy(update={"devices": tuple(slow)})) == []


def test_templates_have_the_shares_of_a_division() -> None:
    network, cluster = three_devices()
    sources = {0.3, 0.8 / 3}
    for template in handing_templates(network, cluster):
        y0, y1, x0, x1 = template.boxes[0]
        assert min(abs((y1 - y0) * (x1 - x0) - share) for share in sources) < 1e-9


def narrowing(gflops: float) -> tuple[Network, Cluster]:
    """A wide first map, and maps that shrink: a division that suits the sender is soon undone."""
    specs = [{"channels": 16}, {"channels": 16, "stride": 2}]
    specs += [{"channels": 32}, {"channels": 32, "stride": 2}]
    specs += [{"channels": 64}, {"channels": 64, "stride": 2}]
    specs += [{"channels": 64}, {"channels": 16, "stride": 2}]
    cluster = make_cluster((gflops,) * 4, rates=25.0, latency_ms=0.1)
    return conv_chain((1, 3, 128, 128), specs), cluster


def searched(network: Network, cluster: Cluster, *, handing: bool) -> Latencies:
    """What the search finds with and without these templates."""
    solved = solved_layers(network, cluster, PlanOptions("nptp"))
    last = handing_templates(network, cluster) if handing else []
    search, later = Search(network, cluster, math.inf), coarse_templates(network, cluster)
    found = search.run(with_families(network, cluster, solved), later=later, last=last)
    assert found is not None
    return Evaluator(network, cluster)(found)


def test_a_source_that_does_less_makes_the_plan_faster() -> None:
    network, cluster = narrowing(0.3)
    without, found = (searched(network, cluster, handing=handing) for handing in (False, True))
    assert found.sum_s < 0.995 * without.sum_s
    assert found.predicted_s < without.predicted_s


def test_what_is_faster_with_barriers_alone_is_not_taken() -> None:
    """Without barriers the source computes while it sends: half as much again was lost here for
    one twentieth of the sum."""
    network, cluster = narrowing(1.0)
    without, found = (searched(network, cluster, handing=handing) for handing in (False, True))
    assert found.sum_s < 0.96 * without.sum_s
    assert found.predicted_s > 1.4 * without.predicted_s
    best: list[Choice] = nptp(network, cluster, PlanOptions("nptp"))
    assert Evaluator(network, cluster)(best).predicted_s < 1.01 * without.predicted_s
