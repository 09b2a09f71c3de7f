"""The bound's tables hold for every range of an axis, and its least sums for every choice."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest

from nptp_opt.bound.chain import compose, identity, longest_chain
from nptp_opt.bound.devices import Levels, classes_of, split
from nptp_opt.bound.ends import end_of
from nptp_opt.bound.fits import can_fit
from nptp_opt.bound.multipliers import TilePrice, sides_of
from nptp_opt.bound.sums import least_sums, reduced
from nptp_opt.bound.tables import (
    BOTH,
    HIGH,
    LOW,
    NONE,
    concave,
    least_in_pieces,
    least_lengths,
    most_kept,
)
from nptp_opt.bound.tiles import least_giving, least_reduced
from nptp_opt.geometry import Window
from nptp_opt.network.ir import Network
from nptp_opt.planner.path.units import is_segment
from tests.brute import FAMILIES
from tests.builders import conv_chain, make_cluster
from tests.networks import branched_network, residual_network


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


@pytest.mark.parametrize("seed", range(20))
def test_tables_hold_for_every_range_in_three_pieces(seed: int) -> None:
    (first, last), _ = random_spans(random.Random(seed))
    n, none = len(first), len(first) + 99
    table = least_in_pieces(first, last)
    for a, b in itertools.combinations(range(n + 1), 2):
        contacts = (LOW if b < n else BOTH) if a == 0 else (NONE if b < n else HIGH)
        for cuts in itertools.combinations_with_replacement(range(a, b + 1), 2):
            read: set[int] = set()
            for lo, hi in itertools.pairwise((a, *cuts, b)):
                spans = [(first[o], last[o]) for o in range(lo, hi) if first[o] < last[o]]
                low = min((f for f, _ in spans), default=none)
                read |= {*range(low, max((m for _, m in spans), default=0))}
            assert table[contacts, b - a] <= len(read)


def rising_spans(rng: random.Random, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Both ends of what single outputs read rise, in any steps."""
    first = np.array(sorted(rng.choices(range(10), k=n)))
    last = first + np.array([rng.randint(1, 6) for _ in range(n)])
    return first, np.maximum.accumulate(last)


class AllTiles:
    """Every tile of a small map with what it computes, needs and keeps, and its contacts."""

    def __init__(self, rng: random.Random) -> None:
        sizes = rng.randint(1, 8), rng.randint(1, 8)
        hidden, read = ([rising_spans(rng, n) for n in sizes] for _ in range(2))
        tables = [
            np.stack([least_lengths(*s) for s in (read[i], hidden[i], identity(n))])
            for i, n in enumerate(sizes)
        ]
        self.tables = np.stack([concave(table) for table in tables[0]]), tables[1]
        self.kept = tuple(np.stack([most_kept(*spans, 20)]) for spans in read)
        axes = [self._axis(n, *spans) for n, *spans in zip(sizes, hidden, read, strict=True)]
        self.area, self.hidden, self.need, self.keeps, contacts = ([] for _ in range(5))
        for (h, *row, top, bottom), (w, *column, left, right) in itertools.product(*axes):
            products = [a * b for a, b in zip(row, column, strict=True)]
            for found, value in zip((self.hidden, self.need, self.keeps), products, strict=True):
                found.append(value)
            self.area.append(h * w)
            corners = (top + bottom) * (left + right)
            contacts.append((w * top, w * bottom, h * left, h * right, corners))
        self.contacts = np.array(contacts)
        self.area, self.hidden, self.need, self.keeps = map(
            np.array, (self.area, self.hidden, self.need, self.keeps)
        )

    @staticmethod
    def _axis(n: int, hidden: tuple[np.ndarray, ...], read: tuple[np.ndarray, ...]) -> list:
        found = []
        for a, b in itertools.combinations(range(n + 1), 2):
            outside = {r for o in (*range(a), *range(b, n)) for r in range(read[0][o], read[1][o])}
            inside = {r for o in range(a, b) for r in range(read[0][o], read[1][o])}
            hulls = [int(last[b - 1] - first[a]) for first, last in (hidden, read)]
            found.append((b - a, *hulls, len(inside - outside), a == 0, b == n))
        return found


