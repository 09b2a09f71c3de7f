"""The pinwheel of issue 3, and exact search at sizes that brute force cannot reach."""

from __future__ import annotations

import pytest

from nptp_opt.layer.families import belongs
from nptp_opt.layer.limits import Limits
from nptp_opt.layer.result import Status
from nptp_opt.layer.solve import solve_layer
from tests.builders import make_cluster, make_problem
from tests.search.problems import pinwheel

FOUR = Limits(gap=1e-4)


def test_pinwheel_beats_every_guillotine_partition_by_1_16_percent() -> None:
    """Found and proven: issue 3, item 3."""
    guillotine = solve_layer(pinwheel(), "guillotine-dp", limits=FOUR)
    best = solve_layer(pinwheel(), "dissection-search", limits=FOUR)
    assert guillotine.status is best.status is Status.OPTIMAL
    assert best.tiles is not None
    assert guillotine.makespan_s == pytest.approx(0.768704512)
    assert best.makespan_s == pytest.approx(0.75972608, rel=1e-4)
    assert 1 - best.makespan_s / guillotine.makespan_s == pytest.approx(0.0116, abs=2e-4)
    assert not belongs("guillotine", best.tiles)
    assert belongs("dissection", best.tiles)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(("devices", "size"), [(4, 56), (6, 28)])
def test_unequal_devices_are_proven_optimal(devices: int, size: int, shared: bool) -> None:
    """4 devices on 56 x 56 and 6 on 28 x 28: the bound of all dissections is met."""
    problem = make_problem(
        make_cluster([2.0 + i for i in range(devices)], shared=shared, latency_ms=0.5),
        in_channels=256,
        out_channels=256,
        in_height=size,
        in_width=size,
    )
    exact = solve_layer(problem, "dissection-search", limits=FOUR)
    auto = solve_layer(problem, "auto", limits=FOUR)
    assert exact.status is auto.status is Status.OPTIMAL
    assert exact.makespan_s == pytest.approx(auto.makespan_s, rel=2e-4)


def test_a_short_time_limit_gives_an_incumbent_and_a_bound() -> None:
    """Never a wrong "optimal": value and bound stay apart and both are reported."""
    problem = make_problem(
        make_cluster([1.0 + 0.3 * i for i in range(8)], rates=20.0),
        in_channels=256,
        out_channels=256,
        in_height=56,
        in_width=56,
    )
    result = solve_layer(problem, "auto", limits=Limits(time_limit_s=0.2))
    assert result.makespan_s is not None
    assert result.bound_s is not None
    assert result.status is Status.FEASIBLE
    assert result.bound_s < result.makespan_s
