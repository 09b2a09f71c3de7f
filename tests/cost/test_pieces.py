"""Tiles in pieces: interiors by brute force, rims and costs by hand, plans proved in torch."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nptp_opt.cluster import Cluster
from nptp_opt.cost import RIMS, Rims, interior, pieces, segment_compute_s
from nptp_opt.errors import InputError
from nptp_opt.evaluate.assemble import Choice, assemble
from nptp_opt.evaluate.memory import overfull_devices
from nptp_opt.evaluate.simulate import simulate, timeline
from nptp_opt.geometry import EMPTY, Tile, Window, cover_fault
from nptp_opt.network.ir import Layer, Node, external_inputs, regions
from nptp_opt.network.load import LoadedModel, load_model
from nptp_opt.network.ref import ModelRef
from nptp_opt.plan import messages
from nptp_opt.plan.document import plan_from_json, plan_to_json
from nptp_opt.plan.model import Plan, owned_maps
from nptp_opt.plan.steps import SpatialStep, Step
from nptp_opt.planner import PlanOptions, plan_network, plan_of
from nptp_opt.verification import torch_check
from nptp_opt.verification.static import paper_faults
from nptp_opt.verification.torch_check import verify_plan
from tests.builders import conv_chain, make_cluster
from tests.network.partitioned import random_tiles
from tests.networks import residual_network
from tests.runtime.plans import in_pieces
from tests.verification.test_networks import random_plan

REF = ModelRef("tests.models:small_cnn", (1, 3, 33, 29))


def largest_by_brute_force(layers: Sequence[Layer], tile: Tile, own: Mapping[str, Tile]) -> int:
    """Area of the largest rectangle of ``tile`` whose regions need nothing beyond ``own``."""
    best = 0
    for y0 in range(tile.y0, tile.y1):
        for y1 in range(y0 + 1, tile.y1 + 1):
            for x0 in range(tile.x0, tile.x1):
                for x1 in range(x0 + 1, tile.x1 + 1):
                    part = Tile(y0, y1, x0, x1)
                    if part.area > best and fits(layers, part, own):
                        best = part.area
    return best


def fits(layers: Sequence[Layer], part: Tile, own: Mapping[str, Tile]) -> bool:
    found = regions(layers, part)
    return all(own[tensor].contains(found[tensor]) for tensor in own)


@st.composite
def axes(draw: st.DrawFn) -> tuple[Window, ...]:
    """One to three windows behind each other, small maps; no window lies in the padding."""
    n, found = draw(st.integers(4, 12)), []
    for _ in range(draw(st.integers(1, 3))):
        kernel, dilation = draw(st.integers(1, 3)), draw(st.integers(1, 2))
        span = dilation * (kernel - 1) + 1
        lo, hi = draw(st.integers(0, span // 2)), draw(st.integers(0, span // 2))
        stride = draw(st.integers(1, 3))
        n_out = (n + lo + hi - span) // stride + 1
        assume(n_out >= 2)
        found.append(Window(n, n_out, kernel, stride, dilation, lo, hi))
        n = n_out
    return tuple(found)


def chain_of(rows: Sequence[Window], columns: Sequence[Window]) -> tuple[Layer, ...]:
    """Layers with these windows; only their maps matter here."""
    source, layers = "in", list[Layer]()
    for k, maps in enumerate(zip(rows, columns, strict=False)):
        shape, name = (1, 1, maps[0].n_out, maps[1].n_out), f"l{k}"
        node = Node(name, "conv2d", (source,), shape, maps=(maps,))
        layers.append(Layer(name, "spatial", (node,), (source,), shape, {source: maps}, 1.0, 0))
        source = name
    return tuple(layers)


@st.composite
def rectangles(draw: st.DrawFn, height: int, width: int) -> Tile:
    y = sorted(draw(st.lists(st.integers(0, height), min_size=2, max_size=2)))
    x = sorted(draw(st.lists(st.integers(0, width), min_size=2, max_size=2)))
    return Tile(*y, *x)


@settings(max_examples=150, deadline=None)
@given(axes(), axes(), st.data())
def test_the_interior_of_any_segment_is_the_largest(
    rows: tuple[Window, ...], columns: tuple[Window, ...], data: st.DataObject
) -> None:
    """Strides, padding, dilation, fused layers, devices that own nothing: as brute force says."""
    layers = chain_of(rows, columns)
    rows, columns, last = rows[: len(layers)], columns[: len(layers)], layers[-1]
    tile = data.draw(rectangles(last.height, last.width))
    own = {"in": data.draw(rectangles(rows[0].n_in, columns[0].n_in))}
    found = interior(layers, tile, own)
    assert tile.contains(found) and fits(layers, found, own)
    assert found.area == largest_by_brute_force(layers, tile, own)
    wanted = [data.draw(rectangles(last.height, last.width)) for _ in range(2)]
    for rims in RIMS:
        parts = pieces(layers, tile, rims, own, wanted)
        assert len(parts) <= 9
        assert sum(part.area for part in parts) == tile.area
        assert not any(a != b and a.intersect(b).area for a in parts for b in parts)
        order = [kind_of(part, fits(layers, part, own), wanted) for part in parts]
        if rims == "both":
            assert order == sorted(order)


def kind_of(part: Tile, ready: bool, wanted: Sequence[Tile]) -> int:
    """0 an outgoing rim without a halo, 1 the interior, 2 an outgoing rim with a halo, 3 other."""
    leaves = any(part.intersect(want).area for want in wanted)
    return (0 if leaves else 1) if ready else (2 if leaves else 3)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_the_interior_of_a_residual_block_is_the_largest(seed: int) -> None:
    """Two external reads of the same tensor, one through two convolutions, one as it is."""
    rng = random.Random(seed)
    network = residual_network(1, size=9)
    owners = random_tiles(Tile(0, 9, 0, 9), 2, rng)
    tiles = random_tiles(Tile(0, 9, 0, 9), 2, rng)
    layers = network.spatial[1:]
    assert external_inputs(layers) == ("stem",)
    for tile, own in zip(tiles, owners, strict=True):
        held = {"stem": own}
        inside = interior(layers, tile, held)
        assert fits(layers, inside, held)
        assert inside.area == largest_by_brute_force(layers, tile, held)
        if not tile.is_empty:
            parts = pieces(layers, tile, "both", held, owners)
            moved = [Tile(p.y0 - tile.y0, p.y1 - tile.y0, p.x0 - tile.x0, p.x1 - tile.x0)
                     for p in parts]  # fmt: skip
            assert cover_fault(moved, tile.height, tile.width) is None


def test_maps_that_repeat_their_far_side_leave_a_run_in_the_middle() -> None:
    """Circular padding: the first and last rows read the other end of the map."""
    model = load_model("tests.cost.test_pieces:circular", (1, 2, 12, 7))
    layers, own = model.network.spatial, {model.network.inputs[0]: Tile(0, 12, 0, 7)}
    tile = layers[-1].full
    assert interior(layers, tile, own) == tile
    part = {model.network.inputs[0]: Tile(0, 6, 0, 7)}
    found = interior(layers, tile, part)
    assert found.area == largest_by_brute_force(layers, tile, part)
    assert not found.is_empty and found != tile


def circular() -> object:
    from torch import nn

    return nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular")


CHAIN = conv_chain((1, 4, 8, 8), [{}, {}])


def strips_cluster(**changed: Any) -> Cluster:
    """Two devices of 1 GFLOP/s; 125 000 bytes per second, 10 us per message."""
    return make_cluster(rates=1.0, latency_ms=0.01, **changed)


def two_strips(cluster: Cluster, rims: Rims) -> tuple[Step, ...]:
    """Two 3x3 convolutions on 8x8 maps of 4 channels, 4 rows for each device."""
    tiles = {0: Tile(0, 4, 0, 8), 1: Tile(4, 8, 0, 8)}
    choices = [Choice((layer,), tiles, rims) for layer in CHAIN.spatial]
    return assemble(CHAIN, cluster, choices)


@pytest.mark.parametrize("shared", [False, True], ids=["switched", "shared"])
def test_cost_by_hand(shared: bool) -> None:
    """A halo of one row (8 pixels x 4 channels x 4 bytes) each way; 3 of 4 rows need none of it.

    2 x 9 x 4 x 4 = 288 FLOP per pixel: a row takes 8 x 288 / 1e9 s. On a shared medium both halos
    follow each other.
    """
    halo_s = 8 * 4 * 4 / 125_000 * (2 if shared else 1) + 1e-5
    row_s = 8 * 288 / 1e9
    cluster = strips_cluster(shared=shared)
    plain, overlapped = (two_strips(cluster, rims)[1] for rims in ("none", "incoming"))
    assert plain.makespan_s == pytest.approx(halo_s + 4 * row_s, rel=1e-12)
    assert overlapped.makespan_s == pytest.approx(max(halo_s, 3 * row_s) + row_s, rel=1e-12)
    assert overlapped.pieces == {
        0: (Tile(0, 3, 0, 8), Tile(3, 4, 0, 8)),
        1: (Tile(5, 8, 0, 8), Tile(4, 5, 0, 8)),
    }


def test_the_simulation_begins_before_the_halo_is_there() -> None:
    """The interior starts when the device is free; only the rim waits for the message."""
    cluster = strips_cluster(sink="d1")
    steps = two_strips(cluster, "incoming")
    planned = timeline(CHAIN, cluster, steps)
    arrival = next(p.end_s for p in planned if p.kind == "message" and (p.step, p.peer) == (1, 0))
    inner, rim = [p for p in planned if p.kind == "compute" and (p.step, p.device) == (1, 0)]
    assert inner.start_s < arrival <= rim.start_s
    assert inner.end_s - inner.start_s == pytest.approx(3 * 8 * 288 / 1e9)
    assert rim.end_s - rim.start_s == pytest.approx(8 * 288 / 1e9)
    plain = two_strips(cluster, "none")
    assert simulate(CHAIN, cluster, steps) < simulate(CHAIN, cluster, plain)


def test_a_message_leaves_before_its_senders_tile_is_done() -> None:
    """The first layer's row at the cut is computed first; the other three rows hide its way."""
    cluster = strips_cluster(sink="d1")
    plain, sooner = (two_strips(cluster, rims) for rims in ("none", "outgoing"))
    assert sooner[0].pieces_of(0) == (Tile(3, 4, 0, 8), Tile(0, 3, 0, 8))
    planned = timeline(CHAIN, cluster, sooner)
    rim, rest = [p for p in planned if p.kind == "compute" and (p.step, p.device) == (0, 0)]
    message = next(p for p in planned if p.kind == "message" and (p.step, p.device) == (1, 0))
    assert message.start_s == pytest.approx(rim.end_s)
    assert rest.end_s > message.start_s
    assert simulate(CHAIN, cluster, sooner) < simulate(CHAIN, cluster, plain)


