"""What nothing costs: devices without work, tiles without pixels, networks without operations."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np

from nptp_opt.cost import CandidateTiles, Load, mean_gflops, reduction_compute_s
from nptp_opt.cost.objectives import bytes_weights
from nptp_opt.geometry import Tile
from tests.builders import conv_chain, make_cluster

NETWORK = conv_chain((1, 3, 8, 8), [{}])
CLUSTER = make_cluster((1.0, 2.0))


def test_a_device_without_work_has_no_load() -> None:
    assert set(astuple(Load())) == {0}


def test_a_device_that_neither_owns_nor_uses_computes_nothing() -> None:
    empty, layer = Tile(0, 0, 0, 8), NETWORK.layers[0]
    assert reduction_compute_s(CLUSTER, NETWORK, layer, 0, empty, uses=False) == 0.0


def test_a_tile_without_rows_or_columns_is_none() -> None:
    tiles = [[[0, 4, 0, 8], [4, 4, 0, 8]], [[0, 8, 0, 8], [0, 8, 8, 8]]]
    assert CandidateTiles(np.array(tiles)).filled.tolist() == [[1, 0], [1, 0]]


def test_a_device_has_its_own_speed_where_nothing_is_computed() -> None:
    assert mean_gflops(CLUSTER.devices[1], []) == 2.0


def test_bytes_weigh_one_where_they_are_received() -> None:
    fixed, watts, received, sent = astuple(bytes_weights(CLUSTER))
    assert fixed == 0.0 and not watts.any() and not sent.any() and (received == 1.0).all()
