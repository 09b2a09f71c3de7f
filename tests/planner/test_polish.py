"""Moves keep a partition a partition; polishing never makes a plan worse."""

from __future__ import annotations

import itertools
import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nptp_opt.evaluate.assemble import Choice
from nptp_opt.evaluate.clock import Clock
from nptp_opt.geometry import Tile, cover_fault
from nptp_opt.planner.baselines.quick import follow, latency_s, strip_equal
from nptp_opt.planner.candidates.templates import columns, strips
from nptp_opt.planner.local_search.anneal import in_fewer_pieces
from nptp_opt.planner.local_search.moves import Partition, neighbours, random_move, shift_cuts
from nptp_opt.planner.local_search.polish import polish
from tests.builders import conv_chain, make_cluster
from tests.networks import residual_network

PINWHEEL = {
    0: Tile(0, 2, 0, 4),
    1: Tile(0, 4, 4, 6),
    2: Tile(4, 6, 2, 6),
    3: Tile(2, 6, 0, 2),
    4: Tile(2, 4, 2, 4),
}


def drawn(tiles: Partition, reach: int, count: int) -> list[Partition]:
    """Random moves of a partition, those that another cut is in the way of left out."""
    rng = random.Random(0)
    found = (random_move(tiles, reach, rng) for _ in range(count))
    return [moved for moved in found if moved is not None]


@given(st.integers(1, 4), st.integers(2, 4), st.integers(5, 12), st.integers(5, 12), st.booleans())
def test_every_neighbour_of_a_partition_is_one(
    first: int, second: int, height: int, width: int, transpose: bool
) -> None:
    groups = [range(first), range(first, first + second)]
    share = dict.fromkeys(range(first + second), 1.0)
    tiles = columns("t", groups, share, transpose=transpose).at(height, width)
    for found in itertools.chain(neighbours(tiles, 3), drawn(tiles, 3, 100)):
        assert cover_fault(found.values(), height, width) is None


def test_every_neighbour_of_a_pinwheel_is_a_partition() -> None:
    found = [*neighbours(PINWHEEL, 1), *drawn(PINWHEEL, 1, 100)]
    assert len(found) > 10
    assert all(cover_fault(tiles.values(), 6, 6) is None for tiles in found)


def test_the_halves_of_a_crossing_cut_move_apart() -> None:
    """2x2 cells: the left and the right half of the horizontal cut are two cuts."""
    cells = {0: Tile(0, 3, 0, 3), 1: Tile(0, 3, 3, 6), 2: Tile(3, 6, 0, 3), 3: Tile(3, 6, 3, 6)}
    found = list(shift_cuts(cells, 1))
    assert {0: Tile(0, 4, 0, 3), 1: cells[1], 2: Tile(4, 6, 0, 3), 3: cells[3]} in found
    assert len(found) == 2


def test_a_crossed_line_moves_as_a_whole_and_all_cuts_move_together() -> None:
    cells = {0: Tile(0, 3, 0, 3), 1: Tile(0, 3, 3, 6), 2: Tile(3, 6, 0, 3), 3: Tile(3, 6, 3, 6)}
    found = drawn(cells, 1, 1000)
    lower = {0: Tile(0, 4, 0, 3), 1: Tile(0, 4, 3, 6), 2: Tile(4, 6, 0, 3), 3: Tile(4, 6, 3, 6)}
    aside = {0: Tile(0, 4, 0, 2), 1: Tile(0, 4, 2, 6), 2: Tile(4, 6, 0, 2), 3: Tile(4, 6, 2, 6)}
    assert lower in found
    assert aside in found


@pytest.mark.parametrize("shared", [False, True])
def test_polish_balances_strips_of_unequal_devices(shared: bool) -> None:
    """From equal strips, three times as fast a device ends with three times the rows."""
    network = conv_chain((1, 3, 16, 16), [{"channels": 16, "kernel": 1, "padding": 0}])
    cluster = make_cluster((0.003, 0.001), rates=1e6, shared=shared)
    found = polish(network, cluster, strip_equal(network, cluster), time.monotonic() + 30)
    assert found[0].tiles == {0: Tile(0, 12, 0, 16), 1: Tile(12, 16, 0, 16)}


