"""Candidates on a coarse grid: exact by exhaustive search, and in place on every map."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping

import pytest

from nptp_opt.evaluate.assemble import assemble
from nptp_opt.planner.candidates.coarse import (
    Group,
    Rect,
    cells,
    coarse_templates,
    halves,
    least_time,
    loads,
    shortest_cuts,
    splits,
)
from nptp_opt.planner.candidates.pool import solved_layers, with_families
from nptp_opt.planner.candidates.templates import Box, Template
from nptp_opt.planner.nptp import Search
from nptp_opt.planner.options import PlanOptions
from tests.builders import conv_chain, make_cluster

Cells = dict[int, Rect]

SPEEDS = [(1.0, 1.0, 1.0), (1.0, 2.0, 3.0), (1.0, 1.0, 4.0, 2.0)]
SIZES = [(3, 3), (2, 4), (4, 3)]


def partitions(rect: Rect, devices: tuple[int, ...]) -> Iterator[Cells]:
    """Every guillotine partition of a rectangle's cells among all of the devices."""
    if len(devices) == 1:
        yield {devices[0]: rect}
        return
    for one, other, _ in halves(rect):
        for count in range(1, len(devices)):
            for some in itertools.combinations(devices, count):
                rest = tuple(i for i in devices if i not in some)
                for a, b in itertools.product(partitions(one, some), partitions(other, rest)):
                    yield a | b


def computed(rect: Rect, size: tuple[int, int], rim: float) -> float:
    y0, y1, x0, x1 = rect
    rows = y1 - y0 + rim * ((y0 > 0) + (y1 < size[0]))
    return rows * (x1 - x0 + rim * ((x0 > 0) + (x1 < size[1])))


def cut_length(tiles: Cells, size: tuple[int, int]) -> float:
    """Half of what the tiles' borders are longer than the map's."""
    around = sum(y1 - y0 + x1 - x0 for y0, y1, x0, x1 in tiles.values())
    return around - sum(size)


def in_cells(boxes: Mapping[int, Box], size: tuple[int, int]) -> Cells:
    scale = (size[0], size[0], size[1], size[1])
    return {
        i: tuple(round(side * n) for side, n in zip(box, scale, strict=True))  # type: ignore[misc]
        for i, box in boxes.items()
    }


@pytest.mark.parametrize("rim", [0.0, 0.4])
@pytest.mark.parametrize("slack", [1.0, 1.3])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("speeds", SPEEDS)
def test_least_time_and_cuts_are_those_of_exhaustive_search(
    speeds: tuple[float, ...], size: tuple[int, int], slack: float, rim: float
) -> None:
    devices = tuple(range(len(speeds)))
    every = list(partitions((0, size[0], 0, size[1]), devices))

    def time(tiles: Cells) -> float:
        return max(computed(rect, size, rim) / speeds[i] for i, rect in tiles.items())

    group, load = Group.of(devices, speeds), loads(*size, rim)
    least = min(time(tiles) for tiles in every)
    assert least_time(group, load) == pytest.approx(least)
    most = least * slack
    found = in_cells(shortest_cuts(group, load, most), size)
    in_time = [tiles for tiles in every if time(tiles) <= most * (1 + 1e-9)]
    assert cut_length(found, size) == min(cut_length(tiles, size) for tiles in in_time)
    assert time(found) <= most * (1 + 1e-9)
    assert found.keys() == set(devices)


def test_there_is_none_where_devices_outnumber_cells() -> None:
    group, load = Group.of(range(5), [1.0] * 5), loads(2, 2, 0.0)
    assert least_time(group, load) == float("inf")
    assert shortest_cuts(group, load, 100.0) == {}


def test_splits_are_those_of_all_rectangles() -> None:
    rects = [
        (y0, y1, x0, x1)
        for y0, y1 in itertools.combinations(range(5), 2)
        for x0, x1 in itertools.combinations(range(4), 2)
    ]
    assert splits(4, 3) == sum(1 for rect in rects for _ in halves(rect))


@pytest.mark.parametrize(
    ("lengths", "found"),
    [([224, 28, 14, 7], 7), ([56, 14], 7), ([35, 17, 8], 8), ([30, 15], 5), ([17], 8), ([9, 3], 8)],
)
def test_cells_divide_the_smallest_map_where_any_number_does(
    lengths: list[int], found: int
) -> None:
    assert cells(lengths) == found


def test_cuts_are_in_the_same_place_on_every_map() -> None:
    """Six unequal devices' shares of 28, 14 and 7 pixels round to cuts in different places."""
    sizes = [{"channels": 4}, {"channels": 4, "stride": 2}, {"channels": 4, "stride": 2}]
    network = conv_chain((1, 3, 28, 28), sizes)
    cluster = make_cluster((2.0, 3.0, 4.0, 5.0, 6.0, 7.0))
    templates = coarse_templates(network, cluster)
    assert {len(template.boxes) for template in templates} == {2, 3, 4, 5, 6}
    for template in templates:
        fine, coarse = template.at(28, 28, (2, 2)), template.at(7, 7)
        assert {i: (t.y0, t.y1, t.x0, t.x1) for i, t in fine.items()} == {
            i: (4 * t.y0, 4 * t.y1, 4 * t.x0, 4 * t.x1) for i, t in coarse.items()
        }


def test_more_devices_than_the_tables_hold_are_left_out() -> None:
    """Sets of 14 unequal devices are too many; those of the fastest four are not."""
    network = conv_chain((1, 3, 28, 28), [{"channels": 4}])
    cluster = make_cluster([1.0 + k for k in range(14)])
    counts = {len(template.boxes) for template in coarse_templates(network, cluster)}
    assert {2, 4} <= counts < set(range(2, 14))


@pytest.mark.parametrize(
    ("speeds", "channels", "shared", "rate"),
    [((5.0, 4.0, 1.0, 2.0), 64, True, 25.0), ((5.0, 2.0, 1.0, 2.0), 16, False, 400.0)],
)
def test_searches_stopped_short_of_plans_on_the_coarse_grid(
    speeds: tuple[float, ...], channels: int, shared: bool, rate: float
) -> None:
    """Plans were 2.8 and 3.2 % slower while no candidate was whole on every map."""
    wide = 2 * channels
    specs = [
        {"channels": channels},
        {"channels": channels},
        {"channels": wide, "stride": 2},
        {"channels": wide},
        {"channels": wide, "stride": 2},
        {"channels": wide},
    ]
    network = conv_chain((1, 3, 28, 28), specs)
    cluster = make_cluster(speeds, rates=rate, shared=shared, latency_ms=0.1)
    solved = solved_layers(network, cluster, PlanOptions("nptp"))
    templates = with_families(network, cluster, solved)

    def latency_s(later: list[Template]) -> float:
        found = Search(network, cluster, math.inf).run(templates, later=later)
        assert found is not None
        return sum(step.makespan_s for step in assemble(network, cluster, found))

    assert latency_s(coarse_templates(network, cluster)) < 0.98 * latency_s([])