def test_who_is_first_gets_its_message_first() -> None:
    """The source sends to d1, then d2; told so, to d2 first, in the plan's transfers as well."""
    cluster = make_cluster((1.0, 1.0, 1.0), rates=1.0, latency_ms=0.01)
    tiles = {0: Tile(0, 3, 0, 8), 1: Tile(3, 6, 0, 8), 2: Tile(6, 8, 0, 8)}
    for first, order in (((), [1, 2]), ((2,), [2, 1])):
        choices = [Choice((layer,), tiles, first=first) for layer in CHAIN.spatial]
        steps = assemble(CHAIN, cluster, choices)
        assert [move.dst for move in steps[0].transfers] == order
        sent = [p for p in timeline(CHAIN, cluster, steps) if (p.kind, p.step) == ("message", 0)]
        arrived = sorted(sent, key=lambda message: message.end_s)
        assert [message.peer for message in arrived] == order


CLUSTERS = {
    "unequal": make_cluster((2.0, 1.0, 1.5), rates=20.0, latency_ms=0.01),
    "shared": make_cluster((1.0, 3.0, 2.0), shared=True, rates=50.0, sink="d1"),
}
MODELS = {
    "tests.models:small_cnn": (1, 3, 33, 29),
    "tests.runtime.models:squeeze": (1, 3, 24, 20),
    "tests.network.models:unet": (2, 3, 21, 27),
}


