"""Which pixels every plan computes."""

from __future__ import annotations

import pytest

from nptp_opt.bound import read_pixels
from nptp_opt.geometry import Tile
from nptp_opt.network.load import load_model
from nptp_opt.network.ref import ModelRef
from nptp_opt.planner import plan_network
from tests.builders import conv_chain, make_cluster
from tests.planner.optimum import all_partitions

REF = ModelRef("chain", (1, 3, 7, 7))
POOL = {"kernel": 2, "stride": 2, "padding": 0}


def test_a_pool_on_an_odd_map_leaves_a_row_unread() -> None:
    """7 rows and columns, pooled 2x2 to 3: the last of each is read by nothing."""
    network = conv_chain((1, 3, 7, 7), [{"channels": 8}, {"channels": 8, **POOL}])
    assert read_pixels(network) == {"conv0": 36, "conv1": 9}


def test_a_strided_pointwise_convolution_reads_single_pixels() -> None:
    network = conv_chain(
        (1, 3, 9, 9), [{"channels": 8}, {"channels": 8, "kernel": 1, "stride": 4, "padding": 0}]
    )
    assert read_pixels(network)["conv0"] == 9


def test_of_an_oblong_map_rows_and_columns_are_counted_apart() -> None:
    """7 x 11, pooled to 3 x 5."""
    network = conv_chain((1, 3, 7, 11), [{"channels": 8}, {"channels": 8, **POOL}])
    assert read_pixels(network) == {"conv0": 60, "conv1": 15}


def test_a_map_that_the_head_reads_is_read_whole() -> None:
    network = load_model("tests.models:small_cnn", (1, 3, 24, 20)).network
    last = network.spatial[-1]
    assert network.head and last.name not in network.outputs
    assert read_pixels(network)[last.name] == last.height * last.width > 0


@pytest.mark.parametrize("stride", [2, 3, 4])
def test_one_device_with_fusion_is_not_faster_than_the_bound(stride: int) -> None:
    """A bound that counted whole maps was above this plan."""
    specs = [{"channels": 64}, {"channels": 4, "kernel": 1, "stride": stride, "padding": 0}]
    network = conv_chain((1, 3, 11, 11), specs)
    plan = plan_network(REF, network, make_cluster((1.0,)))
    assert plan.bound_s is not None and plan.bound_s <= plan.latency_s


def test_every_partition_of_the_family_is_tried() -> None:
    """2 x 2 in at most two tiles: whole, two halves by rows or by columns; two devices each."""
    found = all_partitions(2, 2, 2, "guillotine")
    assert len(found) == 6
    assert {0: Tile(0, 1, 0, 2), 1: Tile(1, 2, 0, 2)} in found
