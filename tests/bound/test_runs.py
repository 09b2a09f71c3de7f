"""No run's price is above a step that makes it: between any two partitions, in any segment.

Whole plans hide an error of one run behind the slack of the others; a run on its own does not.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from nptp_opt.bound import latency_bound, read_pixels
from nptp_opt.bound.chain import longest_chain
from nptp_opt.bound.devices import classes_of
from nptp_opt.bound.ends import end_of
from nptp_opt.bound.path import PathBound
from nptp_opt.bound.steps import Runs
from nptp_opt.cluster import Cluster, cluster_from_json
from nptp_opt.cost import input_ownership, layer_key, sent_pixel_bytes
from nptp_opt.evaluate.assemble import Choice, assemble, overlapping, segment_step
from nptp_opt.geometry import Tile
from nptp_opt.network.ir import Layer, Network, external_inputs
from nptp_opt.planner.path.units import is_segment
from tests.brute import FAMILIES
from tests.builders import conv_chain, conv_layer, make_cluster
from tests.networks import branched_network, residual_network, with_skip
from tests.planner.optimum import all_partitions

Tiles = dict[int, Tile]

SETTINGS = [(3, 1), (8, 2), (8, 4), (24, 1)]
"""Intervals of levels, and parts of these."""


def random_network(rng: random.Random, most: int) -> Network:
    """Up to three blocks: convolutions, residuals, branches; some layers compute nothing."""
    size = rng.randint(most // 2, most), rng.randint(most // 2, most)
    shapes: dict[str, tuple[int, ...]] = {"input": (1, rng.choice([1, 3]), *size)}
    layers: list[Layer] = []

    def put(layer: Layer) -> str:
        free = rng.random() < 0.1
        layers.append(replace(layer, flop=0.0) if free else layer)
        shapes[layer.name] = layer.shape
        return layer.name

    def conv(source: str, channels: int, kernel: int, stride: int, padding: int) -> Layer:
        shape: tuple[int, int, int, int] = shapes[source]  # type: ignore[assignment]
        sizes = {"kernel": kernel, "stride": stride, "padding": padding}
        if any(n + 2 * padding < kernel for n in shape[2:]):
            sizes = {"kernel": 1, "stride": 1, "padding": 0}
        return conv_layer(f"c{len(layers)}", source, shape, channels, **sizes)

    at = put(conv("input", 4, 3, rng.choice([1, 1, 2]), rng.choice([0, 1, 1])))
    for _ in range(rng.randint(1, 3)):
        kind = rng.choice(["plain", "plain", "residual", "branch"])
        if kind == "plain":
            kernel = rng.choice([1, 2, 3, 5])
            padding = rng.choice([0, kernel // 2, kernel])
            at = put(conv(at, rng.choice([1, 4, 16]), kernel, rng.choice([1, 1, 2, 3]), padding))
            continue
        side = put(conv(at, 4, 1, 1, 0)) if kind == "branch" or shapes[at][1] != 4 else at
        inner = put(conv(at, 4, 3, 1, 1))
        at = put(with_skip(conv(inner, 4, 3, 1, 1), side))
    if not any(layer.flop for layer in layers):
        return random_network(rng, most)
    return Network("random", ("input",), (at,), tuple(layers), shapes)


def random_cluster(rng: random.Random, network: Network) -> Cluster:
    """Two to five devices, often unequal in speed, on single layers and on either way of a link."""
    n, shared, alike = rng.choice([2, 3, 4, 5]), rng.random() < 0.5, rng.random() < 0.4
    fast = rng.choice([1.0, 10.0])
    rate, measured = rng.choice([1.0, 10.0, 100.0, 1e5]), rng.random() < 0.3
    keys = sorted({layer_key(layer) for layer in network.spatial})
    devices = []
    for i in range(n):
        pick = 1 if alike else rng.choice([0.1, 1, 1, 3])
        device = {"name": f"d{i}", "gflops": fast * pick}
        device["overhead_ms"] = 0.0 if alike else rng.choice([0.0, 0.001, 0.1])
        if not shared:
            device["up_mbit_per_s"] = rate * (1 if alike else rng.choice([0.1, 1, 3]))
            device["down_mbit_per_s"] = rate * (1 if alike else rng.choice([0.1, 1, 3]))
        if measured:
            own = [key for key in keys if rng.random() < 0.7] or keys[:1]
            device["layers"] = [
                {"layer": key, "gflops": rng.choice([0.1, 1.0, 5.0]), "overhead_ms": 0.01}
                for key in own
            ]
        devices.append(device)
    link = {"kind": "shared", "mbit_per_s": rate} if shared else {"kind": "switched"}
    link |= {"latency_ms": rng.choice([0.0, 0.01, 1.0]), "source": f"d{rng.randrange(n)}"}
    link |= {"sink": f"d{rng.randrange(n)}", "transfer_dtype": rng.choice(["float32", "int8"])}
    return cluster_from_json({"network": link, "device": devices})


def random_tiles(rng: random.Random, height: int, width: int, share: Sequence[float]) -> Tiles:
    """Strips, columns or any guillotine partition for some devices; cuts by share or anywhere."""
    owners = rng.sample(range(len(share)), rng.choice([len(share), rng.randint(1, len(share))]))
    style, fair = rng.choice(["rows", "columns", "any"]), rng.random() < 0.6
    found: Tiles = {}

    def fill(tile: Tile, own: list[int]) -> None:
        if len(own) == 1 or tile.area == 1:
            found[own[0]] = tile
            return
        half = len(own) // 2 if fair else rng.randint(1, len(own) - 1)
        vertical = style == "columns" or (style == "any" and rng.random() < 0.5)
        vertical = tile.height == 1 or (vertical and tile.width > 1)
        lo, hi = (tile.x0, tile.x1) if vertical else (tile.y0, tile.y1)
        part = sum(share[i] for i in own[:half]) / sum(share[i] for i in own)
        cut = lo + round((hi - lo) * part) if fair else rng.randint(lo, hi)
        cut = min(max(cut, lo + 1), hi - 1)
        ends = (lo, cut), (cut, hi)
        pieces = [tile.columns(*end) if vertical else tile.rows(*end) for end in ends]
        fill(pieces[0], own[:half])
        fill(pieces[1], own[half:])

    fill(Tile(0, height, 0, width), owners)
    return found


def segment_around(network: Network, inside: set[str], end: str, before: str) -> Sequence[Layer]:
    """The smallest segment that hides ``inside`` and ends at ``end``; empty where none does."""
    names, grown = inside | {end}, True
    while grown:
        readers = {r for name in names - {end} for r in network.consumers[name]}
        grown = not readers <= names
        names |= readers
    layers = tuple(layer for layer in network.spatial if layer.name in names)
    fine = layers[-1].name == end and before not in names and is_segment(network, layers)
    return layers if fine else ()


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("seed", range(5, 30))
def test_no_run_is_dearer_than_a_step_that_makes_it(seed: int, overlap: bool) -> None:
    """The levels of both partitions are known, so the price of that one edge must hold."""
    rng = random.Random(seed)
    network = random_network(rng, rng.choice([6, 10, 14]))
    cluster = random_cluster(rng, network)
    intervals, parts = rng.choice(SETTINGS)
    bound = PathBound(
        network, cluster, read_pixels(network), overlap=overlap, intervals=intervals, parts=parts
    )
    chain, classes = bound.chain, bound.classes
    share = [0.0] * len(cluster.devices)
    for value, members in zip(classes.share, classes.members, strict=True):
        for i in members:
            share[i] = float(value)

    def tiles(tensor: str) -> Tiles:
        full = network.full(tensor)
        first = {cluster.source: full}
        return first if tensor == "input" else random_tiles(rng, full.height, full.width, share)

    def inside(found: Tiles, tensor: int) -> np.ndarray:
        """Intervals that the partition's level lies in."""
        if tensor == 0:
            return np.ones(len(bound.levels.low), dtype=np.bool_)
        level = max(t.area / share[i] for i, t in found.items()) / chain.areas[tensor]
        return (level >= bound.levels.low * (1 - 1e-9)) & (level <= bound.levels.high * (1 + 1e-9))

    for at in range(1, chain.length + 1):
        starts = np.flatnonzero(chain.runs[:at, at])
        runs = Runs(bound.states, end_of(chain, at, pieces=overlap), starts)
        prices = np.maximum(runs.rough(), runs.prices())
        for start, price in zip(starts.tolist(), prices, strict=True):
            first, last = str(chain.names[start]), str(chain.names[at])
            layers = segment_around(network, set(chain.names[start + 1 : at]), last, first)  # type: ignore[arg-type]
            for _ in range(20 * bool(layers)):
                owned = {tensor: tiles(tensor) for tensor in external_inputs(layers)}
                choice = Choice(tuple(layers), tiles(last))
                step = segment_step(network, cluster, choice, owned)
                if overlap:
                    step = overlapping(network, cluster, step, owned)
                hidden = {layer.name for layer in layers}
                apart = sum(
                    bound.states.balanced_s(b.layer)
                    for b in chain.beside
                    if start < b.position <= at and b.layer.name not in hidden
                )
                mine = inside(owned[first], start), inside(choice.tiles, at)
                least = price[np.ix_(*mine)].min()
                assert least <= (step.makespan_s + apart) * (1 + 1e-9), (start, at, owned, choice)