@pytest.mark.parametrize("seed", [*range(30), 134, 1102, 1198])
def test_no_tile_gives_and_computes_for_less(seed: int) -> None:
    """From seed 134 on: caps jump from less than one row to two, and one row was left out."""
    rng = random.Random(seed)
    tiles = AllTiles(rng)
    most = np.sort(rng.choices(range(1, tiles.area.max() + 1), k=2))
    least = np.array([rng.randint(1, cap) for cap in most])
    floor = np.sort(rng.choices([0, 0, *range(1, most[0] + 1)], k=2))[::-1]
    pixel, fixed, kept_s = rng.choice([0.0, 1.0]), rng.choice([0.0, 2.0]), rng.choice([0.5, 5.0])
    prices = np.array([[0.0, pixel, 1.0]]), np.array([[fixed]]), np.array([[kept_s]])
    weights = np.array([[1.0, 1.0], [0.5, 0.5]])
    areas = np.stack([least, floor, most])[:, :, None]
    found = least_giving(tiles.tables, tiles.kept, areas, np.array([0]), prices, weights)
    compute = tiles.area + pixel * tiles.hidden + fixed
    for v, j in itertools.product(range(2), range(2)):
        price = weights[v, 0] * compute - weights[v, 1] * kept_s * tiles.keeps
        fits = (tiles.area >= floor[j]) & (tiles.area <= most[j])
        nothing = np.inf if floor[j] else 0.0
        assert found[0, 0, v, j, 0] <= price[fits].min(initial=nothing) + 1e-9
        attains = price[(tiles.area <= most[j]) & (tiles.area >= max(least[j], floor[j]))]
        assert found[1, 0, v, j, 0] <= attains.min(initial=np.inf) + 1e-9


@pytest.mark.parametrize("seed", range(40))
def test_no_tile_has_a_lower_reduced_price(seed: int) -> None:
    """Under any multipliers, with a bend of the area's anywhere."""
    rng = random.Random(seed)
    tiles = AllTiles(rng)
    most = rng.randint(1, int(tiles.area.max()))
    least, bend = rng.randint(1, most), rng.randint(1, int(tiles.area.max()) + 1)
    y = np.array([[[rng.uniform(-2, 5) for _ in range(7)] for _ in range(3)]])
    y[..., 6] = np.minimum(y[..., 0], y[..., 6])
    pixel, fixed = rng.choice([0.0, 1.0]), rng.choice([0.0, 2.0])
    by_work, by_need = np.array([[[1.0]], [[0.5]]]), np.array([[[2.0]], [[0.0]]])
    joined = rng.choice([0.0, 1.5])
    operand = np.array([[joined]])
    prices = np.array([[0.0, pixel, 1.0]]), np.array([[fixed]]), by_work, by_need, operand
    areas = np.array([[least], [most]])
    tables = *tiles.tables, tiles.tables[0][:1], tiles.tables[1][:1]
    found = least_reduced(tables, areas, np.array([0]), prices, y, bend, False)
    fits = (tiles.area >= least) & (tiles.area <= most)
    compute = tiles.area + pixel * tiles.hidden + fixed
    small = np.minimum(tiles.area, bend)
    for f, v in itertools.product(range(2), range(3)):
        price = by_work[f, 0, 0] * compute + (by_need[f, 0, 0] + joined) * tiles.need
        gain = y[0, v, 0] * small + y[0, v, 6] * (tiles.area - small)
        gain = gain + tiles.contacts @ y[0, v, 1:6]
        assert found[f, 0, 0, v] <= (price - gain)[fits].min(initial=np.inf) + 1e-9


def test_borders_of_a_strided_window_are_unlike() -> None:
    """28 to 14 by kernel 3, stride 2, padding 1: the first 7 read 14 rows, the last 7 read 15."""
    window = Window(28, 14, 3, 2, 1, 1, 0)
    spans = [window.need(o, o + 1) for o in range(14)]
    table = least_lengths(*(np.array(ends) for ends in zip(*spans, strict=True)))
    assert (table[LOW, 7], table[HIGH, 7], table[NONE, 7]) == (14, 15, 15)


