"""What a transfer's encoding costs, and where it is worth it."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest

from nptp_opt.bound import clock_bound
from nptp_opt.cluster import Cluster, TransferDtype
from nptp_opt.cost import (
    BITMASK_BYTES,
    HUFFMAN_BYTES,
    CandidateTiles,
    candidate_array,
    decode_s,
    dense_bytes,
    encode_s,
    segment_costs,
    wire,
)
from nptp_opt.evaluate.assemble import Choice, assemble
from nptp_opt.evaluate.memory import peak_bytes
from nptp_opt.evaluate.simulate import simulate, timeline
from nptp_opt.evaluate.usage import usage_of
from nptp_opt.geometry import Tile
from nptp_opt.network.ir import Density, Network
from nptp_opt.plan.steps import SpatialStep
from nptp_opt.planner.baselines.quick import QUICK
from tests.builders import conv_chain, make_cluster
from tests.networks import residual_network

CHAIN = conv_chain((1, 8, 16, 16), [{}, {}])
FIRST, LAST = (layer.name for layer in CHAIN.layers)


def _sparse(network: Network, density: float, bits: float = 8.0) -> Network:
    known = Density(density, density, bits)
    return replace(network, densities=dict.fromkeys(network.shapes, known))


def _coding(cluster: Cluster, encode: float, decode: float) -> Cluster:
    rates = {"encode_mb_per_s": encode, "decode_mb_per_s": decode}
    devices = tuple(device.model_copy(update=rates) for device in cluster.devices)
    return cluster.model_copy(update={"devices": devices})


def test_a_transfer_by_hand() -> None:
    """100 pixels of 8 floats at a density of 1/4: 1 byte and 1/8 an element; 4 bytes at 8 and at
    16 MB/s are 0.5 and 0.25 us."""
    cluster = _coding(make_cluster([1.0] * 2, rates=1.0), 8.0, 16.0)
    network = _sparse(CHAIN, 0.25)
    channels = network.shapes[FIRST][1]
    move = wire(cluster, network, FIRST).transfer(0, 1, FIRST, Tile(0, 10, 0, 10))
    elements = 100 * channels
    assert (move.encoding, move.bytes) == ("bitmask", elements * 9 // 8 + BITMASK_BYTES)
    assert encode_s(cluster, network, move) == pytest.approx(elements * 0.5e-6)
    assert decode_s(cluster, network, [move], 1) == pytest.approx(elements * 0.25e-6)
    assert decode_s(cluster, network, [move], 0) == 0.0
    assert dense_bytes(cluster, network, move) == 4 * elements


def test_a_transfer_with_codes_by_hand() -> None:
    """As above, and 1/4 of the elements have 2 bits in place of 8: 3/16 of a byte less. A first
    byte at 0.5 and at 1 MB/s takes 2 and 1 us, of every fourth element."""
    cluster = _coding(make_cluster([1.0] * 2, rates=1.0), 8.0, 16.0)
    rates = {"huffman_encode_mb_per_s": 0.5, "huffman_decode_mb_per_s": 1.0}
    devices = tuple(device.model_copy(update=rates) for device in cluster.devices)
    cluster, network = cluster.model_copy(update={"devices": devices}), _sparse(CHAIN, 0.25, 2.0)
    move = wire(cluster, network, FIRST).transfer(0, 1, FIRST, Tile(0, 10, 0, 10))
    elements = 100 * network.shapes[FIRST][1]
    assert (move.encoding, move.bytes) == ("huffman", elements * 15 // 16 + HUFFMAN_BYTES)
    assert encode_s(cluster, network, move) == pytest.approx(elements * (0.5 + 0.5) * 1e-6)
    assert decode_s(cluster, network, [move], 1) == pytest.approx(elements * (0.25 + 0.25) * 1e-6)
    assert dense_bytes(cluster, network, move) == 4 * elements


@pytest.mark.parametrize(
    ("density", "bits", "mbit_per_s", "dtype", "planned"),
    [
        (0.5, 2.0, 50.0, "float32", "huffman"),
        (0.5, 2.0, 50.0, "bfloat16", "huffman"),
        (0.5, 2.0, 50.0, "float16", "bitmask"),  # its first byte is another
        (0.5, 2.0, 50.0, "int8", "bitmask"),
        (0.5, 2.0, 800.0, "float32", "bitmask"),  # 12.5 ns of codes for 7.5 ns of sending
        (0.5, 8.0, 50.0, "float32", "bitmask"),
        (1.0, 2.0, 50.0, "float32", "huffman"),  # a mask of ones for 6 bits of each element
        (1.0, 7.5, 50.0, "float32", "dense"),
    ],
)
def test_codes_are_planned_where_they_are_faster(
    density: float, bits: float, mbit_per_s: float, dtype: TransferDtype, planned: str
) -> None:
    cluster = make_cluster([1.0] * 2, rates=mbit_per_s).sending_as(dtype)
    network = _sparse(CHAIN, density, bits)
    move = wire(cluster, network, FIRST).transfer(0, 1, FIRST, Tile(0, 16, 0, 16))
    assert move.encoding == planned


@pytest.mark.parametrize(
    ("density", "mbit_per_s", "codec_mb_per_s", "pays"),
    [
        (0.5, 50.0, 1000.0, True),
        (0.5, 50.0, 20.0, False),  # 0.4 us of codec for 1.875 bytes at 6.25 MB/s, 0.3 us
        (0.5, 10_000.0, 500.0, False),
        (0.97, 50.0, 1e6, False),  # the mask is longer than what is left out
        (None, 50.0, 1e6, False),
    ],
)
def test_a_bitmask_is_planned_where_it_is_faster(
    density: float | None, mbit_per_s: float, codec_mb_per_s: float, pays: bool
) -> None:
    cluster = make_cluster([1.0] * 2, rates=mbit_per_s)
    cluster = _coding(cluster, codec_mb_per_s, codec_mb_per_s)
    network = CHAIN if density is None else _sparse(CHAIN, density)
    assert bool((wire(cluster, network, FIRST).encodings == 1).all()) is pays
    assert wire(cluster, network, FIRST).is_uniform


def test_shorter_types_and_pixels_have_thresholds_of_their_own() -> None:
    """An eighth of a byte is half of a byte's quarter: int8 maps pay below 7/8."""
    cluster = _coding(make_cluster([1.0] * 2, rates=1.0), 1e6, 1e6)
    for density, pays in ((0.86, True), (0.88, False)):
        network = _sparse(CHAIN, density)
        assert wire(cluster.sending_as("int8"), network, FIRST).encodings[0, 1] == pays
        pixels = replace(network, input_dtypes={"input": "uint8"})
        assert wire(cluster, pixels, "input").encodings[0, 1] == pays


