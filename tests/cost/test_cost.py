"""Costs: worked by hand, held against their definition, and the forms against the exact cost."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from nptp_opt.cost import (
    CandidateTiles,
    LayerCost,
    Load,
    candidate_array,
    for_layer,
    gather_compute_s,
    halo_transfers,
    input_ownership,
    makespan_s,
    segment_compute_s,
    segment_costs,
    segment_needs,
)
from nptp_opt.cost.pairs import covered_loads, own_links, own_loads, pair_loads
from nptp_opt.cost.regions import SegmentRegions
from nptp_opt.errors import InputError
from nptp_opt.geometry import Tile, need_tile
from nptp_opt.layer.problem import LayerProblem
from nptp_opt.network.ir import regions
from nptp_opt.plan.steps import SpatialStep
from nptp_opt.planner.candidates.templates import columns, strips
from tests.builders import conv_chain, make_cluster, make_problem
from tests.networks import residual_network


@st.composite
def problems(draw: st.DrawFn) -> LayerProblem:
    """Layers with any kernel, stride, dilation and padding, on one device."""
    ints = st.integers
    layer = {
        "in_height": draw(ints(1, 9)),
        "in_width": draw(ints(1, 9)),
        "kernel": (draw(ints(1, 7)), draw(ints(1, 4))),
        "stride": (draw(ints(1, 3)), draw(ints(1, 3))),
        "padding": tuple(draw(ints(0, 3)) for _ in range(4)),
        "dilation": (draw(ints(1, 2)), 1),
    }
    try:
        return make_problem(make_cluster((1.0,)), cut_step=draw(ints(1, 2)), **layer)
    except InputError:
        assume(False)
        raise


@given(problems())
def test_bounds_of_an_axis_are_those_over_all_its_ranges(problem: LayerProblem) -> None:
    cost, cuts = LayerCost(problem), problem.cuts_y
    lengths, stride = cost.lengths_y, problem.layer.stride[0]
    for contact, form in enumerate(cost._forms_y):
        ranges = [
            (a, b)
            for a, b in itertools.combinations(cuts, 2)
            if (a == 0) == bool(contact & 1) and (b == problem.height) == bool(contact & 2)
        ]
        const = [int(lengths.need(a, b)) - stride * (b - a) for a, b in ranges]
        halo = [int(lengths.need(a, b) - lengths.held(a, b)) for a, b in ranges]
        if ranges:
            assert (form.const_lo, form.const_hi) == (min(const), max(const))
            assert (form.halo_lo, form.halo_hi) == (min(halo), max(halo))
            assert form.least_need == min(const) + stride * min(b - a for a, b in ranges)


@given(problems())
def test_received_bytes_are_need_minus_own_and_the_forms_enclose_them(
    problem: LayerProblem,
) -> None:
    cost, layer = LayerCost(problem), problem.layer
    for (a, b), (c, d) in itertools.product(
        itertools.combinations(problem.cuts_y, 2), itertools.combinations(problem.cuts_x, 2)
    ):
        tile = Tile(a, b, c, d)
        need = need_tile(tile, layer.window_y, layer.window_x)
        own = Tile(*layer.window_y.own(a, b), *layer.window_x.own(c, d))
        bytes_ = 4 * layer.in_channels * (need.area - need.intersect(own).area)
        assert cost.recv_bytes(tile) == bytes_
        contacts = tile.contacts(problem.height, problem.width)
        low = cost.recv_form(contacts, lower=True)(tile.width, tile.height)
        high = cost.recv_form(contacts)(tile.width, tile.height)
        assert low <= bytes_ <= high
        assert not cost.form_is_exact or low == high
        memory = cost.memory_bytes(tile)
        assert cost.memory_form(contacts, lower=True)(tile.width, tile.height) <= memory
        assert cost.memory_form(contacts)(tile.width, tile.height) >= memory


def test_the_form_is_exact_for_a_same_padded_3x3_convolution() -> None:
    assert LayerCost(make_problem(make_cluster())).form_is_exact
    wide = make_problem(make_cluster(), kernel=(5, 5), padding=(2, 2, 2, 2))
    assert not LayerCost(wide).form_is_exact


def test_cost_of_a_corner_tile_worked_by_hand() -> None:
    """3x3 on 6x6, 8 to 8 channels; the top left 3x3 tile needs 4x4 and owns 3x3 of it.

    7 missing pixels x 8 channels x 4 bytes = 224 bytes over 100 Mbit/s = 12.5e6 bytes/s; two
    messages of 1 ms; 9 pixels x 2 x 9 x 8 x 8 = 10368 FLOP at 1 GFLOP/s; 0.5 ms per call.
    """
    problem = make_problem(make_cluster(latency_ms=1.0, overhead_ms=0.5))
    cost, tile = LayerCost(problem), Tile(0, 3, 0, 3)
    assert cost.recv_bytes(tile) == 224
    assert cost.messages(tile) == 2
    assert cost.compute_s(0, tile) == pytest.approx(0.5e-3 + 10368e-9)
    assert cost.tile_s(0, tile) == pytest.approx(224 / 12.5e6 + 2e-3 + 0.5e-3 + 10368e-9)


def test_one_tile_on_one_device_sends_nothing() -> None:
    problem = make_problem(make_cluster(latency_ms=1.0))
    whole = Tile(0, 6, 0, 6)
    assert LayerCost(problem).makespan_s({1: whole}) == pytest.approx(36 * 1152 / 1e9)


def test_a_shared_medium_adds_all_bytes_and_the_most_messages() -> None:
    """Two 3x6 strips: each misses one row of 6 pixels, 192 bytes, and waits for one message."""
    problem = make_problem(make_cluster((1.0, 2.0), shared=True, latency_ms=2.0))
    halves = {0: Tile(0, 3, 0, 6), 1: Tile(3, 6, 0, 6)}
    expected = 2 * 192 / 12.5e6 + 2e-3 + 18 * 1152 / 1e9
    assert LayerCost(problem).makespan_s(halves) == pytest.approx(expected)


def test_a_switched_step_waits_for_the_slower_of_sending_and_receiving() -> None:
    cluster = make_cluster((1.0, 1.0), rates=(8.0, 80.0), latency_ms=1.0)
    loads = [Load(0.5, 0.0, 1e6, 0), Load(0.25, 1e6, 0.0, 1)]
    assert makespan_s(cluster, loads) == pytest.approx(0.5 + 1.0)


def test_every_program_takes_its_own_seconds() -> None:
    """Two layers of a segment are one program of 2 ms, and two calls of 1 ms; a device without a
    tile has none. The head is one, too, where it calls anything."""
    network = conv_chain((1, 1, 8, 8), [{"channels": 1}, {"channels": 1}])
    plain = make_cluster((1.0, 1.0, 1.0), overhead_ms=1.0)
    devices = tuple(d.model_copy(update={"program_ms": 2.0}) for d in plain.devices)
    cluster = plain.model_copy(update={"devices": devices})
    layers, tiles = network.spatial, {0: Tile(0, 4, 0, 8), 1: Tile(4, 8, 0, 8)}
    array = CandidateTiles(candidate_array([tiles], 3))
    found = segment_costs(cluster, network, layers, array).compute_s[0]
    before = segment_costs(plain, network, layers, array).compute_s[0]
    assert found - before == pytest.approx([2e-3, 2e-3, 0.0])
    for device, tile in tiles.items():
        assert segment_compute_s(cluster, device, layers, tile) == pytest.approx(found[device])
    assert gather_compute_s(cluster, 0, ()) == 0.0
    assert gather_compute_s(cluster, 0, layers) == pytest.approx(
        2e-3 + gather_compute_s(plain, 0, layers)
    )


def test_a_layer_alone_is_a_program() -> None:
    """Its problem has one overhead for both; the profile's shapes have none of their own left."""
    cluster = make_cluster((2.0,), overhead_ms=1.0)
    device = cluster.devices[0].model_copy(update={"program_ms": 0.5})
    problem = make_problem(cluster)
    own = for_layer(cluster.model_copy(update={"devices": (device,)}), problem.layer).devices[0]
    assert (own.overhead_ms, own.program_ms) == (pytest.approx(1.5), None)