def test_a_source_has_a_tile_where_all_others_cannot_fill_the_map() -> None:
    """Sending the input takes 1 s, computing all of it 4 s: at perfect balance of three the source
    needs 2/3 + 4/3 s. As if it had no tile, others' 1/3 + 4/3 s had been the price."""
    network = conv_chain((1, 1, 60, 60), [{"channels": 1, "kernel": 1, "padding": 0}])
    rate = 60 * 60 * sent_pixel_bytes(make_cluster((1.0,)), network, "input") * 8 / 1e6
    cluster = make_cluster((network.spatial[0].flop / 4e9,) * 3, rates=rate)
    bound = PathBound(network, cluster, read_pixels(network), overlap=False)
    runs = Runs(bound.states, end_of(bound.chain, 1), np.array([0]))
    even = Choice(network.spatial, {i: Tile(20 * i, 20 * i + 20, 0, 60) for i in range(3)})
    step = segment_step(network, cluster, even, input_ownership(network, cluster))
    assert step.makespan_s == pytest.approx(2.0)
    assert 0.99 * 2.0 < runs.prices()[0, :, 0].min() <= 2.0


def partitions(size: int, devices: int) -> list[np.ndarray]:
    """All guillotine partitions of a square map among all devices; of five the pinwheels, too."""
    found = [
        np.array([(t.y0, t.y1, t.x0, t.x1) for t in sorted(tiles)])
        for tiles in {*FAMILIES["guillotine"](range(size + 1), range(size + 1), devices)}
        if len(tiles) == devices
    ]
    inner = [cuts for cuts in itertools.combinations(range(1, size), 2) if devices == 5]
    for (y0, y1), (x0, x1) in itertools.product(inner, repeat=2):
        wheel = (0, y1, 0, x0), (0, y0, x0, size), (y0, size, x1, size), (y1, size, 0, x1)
        found.append(np.array([*wheel, (y0, y1, x0, x1)]))
    return found


