"""The same search twice gives the same plan, alone and in threads at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from nptp_opt.network.ref import ModelRef
from nptp_opt.plan.document import plan_to_json
from nptp_opt.planner import PlanOptions, plan_network
from tests.builders import conv_chain, make_cluster

SHAPE = (1, 3, 12, 12)


def plan_hash(_: int) -> str:
    network = conv_chain(SHAPE, [{}, {"stride": 2}])
    cluster = make_cluster((2.0, 1.0, 0.5), latency_ms=0.01)
    plan = plan_network(ModelRef("chain", SHAPE), network, cluster, PlanOptions())
    return str(plan_to_json(plan)["hash"])


def test_the_same_search_gives_the_same_plan_in_threads_at_once() -> None:
    alone = plan_hash(0)
    with ThreadPoolExecutor(2) as threads:
        assert {alone, *threads.map(plan_hash, range(2))} == {alone}