def test_compute_of_a_fused_segment_counts_the_recomputed_rim() -> None:
    """Two 3x3 layers: 2 output rows of 6 take 2 x 6 pixels of the second, 4 x 6 of the first."""
    network = conv_chain((1, 4, 6, 6), [{}, {}])
    cluster = make_cluster(overhead_ms=1.0)
    per_pixel = 2 * 9 * 4 * 4
    seconds = segment_compute_s(cluster, 0, network.layers, Tile(2, 4, 0, 6))
    assert seconds == pytest.approx(2e-3 + (12 + 24) * per_pixel / 1e9)


def test_transfers_are_the_halo_rows_between_strips() -> None:
    network = conv_chain((1, 4, 6, 6), [{}, {}])
    held = {0: Tile(0, 3, 0, 6), 1: Tile(3, 6, 0, 6)}
    needs = segment_needs(network.layers[1:], held)
    moves = halo_transfers(make_cluster(), network, needs, {"conv0": held})
    assert [(m.src, m.dst, m.tile, m.bytes) for m in moves] == [
        (1, 0, Tile(3, 4, 0, 6), 96),
        (0, 1, Tile(2, 3, 0, 6), 96),
    ]


cuts = st.lists(st.integers(0, 8), min_size=2, max_size=2).map(sorted)


