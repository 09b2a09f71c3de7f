"""The chain of what waits for what: by hand, and on simulated plans."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from nptp_opt.cluster import Cluster
from nptp_opt.cost import RIMS, Rims
from nptp_opt.evaluate.assemble import Choice, assemble
from nptp_opt.evaluate.critical_path import added_s, critical_path
from nptp_opt.evaluate.simulate import Stretch, timeline
from nptp_opt.geometry import Tile
from tests.builders import conv_chain, make_cluster

NETWORK = conv_chain((1, 3, 24, 24), [{}, {"stride": 2}, {}])


def stretches(cluster: Cluster, rims: Rims = "none") -> tuple[Stretch, ...]:
    """Equal strips of every layer on three devices."""
    choices = []
    for layer in NETWORK.layers:
        third = layer.height // 3
        tiles = {i: Tile(i * third, (i + 1) * third, 0, layer.width) for i in range(3)}
        choices.append(Choice((layer,), tiles, rims))
    return timeline(NETWORK, cluster, assemble(NETWORK, cluster, choices))


def clusters() -> list[Cluster]:
    switched = make_cluster((0.01, 0.02, 0.01), rates=(5.0, 20.0, 5.0), latency_ms=0.1)
    slow = switched.network.model_copy(update={"message_ms": 0.3})
    return [
        switched,
        switched.model_copy(update={"network": slow}),
        make_cluster((0.01, 0.02, 0.01), rates=1.0, shared=True, latency_ms=0.05),
    ]


def test_a_path_by_hand() -> None:
    """d0 computes until 2, its message is ready then; the medium has d2's until 3 and this one
    until 5; d1 has it at 5.5 (latency 0.5) and ends at 7, after d0's second task.

    So d1 waited for d0's message, that for d2's, that for what d2 computed.
    """
    first = Stretch("compute", 0, 0, 0.0, 2.0)
    other = Stretch("compute", 0, 2, 0.0, 1.0)
    in_the_way = Stretch("message", 1, 2, 1.0, 3.5, 0, (1.0, 3.0))
    late = Stretch("message", 1, 0, 2.0, 5.5, 1, (3.0, 5.0))
    unhurried = Stretch("compute", 1, 0, 3.5, 6.0)
    last = Stretch("compute", 1, 1, 5.5, 7.0)
    given = [first, other, in_the_way, late, unhurried, last]
    assert critical_path(given) == (other, in_the_way, late, last)
    assert added_s(critical_path(given)) == (1.0, 2.5, 2.0, 1.5)
    at_once = replace(late, start_s=3.0)  # ready only when the medium is free: it waited for d0
    longer = replace(first, end_s=3.0)
    assert critical_path([longer, other, in_the_way, at_once, unhurried, last]) == (
        longer, at_once, last,
    )  # fmt: skip


def test_without_stretches_there_is_no_path() -> None:
    assert critical_path([]) == added_s([]) == ()


@pytest.mark.parametrize("rims", RIMS)
@pytest.mark.parametrize("cluster", clusters(), ids=["switched", "handing over", "shared"])
def test_a_simulated_path_has_no_holes(cluster: Cluster, rims: Rims) -> None:
    """It begins with the input and ends with the result, and each stretch begins when the one
    before it ends: but for the link that a message waits for, and the handing over of messages."""
    path = critical_path(stretches(cluster, rims))
    most_s = 3 * cluster.network.message_s  # to hand over the messages of one task
    assert path[0].start_s <= most_s
    assert path[-1].end_s == max(s.end_s for s in stretches(cluster, rims))
    assert any(s.kind == "message" for s in path)
    for before, after in pairwise(path):
        if before.kind == after.kind == "message":
            assert before.on_link_s is not None and after.on_link_s is not None
            assert before.on_link_s[1] == pytest.approx(after.on_link_s[0], rel=1e-9)
            assert after.start_s < after.on_link_s[0]
        else:
            assert -1e-12 <= after.start_s - before.end_s <= most_s + 1e-12


def test_messages_keep_their_links_one_after_the_other() -> None:
    """On one medium no two messages are at once, and each ends a latency after it left."""
    cluster = clusters()[2]
    on_link = sorted(s.on_link_s for s in stretches(cluster) if s.on_link_s is not None)
    assert len(on_link) > 3
    for (_, left), (taken, _) in pairwise(on_link):
        assert left <= taken + 1e-12
    for stretch in stretches(cluster):
        if stretch.on_link_s is not None:
            assert stretch.start_s <= stretch.on_link_s[0] <= stretch.on_link_s[1]
            assert stretch.end_s - stretch.on_link_s[1] == pytest.approx(cluster.network.latency_s)
