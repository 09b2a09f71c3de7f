"""The bound counts only what every plan computes. Both networks once had a bound above a plan."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nptp_opt.planner import PlanOptions, plan_network
from nptp_opt.planner.bound import compute_bound, read_pixels
from nptp_opt.steps import ModelRef
from tests.builders import conv_chain, make_cluster

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


@pytest.mark.parametrize("stride", [2, 3, 4])
def test_one_device_with_fusion_is_not_faster_than_the_bound(stride: int) -> None:
    specs = [{"channels": 64}, {"channels": 4, "kernel": 1, "stride": stride, "padding": 0}]
    network = conv_chain((1, 3, 11, 11), specs)
    plan = plan_network(REF, network, make_cluster((1.0,)))
    assert plan.bound_s is not None and plan.bound_s <= plan.latency_s


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "channels": st.sampled_from([1, 8]),
                "kernel": st.sampled_from([1, 2, 3]),
                "stride": st.sampled_from([1, 2, 3]),
                "padding": st.just(0),
            }
        ),
        min_size=1,
        max_size=3,
    ),
    st.integers(1, 3),
    st.booleans(),
)
def test_no_plan_is_faster_than_the_bound(
    specs: list[dict[str, int]], devices: int, shared: bool
) -> None:
    network = conv_chain((1, 2, 41, 43), specs)
    cluster = make_cluster([1.0, 2.0, 0.5][:devices], rates=1e6, shared=shared)
    bound = compute_bound(network, cluster)
    for planner in ("nptp", "strip-best", "single"):
        plan = plan_network(REF, network, cluster, PlanOptions(planner, "multilevel"))
        assert bound <= plan.latency_s * (1 + 1e-12)