@st.composite
def partitions(draw: st.DrawFn) -> dict[int, Tile]:
    """T-shapes on 8x8: one cut through, one that ends at it; any of the three may be empty."""
    (y, x), order = draw(cuts), draw(st.permutations([0, 1, 2]))
    tiles = [Tile(0, y, 0, 8), Tile(y, 8, 0, x), Tile(y, 8, x, 8)]
    return dict(zip(order, tiles, strict=True))


@given(
    st.lists(partitions(), min_size=1, max_size=3), st.lists(partitions(), min_size=1, max_size=3)
)
def test_cost_matrix_equals_the_cost_of_the_listed_transfers(
    before: list[dict[int, Tile]], after: list[dict[int, Tile]]
) -> None:
    network = conv_chain((1, 4, 8, 8), [{}, {"kernel": 5, "padding": 2}, {}])
    for shared in (False, True):
        cluster = make_cluster((1.0, 2.0, 3.0), shared=shared, latency_ms=0.1, overhead_ms=0.2)
        layers = network.layers[1:]
        tiles_after = CandidateTiles(candidate_array(after, 3))
        costs = segment_costs(cluster, network, layers, tiles_after)
        matrix = costs.makespans({"conv0": candidate_array(before, 3)})
        for (p, held), (q, tiles) in itertools.product(enumerate(before), enumerate(after)):
            step = SpatialStep(("conv1", "conv2"), tiles).with_cost(
                network, cluster, {"conv0": held}
            )
            assert np.isclose(matrix[p, q], step.makespan_s, rtol=1e-12)


def test_the_input_lies_on_the_source() -> None:
    network = conv_chain((1, 4, 6, 6), [{}])
    owned = input_ownership(network, make_cluster(source="d1"))
    assert owned == {"input": {1: Tile(0, 6, 0, 6)}}