def test_polish_never_makes_a_plan_worse_and_stops_at_its_deadline() -> None:
    network = residual_network(blocks=2, size=16)
    cluster = make_cluster((1.0, 2.0, 1.0), rates=5.0, latency_ms=0.01)
    start = strip_equal(network, cluster)
    assert polish(network, cluster, start, time.monotonic() - 1) == start
    found = polish(network, cluster, start, time.monotonic() + 30)
    assert latency_s(network, cluster, found) <= latency_s(network, cluster, start)
    assert [c.layers for c in found] == [c.layers for c in start]
    for choice in found:
        assert cover_fault(choice.tiles.values(), 16, 16) is None


def test_polish_evaluates_like_the_assembled_plan() -> None:
    """The ledger's incremental costs are those of the steps, also where a skip is read later."""
    network = residual_network(blocks=1, size=16)
    cluster = make_cluster((0.01, 0.03), rates=500.0)
    start = strip_equal(network, cluster)
    found = polish(network, cluster, start, time.monotonic() + 30)
    assert latency_s(network, cluster, found) < 0.8 * latency_s(network, cluster, start)


def test_cuts_that_pay_only_together_move_together() -> None:
    """Moving a cut in one of two layers alone costs an exchange; moving it in both gains."""
    specs = [{"channels": 16, "kernel": 1, "padding": 0}] * 2
    network = conv_chain((1, 16, 16, 16), specs)
    cluster = make_cluster((0.03, 0.01), rates=0.5, shared=True)
    template = strips("halves", (0, 1), (0.5, 0.5), vertical=False)
    start = follow(network, template)
    found = polish(network, cluster, start, time.monotonic() + 30)
    assert latency_s(network, cluster, found) < latency_s(network, cluster, start)
    assert found[0].tiles == found[1].tiles != start[0].tiles


def test_cuts_that_move_to_and_fro_halve_the_messages() -> None:
    """Three strips of 12 rows: a row is 0.2 ms of computing, a message 0.5 ms, the middle strip
    needs a row of each neighbour. Cuts a row lower need two rows of the strip below, in one
    message."""
    network = conv_chain((1, 4, 36, 8), [{"channels": 4}] * 4)
    cluster = make_cluster((0.01152,) * 3, rates=1e5, latency_ms=0.5)
    start = follow(network, strips("thirds", (0, 1, 2), (1.0,) * 3, vertical=False))
    plain = polish(network, cluster, start, time.monotonic() + 30)
    clock = Clock(network, cluster)
    best_s = clock.seconds(plain)
    for number in range(1, len(plain)):
        for moved in drawn(plain[number].tiles, 1, 500):
            changed = [*plain[:number], Choice(plain[number].layers, moved), *plain[number + 1 :]]
            best_s = min(best_s, clock.seconds(changed))
    assert best_s < clock.seconds(plain) - 0.2e-3


def test_devices_of_one_kind_are_not_swapped() -> None:
    tiles = {0: Tile(0, 3, 0, 6), 1: Tile(3, 6, 0, 6)}
    swapped = {0: tiles[1], 1: tiles[0]}
    assert swapped in list(neighbours(tiles, 1, (0, 1, 2)))
    assert swapped not in list(neighbours(tiles, 1, (0, 0, 2)))
    assert {1: tiles[1], 2: tiles[0]} in list(neighbours(tiles, 1, (0, 0, 2)))


def test_rims_that_gain_nothing_are_left_out() -> None:
    """On one device nobody waits and nothing comes: every piece only costs another call."""
    network = conv_chain((1, 4, 16, 16), [{"channels": 4}] * 3)
    cluster = make_cluster((0.01, 0.01), rates=0.01, overhead_ms=0.1)
    plan = [Choice((layer,), {0: layer.full}, "both") for layer in network.layers]
    clock = Clock(network, cluster)
    simpler = in_fewer_pieces(clock, plan)
    assert [choice.rims for choice in simpler] == ["none"] * 3
    assert clock.seconds(simpler) <= clock.seconds(plan)