@cache
def loaded(name: str) -> LoadedModel:
    return load_model(name, MODELS[name])


@pytest.mark.parametrize("where", CLUSTERS)
@pytest.mark.parametrize("name", MODELS)
def test_plans_in_pieces_where_it_pays_are_proved(name: str, where: str) -> None:
    model = loaded(name)
    plan = plan_network(ModelRef(name, MODELS[name]), model.network, CLUSTERS[where])
    assert plan.bound_s is not None and plan.bound_s <= plan.latency_s
    report = verify_plan(plan, model)
    assert report.faults == []
    assert report.to_json()["max_rel_error_float64"] < 1e-12


def test_pieces_count_in_memory() -> None:
    """d1 puts its 32 pixels together from pieces of 24 and 8: 24 more at once than in one piece.

    By hand: 2 x 576 bytes of weights, 16 bytes a pixel. In conv1 d1 holds its own 32, a halo of 8
    and 32 of output; in the end its 32 of conv1 alone.
    """
    loose, tight = (
        strips_cluster(memory_mib={1: pixels * 16 / 2**20 + 2 * 576 / 2**20})
        for pixels in (32 + 8 + 32 + 24, 32 + 8 + 32 + 23)
    )
    tiles = {0: Tile(0, 4, 0, 8), 1: Tile(4, 8, 0, 8)}
    choices = [Choice((layer,), tiles) for layer in CHAIN.spatial]
    cut = [choices[0], replace(choices[1], rims="incoming")]
    assert overfull_devices(CHAIN, tight, choices) == []
    assert overfull_devices(CHAIN, loose, cut) == []
    assert overfull_devices(CHAIN, tight, cut) == [1]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", MODELS)