@pytest.mark.parametrize("seed", range(20))
def test_least_sums_over_all_choices(seed: int) -> None:
    """The giver and the largest of every pair of classes, the others in every way."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 4, size=3)
    owners = int(rng.integers(1, counts.sum() + 1))
    ordinary, giver = rng.normal(size=(1, 3, 2)), rng.normal(size=(2, 1, 3, 2))
    largest, fixed = rng.normal(size=(3, 1, 3, 2)), rng.normal(size=(1, 2))
    must = rng.random(3) < 0.3
    found = least_sums(fixed, ordinary, giver, largest, counts, owners, must)
    for f, one, two in itertools.product(range(2), range(3), range(4)):
        left, same = counts.copy(), two == 3
        left[one] -= 1
        left[two if not same else one] -= not same
        if (left < 0).any():
            assert found[f, 0, one, two] == np.inf
            continue
        values = []
        for v in range(2):
            given = giver[f, 0, one, v] if must[one] else min(0.0, giver[f, 0, one, v])
            apart = largest[f + 1, 0, one, v] if same else given + largest[0, 0, two, v]
            need = owners - 2 + same  # the giver may have no tile, so this counts it as one
            others = min(
                float(ordinary[0, :, v] @ np.array(chosen))
                for chosen in itertools.product(
                    *(range(c * all_, c + 1) for c, all_ in zip(left, must, strict=True))
                )
                if sum(chosen) >= need
            )
            values.append(fixed[0, v] + apart + others)
        assert found[f, 0, one, two] == pytest.approx(max(values))


@pytest.mark.parametrize("stride", [1, 2])
def test_needs_of_all_partitions_in_at_most_four_tiles(stride: int) -> None:
    """The least sum of needs within a cap is below every partition's, and within 8 % of one."""
    side, n = 6 * stride, 4
    network = conv_chain((1, 3, side, side), [{"channels": 4}, {"channels": 4, "stride": stride}])
    cluster = make_cluster([1.0] * n, shared=True)
    chain = longest_chain(network, cluster)
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
    end, counts = end_of(chain, 2), classes_of(chain, cluster).counts
    pixel, one = np.zeros((len(counts), 3)), np.ones((1, 1, len(counts)))
    price = TilePrice(np.array([1]), pixel, 0.0 * one[0], 0.0 * one, one, np.zeros((0, 1)))
    for cap in sorted(sums):
        floor = max(0, 36 - (n - 1) * cap)
        areas = np.array([[least] * len(counts) for least in (1, floor, cap)])
        found = reduced(end, areas, counts, price, sides_of(end, counts, price))
        most = np.where(found.must[:, None], np.inf, 0.0)
        total = found.fixed + np.einsum("scv,c->sv", np.minimum(found.ordinary, most), counts)
        least = min(total for largest, total in sums.items() if largest <= cap)
        assert 0.92 * least <= total.max() <= least * (1 + 1e-9), cap


@pytest.mark.parametrize("size", [(1, 5), (4, 4), (5, 3), (6, 6)])
@pytest.mark.parametrize("n", [2, 3, 4])
def test_the_most_even_partition_of_a_small_map(size: tuple[int, int], n: int) -> None:
    """Every partition in at most four rectangles is guillotine."""
    cuts = range(size[0] + 1), range(size[1] + 1)
    most = min(max(t.area for t in tiles) for tiles in FAMILIES["guillotine"](*cuts, n))
    assert [can_fit(*size, (cap,), (n,)) for cap in (most - 1, most)] == [False, True]


def test_three_tiles_of_14_by_14_are_not_even() -> None:
    """70 pixels is five of fourteen rows; a third of the map would be 65."""
    assert not can_fit(14, 14, (69,), (3,))
    assert can_fit(14, 14, (70,), (3,))
    assert can_fit(14, 14, (56, 70), (1, 2)) and not can_fit(14, 14, (55, 70), (1, 2))


def test_a_pinwheel_fits_where_no_guillotine_partition_does() -> None:
    """3 x 3 in four dominoes around one pixel: no more than two pixels each."""
    assert can_fit(3, 3, (1, 2), (1, 4))


def test_parts_of_levels_are_their_intervals() -> None:
    levels = Levels(np.array([1.0, 2.0, 3.9999]), np.array([2.0, 3.9999, 4.0]))
    parts, first = split(levels, 3)
    assert first.tolist() == [0, 3, 6, 7]
    assert np.array_equal(parts.low[first[:-1]], levels.low)
    assert np.array_equal(parts.high[first[1:] - 1], levels.high)
    assert np.array_equal(parts.low[1:], parts.high[:-1])


@pytest.mark.parametrize("network", [residual_network(2, size=4), branched_network()])
def test_runs_are_those_that_some_segment_can_hide(network: Network) -> None:
    chain = longest_chain(network, make_cluster())
    layers = network.shared_out
    for start, end in itertools.combinations(range(chain.length + 1), 2):
        hidden, last = set(chain.names[start + 1 : end]), chain.names[end]
        able = any(
            subset[-1].name == last
            and hidden | {last} <= {layer.name for layer in subset}
            and is_segment(network, subset)
            for count in range(1, len(layers) + 1)
            for subset in itertools.combinations(layers, count)
        )
        assert chain.runs[start, end] == able, (start, end)