def meets(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Do rectangles (..., 4) of rows and columns have a pixel in common?"""
    low, high = np.maximum(one, other)[..., ::2], np.minimum(one, other)[..., 1::2]
    return np.asarray((low < high).all(axis=-1))


STRIDED = {"kernel": 4, "stride": 2}


@pytest.mark.parametrize("window", [{}, {"kernel": 5, "padding": 2}, STRIDED])
@pytest.mark.parametrize(("size", "devices"), [(6, 3), (5, 4), (5, 5)])
def test_two_messages_where_no_two_devices_own_what_two_neighbours_read(
    size: int, devices: int, window: dict[str, int]
) -> None:
    """Of random pairs of partitions, even ones mostly. 6 x 6 in rows of 1, 3 and 2 before, in a T
    after it, has one: it was thought to need two."""
    rng, claims = random.Random(0), 0
    before = size * window.get("stride", 1)
    network = conv_chain((1, 1, before, before), [{}, window])
    axis, _ = network.spatial[1].maps["conv0"]
    assert axis.n_out == size
    end = end_of(longest_chain(network, make_cluster((1.0,))), 2)
    known = {area: end.least_pairs(area)[1] for area in range(2, size * size)}
    reads = {pair: axis.need(*pair) for pair in itertools.combinations(range(size + 1), 2)}
    after = partitions(size, devices)
    largest = [np.prod(part[:, 1::2] - part[:, ::2], axis=1).max() for part in after]
    even = [part for part, most in zip(after, largest, strict=True) if most < 1.6 * min(largest)]
    for k in range(10_000):
        tiles, owns = (rng.choice(even if k % 8 else after) for _ in range(2))
        owns = before // size * np.array(rng.sample(owns.tolist(), devices))
        need = np.array([(*reads[y0, y1], *reads[x0, x1]) for y0, y1, x0, x1 in tiles.tolist()])
        senders = meets(need[:, None], owns[None]) & ~np.eye(devices, dtype=np.bool_)
        areas = [np.sort(np.prod(part[:, 1::2] - part[:, ::2], axis=1)) for part in (tiles, owns)]
        if areas[1][-2:].sum() < known[int(areas[0][:2].sum())]:
            assert senders.sum(axis=1).max() >= 2, (tiles, owns)
            claims += 1
    # A strided window reads a rim on one side alone: of four tiles no two read more than is owned.
    assert (claims > 100) == ((size, devices, window) != (5, 4, STRIDED))


def test_halos_from_one_side_take_one_message() -> None:
    """Rows 3, 3 and 3 before, 4, 3 and 2 after: nobody gets two. The two smallest have 5 rows, read
    6, and two devices own these. Even rows need two messages, and so do squares."""
    network = conv_chain((1, 1, 9, 9), [{}, {}])
    rate = sent_pixel_bytes(make_cluster((1.0,)), network, "conv0") * 8 / 1e3
    cluster = make_cluster((1e3,) * 3, rates=rate, shared=True, latency_ms=100.0)
    bound = PathBound(network, cluster, read_pixels(network), overlap=False)
    end = end_of(bound.chain, 2)
    runs = Runs(bound.states, end, np.array([1]))
    assert runs.most[0, 0].max() == 27
    prices = runs.prices()[0, 0]
    for rows, messages in ((4, 1), (3, 2)):
        owned = {0: Tile(0, 3, 0, 9), 1: Tile(3, 6, 0, 9), 2: Tile(6, 9, 0, 9)}
        tiles = {0: Tile(0, rows, 0, 9), 1: Tile(rows, rows + 3, 0, 9), 2: Tile(rows + 3, 9, 0, 9)}
        choice = Choice(network.spatial[1:], tiles)
        step = segment_step(network, cluster, choice, {"conv0": owned})
        waits = step.makespan_s - 1e-3 * sum(move.tile.area for move in step.transfers)
        assert waits == pytest.approx(0.1 * messages, rel=1e-3)
        level = rows / 3
        inside = (bound.levels.low <= level) & (level <= bound.levels.high * (1 + 1e-9))
        assert 0.9 * waits < prices[inside].min() <= step.makespan_s


def test_even_tiles_wait_for_two_messages() -> None:
    """8 x 8 on four devices at perfect balance: squares fetch 36 pixels, of a millisecond each."""
    network = conv_chain((1, 1, 8, 8), [{}, {}])
    found = []
    for latency_ms in (0.0, 1.0):
        rate = sent_pixel_bytes(make_cluster((1.0,)), network, "conv0") * 8 / 1e3
        cluster = make_cluster((1e3,) * 4, rates=rate, shared=True, latency_ms=latency_ms)
        bound = PathBound(network, cluster, read_pixels(network), overlap=False)
        price = Runs(bound.states, end_of(bound.chain, 2), np.array([1])).prices()[0]
        found.append(price[0, 0])
    assert 0.03 < found[0] <= 0.036001
    assert found[1] == pytest.approx(found[0] + 0.002, rel=1e-3)


@pytest.mark.parametrize("shared", [False, True])
def test_a_step_that_overlaps_does_not_add_exchange_to_computing(shared: bool) -> None:
    """On one medium what all others fetch was added to the largest's computing: 25 % too much."""
    network = conv_chain((1, 3, 8, 8), [{"channels": 1}])
    cluster = make_cluster((1e-3, 1e-3), rates=4.0, shared=shared)
    found = []
    for tiles in all_partitions(8, 8, 2, "guillotine"):
        steps = assemble(network, cluster, [Choice(network.spatial, tiles)], overlap=True)
        found.append(sum(step.makespan_s for step in steps))
    assert 0.7 * min(found) < latency_bound(network, cluster, overlap=True) <= min(found)


def test_a_tile_computed_in_pieces_skips_the_lines_between_them() -> None:
    """Stride 2 with kernel 1 reads every other hidden row: three rows at once span five, in two
    pieces four, and rows of the network's heavy layer are what counts here."""
    light = {"channels": 1, "kernel": 1, "stride": 2, "padding": 0}
    specs = [{"channels": 3, "kernel": 1, "padding": 0}, {"channels": 64}, light]
    network, cluster = conv_chain((1, 3, 5, 1), specs), make_cluster((1.0, 1.0), rates=1e5)
    first, *rest = network.spatial
    whole = {i: {0: Tile(0, cut, 0, 1), 1: Tile(cut, 5, 0, 1)} for i, cut in enumerate((2, 3))}
    halves = {0: Tile(0, 2, 0, 1), 1: Tile(2, 3, 0, 1)}
    for tiles in whole.values():
        choices = [Choice((first,), tiles), Choice(tuple(rest), halves)]
        steps = assemble(network, cluster, choices, overlap=True)
        found = sum(step.makespan_s for step in steps)
        assert latency_bound(network, cluster, overlap=True) <= found


def test_what_reads_the_paths_end_for_nothing_may_hide_it() -> None:
    """Slicing costs no operation. The path once ended before it, at a map that is never whole."""
    specs = [{"channels": 64}, {"channels": 64}, {"kernel": 1, "stride": 2, "padding": 0}]
    network = conv_chain((1, 3, 12, 12), specs)
    sliced = replace(network.layers[-1], flop=0.0)
    network = replace(network, layers=(*network.layers[:-1], sliced))
    cluster = make_cluster((1.0,))
    assert longest_chain(network, cluster).layers == network.spatial
    choices = [Choice(network.layers[:1], {0: Tile(0, 12, 0, 12)})]
    choices.append(Choice(network.layers[1:], {0: sliced.full}))
    found = sum(step.makespan_s for step in assemble(network, cluster, choices))
    assert 0.99 * found < latency_bound(network, cluster) <= found


def test_a_layer_whose_tiles_may_lie_in_the_padding_has_no_fixed_price() -> None:
    """A device that reads nothing of a hidden tensor does not call the layer that makes it."""
    network = conv_chain((1, 3, 3, 3), [{}, {"kernel": 1, "padding": 2}, {}])
    cluster = make_cluster((1.0, 1.0), overhead_ms=1.0)
    end = end_of(longest_chain(network, cluster), 2)
    assert end.needed.tolist() == [False, False, True]
    bound = PathBound(network, cluster, read_pixels(network), overlap=False)
    runs = Runs(bound.states, end, np.array([0, 1]))
    assert runs.fixed == pytest.approx(np.full((2, 2), 1e-3))


def test_a_run_from_inside_a_block_fetches_what_the_skip_brings() -> None:
    """The run from the first block's middle to the second one's reads the skip with a rim, too."""
    network, cluster = residual_network(2), make_cluster((1.0,) * 4, rates=1.0, shared=True)
    bound = PathBound(network, cluster, read_pixels(network), overlap=False, intervals=24)
    chain = bound.chain
    start, at = chain.names.index("block0_a"), chain.names.index("block1_a")
    assert next((skip.made, skip.read) for skip in chain.skips) == (start - 1, start + 1)
    end = end_of(chain, at)
    runs = Runs(bound.states, end, np.array([start]))
    low, high = bound.states.first[:2]
    areas = runs.after.within(low, high)
    plain, _ = runs.sums(areas, 4)
    joining, _ = Runs(bound.states, end, np.array([start]), joins=True).sums(areas, 4)
    # Four quarters with a rim of one fetch at least 4 x (7 x 7 - 6 x 6) pixels of 16 bytes.
    possible = np.isfinite(plain)
    more = (joining[possible] - plain[possible]).min()
    assert 0.8 * 52 * 16 / 125e3 < more <= 52 * 16 / 125e3 * (1 + 1e-9)


def specialists() -> tuple[Network, Cluster]:
    """d1 to d3 are equal on the path; d1 is fast at the layer beside it alone."""
    network = branched_network()
    side = layer_key(network.by_name["side"])
    devices = [{"name": f"d{i}", "gflops": 1.0} for i in range(4)]
    for i, speed in ((1, 10.0), (2, 0.1)):
        devices[i]["layers"] = [{"layer": side, "gflops": speed, "overhead_ms": 0.0}]
    link = {"kind": "shared", "mbit_per_s": 100.0}
    return network, cluster_from_json({"network": link, "device": devices})


def test_devices_unequal_beside_the_path_are_no_class() -> None:
    network, cluster = specialists()
    chain = longest_chain(network, cluster)
    assert classes_of(chain, cluster).members == ((0,), (1,), (2,), (3,))


def test_balance_of_a_layer_adds_up_with_that_of_others() -> None:
    """In one step a specialist may do all of a layer and the others the rest: what a layer adds is
    at most its weighted mean for any division, so at most that of the specialist alone."""
    network, cluster = specialists()
    classes = classes_of(longest_chain(network, cluster), cluster)
    side = network.by_name["side"]
    pixel_s = side.flop_per_pixel / classes.flop_per_s(side)
    assert classes.weighted_pixel_s(side) <= (classes.share * pixel_s)[1] * (1 + 1e-12)
    assert classes.weighted_pixel_s(side) < 1.0 / (1.0 / pixel_s).sum()