def test_regions_of_many_tiles_equal_those_of_each() -> None:
    """Residual blocks, strides, and windows that lie in the padding altogether."""
    rng = np.random.default_rng(0)
    padded = conv_chain((1, 2, 5, 5), [{"kernel": 3, "padding": 4}, {"kernel": 1, "padding": 3}])
    strided = conv_chain(
        (1, 2, 17, 13), [{"stride": 2}, {"kernel": 5, "padding": 2}, {"stride": 2}]
    )
    for network in (padded, strided, residual_network(blocks=2)):
        for start in range(len(network.spatial)):
            layers = network.spatial[start:]
            full = layers[-1].full
            y = np.sort(rng.integers(0, full.y1 + 1, (300, 2)), axis=1)
            x = np.sort(rng.integers(0, full.x1 + 1, (300, 2)), axis=1)
            tiles = [Tile(*map(int, sides)) for sides in np.concatenate((y, x), axis=1)]
            array = candidate_array([{0: tile} for tile in tiles], 1)
            found = SegmentRegions.of(layers, CandidateTiles(array))
            for q, tile in enumerate(tiles):
                for tensor, wanted in regions(layers, tile).items():
                    got = Tile(*map(int, found.tiles(tensor)[q, 0]))
                    assert found.area(tensor)[q, 0] == wanted.area
                    assert got == wanted or (got.is_empty and wanted.is_empty), (tensor, tile)


def test_loads_counted_by_distinct_rectangles_equal_those_of_every_pair() -> None:
    """The fast count for owners that cover a map exactly, against all n^2 rectangles."""
    rng = np.random.default_rng(1)
    for _ in range(40):
        n = int(rng.integers(1, 7))
        share = rng.random(n) + 0.1
        templates = [
            columns("c", [range(k), range(k, n)], dict(enumerate(share)), transpose=k % 2 == 1)
            for k in range(1, n)
        ] + [strips("s", range(n), share, vertical=False)]
        owners = candidate_array([t.at(13, 9) for t in templates], n)
        needs = owners + np.array([-1, 2, -2, 1]) * (owners[..., 1:2] > 0)
        needs = np.clip(needs, 0, [13, 13, 9, 9])
        worth = rng.random((len(owners), len(needs))) < 0.8
        links = np.zeros((len(needs), n, n))
        n = owners.shape[1]
        sizes = np.full((1, n, n), 6.0), np.full((1, n, n), 4.0)
        wanted = pair_loads(needs[None], owners[None], links, *sizes, worth)
        assert np.array_equal(covered_loads(needs, owners, 6.0, 4.0, worth), wanted)


def test_loads_of_own_exchange_equal_those_of_its_table_of_pairs() -> None:
    """Two tensors at once, sizes that differ by pair, some devices without a tile."""
    rng = np.random.default_rng(2)
    for _ in range(20):
        n, count = int(rng.integers(1, 6)), int(rng.integers(1, 5))
        ends = np.sort(rng.integers(0, 9, (2, 2, count, n, 2, 2)), axis=-1)
        needs, owners = ends.reshape(2, 2, count, n, 4)
        sizes = rng.integers(1, 9, (2, 2, n, n)).astype(float)
        links = own_links(needs, owners, *sizes)
        nothing = np.zeros((0, count, n, 4), dtype=np.int64)
        none = np.zeros((0, n, n))
        worth = np.ones((1, count), dtype=np.bool_)
        wanted = pair_loads(nothing, nothing[:, :1], links, none, none, worth)
        assert np.array_equal(own_loads(needs, owners, *sizes), wanted)


def test_bytes_follow_the_transfer_type_and_costs_agree() -> None:
    """A halo row of 16 pixels x 4 channels: 4, 2 and 1 bytes each; int8 adds its scale."""
    network = conv_chain((1, 4, 8, 16), [{}, {}])
    held = {0: Tile(0, 4, 0, 16), 1: Tile(4, 8, 0, 16)}
    for dtype, wanted in {"float32": 256, "float16": 128, "bfloat16": 128, "int8": 68}.items():
        cluster = make_cluster((1.0, 1.0), rates=10.0).sending_as(dtype)
        step = SpatialStep(("conv1",), held).with_cost(network, cluster, {"conv0": held})
        assert [move.bytes for move in step.transfers] == [wanted, wanted]
        owners = candidate_array([held], 2)
        costs = segment_costs(cluster, network, network.layers[1:], CandidateTiles(owners))
        assert costs.makespans({"conv0": owners})[0, 0] == step.makespan_s
        assert costs.makespans({}, {"conv0": owners})[0, 0] == step.makespan_s
