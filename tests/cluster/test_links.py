"""What measured links say of a network, on figures whose answer is known."""

from __future__ import annotations

import pytest

from nptp_opt.cluster.links import MeasuredLinks
from nptp_opt.cluster.profiles import Link


def link(up: float, down: float | None = None, latency_ms: float = 0.2) -> Link:
    return Link(latency_ms=latency_ms, message_ms=0.1, up_mbit_per_s=up, down_mbit_per_s=down or up)


MIXED = MeasuredLinks(
    ("a", "b", "c"),
    {(0, 1): link(80), (0, 2): link(80, latency_ms=0.4), (1, 2): link(40)},
    (78, 39, 77),
)


def test_links_that_keep_their_rates_are_switched() -> None:
    """78 of 80, 39 of 40, 77 of 80: no way takes another's place."""
    assert MIXED.kind == "switched" and MIXED.kept == pytest.approx(0.975)


@pytest.mark.parametrize("n", [2, 3, 8])
def test_ways_that_keep_their_part_alone_are_a_medium(n: int) -> None:
    pairs = {(i, k): link(60) for i in range(n) for k in range(i + 1, n)}
    names = [f"d{i}" for i in range(n)]
    assert MeasuredLinks(names, pairs, [60 / n * 1.1] * n).kind == "shared"
    assert MeasuredLinks(names, pairs, [60 * 0.85] * n).kind == "switched"


def test_a_device_is_as_fast_as_the_fastest_way_through_it() -> None:
    """Up 100 and down 20 of a, told by b and c: what a sends, they receive."""
    links = MeasuredLinks(
        ("a", "b", "c"), {(0, 1): link(90, 20), (0, 2): link(100, 19), (1, 2): link(95)}, (1, 1, 1)
    )
    assert (links.link(0).up_mbit_per_s, links.link(0).down_mbit_per_s) == (100, 20)
    assert links.link(1).up_mbit_per_s == 95
    assert MIXED.link(0).latency_ms == pytest.approx(0.3)


def test_what_a_cluster_file_cannot_say_is_told() -> None:
    """b and c have 40 Mbit/s between them, and 80 to a: no rate of a device says that."""
    told = list(MIXED.notes("switched"))
    assert told[0] == "while all 3 devices send at once, a way keeps 98% of its rate: switched"
    assert told[1:] == [
        "b to c: 40 Mbit/s were measured, the cluster file amounts to 80",
        "c to b: 40 Mbit/s were measured, the cluster file amounts to 80",
    ]
    assert next(MIXED.notes("shared")).endswith("switched, but shared was asked for")
