"""The bound's tables hold for every range of an axis, and its least sums for every choice."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest

from nptp_opt.geometry import Window
from nptp_opt.planner.bound import read_pixels
from nptp_opt.planner.bound.chain import compose, identity, longest_chain
from nptp_opt.planner.bound.devices import Levels
from nptp_opt.planner.bound.steps import Pricing, _least_sum
from nptp_opt.planner.bound.tables import BOTH, HIGH, LOW, NONE, least_lengths, most_kept
from tests.brute import FAMILIES
from tests.builders import conv_chain, make_cluster


def random_spans(rng: random.Random) -> tuple[tuple[np.ndarray, np.ndarray], int]:
    """What single outputs of up to three windows in a row read, and of how many positions."""
    size = n = rng.randint(3, 14)
    maps = []
    for _ in range(rng.randint(1, 3)):
        kernel, stride = rng.randint(1, 4), rng.randint(1, 3)
        low, high = rng.randint(0, kernel - 1), rng.randint(0, kernel - 1)
        if n + low + high >= kernel:
            made = (n + low + high - kernel) // stride + 1
            maps.append(Window(n, made, kernel, stride, 1, low, high))
            n = made
    spans = identity(n)
    for window in reversed(maps):
        each = [window.need(o, o + 1) for o in range(window.n_out)]
        first = np.array([a if a < b else window.n_in for a, b in each])
        last = np.array([b if a < b else 0 for a, b in each])
        spans = compose(spans, (first, last))
    return spans, size


@pytest.mark.parametrize("seed", range(40))
def test_tables_hold_for_every_range(seed: int) -> None:
    """Reads at least the least, keeps at most the most; a stride makes borders unlike."""
    (first, last), size = random_spans(random.Random(seed))
    n = len(first)
    least, kept = least_lengths(first, last), most_kept(first, last, size)
    read = [{*range(a, b)} for a, b in zip(first, last, strict=True)]
    for a, b in itertools.combinations(range(n + 1), 2):
        contacts = (LOW if b < n else BOTH) if a == 0 else (NONE if b < n else HIGH)
        inside = set().union(*read[a:b])
        outside = set().union(*read[:a], *read[b:])
        if inside:
            assert least[contacts, b - a] <= max(inside) - min(inside) + 1
        assert kept[contacts, b - a] >= len(inside - outside)


def test_borders_of_a_strided_window_are_unlike() -> None:
    """28 to 14 by kernel 3, stride 2, padding 1: the first 7 read 14 rows, the last 7 read 15."""
    window = Window(28, 14, 3, 2, 1, 1, 0)
    spans = [window.need(o, o + 1) for o in range(14)]
    table = least_lengths(*(np.array(ends) for ends in zip(*spans, strict=True)))
    assert (table[LOW, 7], table[HIGH, 7], table[NONE, 7]) == (14, 15, 15)


@pytest.mark.parametrize("seed", range(20))
def test_least_sums_over_all_choices(seed: int) -> None:
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 4, size=3)
    least = rng.normal(size=(5, 3))
    owners = int(rng.integers(1, counts.sum() + 1))
    choices = [
        chosen
        for chosen in itertools.product(*(range(c + 1) for c in counts))
        if sum(chosen) >= owners
    ]
    expected = [min(float(row @ np.array(chosen)) for chosen in choices) for row in least]
    assert _least_sum(least, counts, owners) == pytest.approx(np.array(expected))


@pytest.mark.parametrize("stride", [1, 2])
def test_needs_of_all_partitions_in_at_most_four_tiles(stride: int) -> None:
    """The least sum of needs within a cap is below every partition's, and within 8 % of one."""
    side, n = 6 * stride, 4
    network = conv_chain((1, 3, side, side), [{"channels": 4}, {"channels": 4, "stride": stride}])
    cluster = make_cluster([1.0] * n, shared=True)
    pricing = Pricing(longest_chain(network, cluster), cluster, read_pixels(network), overlap=False)
    axis = network.spatial[1].maps["conv0"][0]
    need = [
        [axis.need(a, b)[1] - axis.need(a, b)[0] if a < b else 0 for b in range(7)]
        for a in range(7)
    ]
    cuts = range(7), range(7)
    sums: dict[int, int] = {}
    for tiles in {*FAMILIES["guillotine"](*cuts, n)}:
        largest = max(tile.area for tile in tiles)
        total = sum(need[t.y0][t.y1] * need[t.x0][t.x1] for t in tiles)
        sums[largest] = min(total, sums.get(largest, total))
    for cap in sorted(sums):
        level = np.array([cap * n / 36])
        found = pricing.prices(2, Levels(level, level)).needed[1, 0]
        least = min(total for largest, total in sums.items() if largest <= cap)
        assert 0.92 * least <= found <= least * (1 + 1e-9), cap