def test_any_partition_may_be_in_pieces(name: str, seed: int) -> None:
    """Random fused segments and tiles, all of them in pieces whether that pays or not; for odd
    seeds cut anywhere, in any order, with messages in any order."""
    ref, cluster = ModelRef(name, MODELS[name]), make_cluster((1.0, 2.0, 1.0, 3.0), rates=50.0)
    model = loaded(name)
    plan = random_plan(ref, model.network, cluster, seed)
    report = verify_plan(in_pieces(plan, random.Random(seed) if seed % 2 else None), model)
    assert report.faults == []
    assert report.to_json()["max_rel_error_float64"] < 1e-12


@pytest.fixture(scope="module")
def plan() -> Plan:
    network = loaded(REF.ref).network
    plain = plan_network(REF, network, CLUSTERS["unequal"], PlanOptions("strip-equal"))
    found = in_pieces(plain)
    assert any(step.pieces for step in spatial(found))
    return found


def spatial(plan: Plan) -> list[SpatialStep]:
    return [step for step in plan.steps if isinstance(step, SpatialStep)]


def test_plan_files_keep_pieces(plan: Plan) -> None:
    """In order; a step without has no such key, and only spatial ones may have it."""
    content = json.loads(json.dumps(plan_to_json(plan)))
    assert plan_from_json(content).steps == plan.steps
    plain = plan_of(REF, plan.network, plan.cluster, [Choice(plan.layers_of(s), s.tiles)
                    for s in plan.steps[:-1]])  # fmt: skip
    assert not any("pieces" in segment for segment in plan_to_json(plain)["segments"])
    piece = next(s["pieces"][0] for s in content["segments"] if "pieces" in s)
    content["segments"][-1]["pieces"] = [piece]
    with pytest.raises(InputError, match="pieces belong to a spatial segment"):
        plan_from_json(content)


def changed(plan: Plan, number: int, **fields: Any) -> Plan:
    steps = list(plan.steps)
    steps[number] = replace(steps[number], **fields)
    return replace(plan, steps=tuple(steps))


def cut_step(plan: Plan) -> int:
    return next(k for k, step in enumerate(spatial(plan)) if step.pieces)


def test_paper_finds_a_cost_that_is_not_that_of_pieces(plan: Plan) -> None:
    faults = paper_faults(changed(plan, cut_step(plan), pieces={}))
    assert any(f"segment {cut_step(plan)}" in fault and "costs" in fault for fault in faults)


def test_pieces_that_miss_pixels_or_compute_them_twice_are_faults(plan: Plan) -> None:
    number = cut_step(plan)
    pieces = dict(spatial(plan)[number].pieces)
    device, own = next(iter(pieces.items()))
    for wrong in (own[1:], (*own, own[0])):
        faults = paper_faults(changed(plan, number, pieces=pieces | {device: wrong}))
        assert any("pieces of device" in fault and "exactly once" in fault for fault in faults)


def test_a_piece_that_awaits_too_little_is_a_fault(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were a message awaited by a later piece than the first that reads it, verify would say so."""
    right = messages.first_reader
    monkeypatch.setattr(messages, "first_reader", lambda *given: right(*given) + 1)
    monkeypatch.setattr(torch_check, "paper_faults", lambda plan: [])
    report = verify_plan(plan, loaded(REF.ref))
    assert any("neither owns nor receives" in fault for fault in report.faults)


def test_pieces_pay_for_their_own_calls(plan: Plan) -> None:
    """The pieces of a tile together cost at least the tile."""
    owned = owned_maps(plan.network, plan.cluster, plan.steps)
    for step in spatial(plan):
        for device, tile in step.tiles.items():
            layers = plan.layers_of(step)
            whole_s = segment_compute_s(plan.cluster, device, layers, tile)
            seconds = step.seconds(plan.network, plan.cluster, device, owned)
            assert sum(seconds) >= whole_s * (1 - 1e-12)
            assert len(seconds) == len(step.pieces_of(device))
    assert pieces(layers, EMPTY, "both", {}, []) == ()
