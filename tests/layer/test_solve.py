"""``solve_layer`` on an example worked by hand, and on names it does not know."""

from __future__ import annotations

import pytest

from nptp_opt.errors import InputError
from nptp_opt.geometry import Tile
from nptp_opt.layer.result import Status
from nptp_opt.layer.solve import solve_layer
from tests.formulations.problems import problem

# 1 x 1 convolution, 64 -> 64 channels: 8192 FLOP per pixel, no halo. Devices of 1 and 0.5 GFLOP/s
# need 8.192 and 16.384 us per pixel, 20 us per call and 10 us for the one message. Of three rows of
# four pixels the fast one takes two: 30 + 8 * 8.192 = 95.536 us; the other one: 30 + 4 * 16.384
# = 95.536 us. One device alone needs 20 + 12 * 8.192 = 118.304 us.
BY_HAND = problem(
    "by-hand", 3, 4, gflops=(1.0, 0.5), kernel=(1, 1), padding=(0, 0, 0, 0), latency_ms=0.01
)


@pytest.mark.parametrize("name", ["strip", "grid", "column", "dissection-config", "cp-sat"])
def test_hand_worked(name: str) -> None:
    result = solve_layer(BY_HAND, name)
    assert result.status is Status.OPTIMAL and result.tiles is not None
    assert result.makespan_s == pytest.approx(95.536e-6, rel=1e-9)
    assert {i: t.area for i, t in result.tiles.items()} == {0: 8, 1: 4}
    assert result.tiles[0] in {Tile(0, 2, 0, 4), Tile(1, 3, 0, 4)}


def test_unknown_formulation_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"unknown formulation 'colum'\. Did you mean 'column'"):
        solve_layer(BY_HAND, "colum")


@pytest.mark.parametrize(("name", "solver"), [("strip", "cp-sat"), ("cp-sat", "highs")])
def test_a_solver_that_cannot_take_the_formulation(name: str, solver: str) -> None:
    with pytest.raises(InputError, match=f"{name!r} cannot be solved by {solver!r}; takes "):
        solve_layer(BY_HAND, name, solver=solver)


@pytest.mark.parametrize("name", ["auto", "column-dp", "strip"])
def test_an_unknown_solver_names_the_nearest(name: str) -> None:
    """Bug: ``--solver hihgs`` with a method that takes none was answered without a hint."""
    with pytest.raises(InputError, match=r"unknown solver 'hihgs'\. Did you mean 'highs'"):
        solve_layer(BY_HAND, name, solver="hihgs")


def test_a_known_solver_for_a_method_without_one() -> None:
    with pytest.raises(InputError, match="'auto' cannot be solved by 'highs'; takes none"):
        solve_layer(BY_HAND, "auto", solver="highs")