def test_encoding_is_the_senders_time_and_decoding_the_receivers() -> None:
    """Two halves of a map, one after the other: what the messages and tasks wait for, by hand."""
    network = _sparse(CHAIN, 0.5)
    cluster = _coding(make_cluster([0.001] * 2, rates=1.0), 1.0, 2.0)
    cluster = _coding(cluster, 40.0, 80.0)
    halves = {0: Tile(0, 8, 0, 16), 1: Tile(8, 16, 0, 16)}
    steps = assemble(network, cluster, [Choice((layer,), halves) for layer in network.layers])
    dense = replace(network, densities={})
    plain = assemble(dense, cluster, [Choice((layer,), halves) for layer in dense.layers])
    for k, (step, other) in enumerate(zip(steps, plain, strict=True)):
        owned = {"input": {0: network.full("input")}, FIRST: halves, LAST: halves}
        for device in step.devices:
            more = step.compute_s(network, cluster, device, owned) - other.compute_s(
                dense, cluster, device, owned
            )
            assert more == pytest.approx(decode_s(cluster, network, step.transfers, device)), k
    messages = [s for s in timeline(network, cluster, steps) if s.kind == "message"]
    first = min(messages, key=lambda s: s.start_s)
    (sent,) = (move for move in steps[0].transfers)
    assert first.start_s == pytest.approx(encode_s(cluster, network, sent))
    assert first.end_s - first.start_s == pytest.approx(sent.bytes / 125e3, rel=1e-6)
    extra = usage_of(network, cluster, steps).compute_s - usage_of(dense, cluster, plain).compute_s
    moves = [move for step in steps for move in step.transfers]
    for device in range(2):
        coding = sum(encode_s(cluster, network, m) for m in moves if m.src == device)
        assert extra[device] == pytest.approx(coding + decode_s(cluster, network, moves, device))


@pytest.mark.parametrize("seed", range(6))
def test_matrix_costs_agree_with_listed_transfers(seed: int) -> None:
    """Bytes of random partitions, where some pairs of devices send otherwise than others."""
    rng = Random(seed)
    cluster = make_cluster([1.0] * 3, rates=(5.0, 900.0, 100.0), shared=False)
    cluster = _coding(cluster, rng.choice([40.0, 1000.0]), rng.choice([40.0, 1000.0]))
    network = _sparse(CHAIN, rng.uniform(0.1, 0.9))
    cuts = [sorted(rng.sample(range(1, 16), 2)) for _ in range(2)]
    before, tiles = ({0: Tile(0, a, 0, 16), 1: Tile(a, b, 0, 16), 2: Tile(b, 16, 0, 16)}
                     for a, b in cuts)  # fmt: skip
    layer = network.by_name[LAST]
    costs = segment_costs(cluster, network, [layer], CandidateTiles(candidate_array([tiles], 3)))
    found = costs.loads({FIRST: candidate_array([before], 3)})
    step = SpatialStep((LAST,), tiles).with_cost(network, cluster, {FIRST: before})
    listed = step.loads(network, cluster, {FIRST: before})
    for device, load in enumerate(listed):
        assert found.recv_bytes[0, 0, device] == pytest.approx(load.recv_bytes, abs=3)
        assert found.send_bytes[0, 0, device] == pytest.approx(load.send_bytes, abs=3)
        assert found.messages[0, 0, device] == load.messages


@pytest.mark.parametrize("name", ["strip-equal", "grid-equal", "coedge-style"])
def test_baselines_send_no_zeros_either(name: str) -> None:
    """On a slow link every plan gets faster; the bound stays below it; memory holds the buffers."""
    cluster = make_cluster([0.01] * 4, rates=5.0, shared=True)
    network = residual_network(blocks=2)
    sparse = _sparse(network, 0.4)
    seconds = {}
    for known in (network, sparse):
        choices = QUICK[name](known, cluster)
        steps = assemble(known, cluster, choices)
        seconds[known is sparse] = simulate(known, cluster, steps)
        assert clock_bound(known, cluster) <= seconds[known is sparse] * (1 + 1e-9)
        assert max(peak_bytes(known, 4, steps, 0)) > 0
    assert seconds[True] < seconds[False]
    assert np.isfinite(list(seconds.values())).all()
