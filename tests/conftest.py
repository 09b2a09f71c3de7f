"""Hypothesis runs the same examples every time; one process that has loaded torch, from which
workers are forked."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from nptp_opt.planner.local_search import anneal
from tests.runtime.forked import Template, forking

SLOW = """
comparison/test_chaos comparison/test_execute comparison/test_dask comparison/test_batch
comparison/test_harness comparison/test_progress comparison/test_planning
verification/test_networks network/test_import network/test_cli_models plan/test_network_json
network/test_onnx runtime/test_failures runtime/test_together runtime/test_emulate
runtime/test_hosts runtime/test_chaos runtime/test_quota runtime/test_schedule
runtime/test_light_worker runtime/test_tls runtime/test_pipeline deployment/test_service
deployment/http/test_serve runtime/test_tls_runs
cli/test_infer cli/test_offline cli/test_run cli/test_init cli/test_json_output
planner/test_shortest_path planner/test_pareto planner/test_replan
planner/test_linears bound/test_clock planner/test_objective bound/test_objective_bound
cost/test_pieces search/test_bounds search/test_dissection search/test_exact search/test_scale
cli/test_progress cli/test_regressions cli/test_commands kernels/test_ops kernels/test_linear
kernels/executors/test_conformance runtime/test_executors
instances/test_library planner/test_nptp planner/test_layerwise
formulations/test_honesty formulations/test_conformance formulations/test_limits
verification/test_mutants network/test_small_faults network/test_torch_ops
network/test_onnx_drawn network/test_onnx_witness conformance/test_onnx_backend
conformance/test_torch_ops verification/test_torch_check planner/test_shapes test_api test_examples
test_doc_blocks test_packaging test_demo
""".split()
"""Files that take most of the time: ``make test-fast`` leaves them out, and they begin first, so
that no long test is left to the end."""

SEARCH_SHARE = 0.2
"""Part of a default search's work that a search in these processes does: hundreds of small plans
are made here, and what is asserted of them holds for any that the search may end with. Commands in
processes of their own search in full."""

anneal.WORK *= SEARCH_SHARE
anneal.LEAST_WORK *= SEARCH_SHARE

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what is in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("nptp", deadline=None, derandomize=True, print_blob=True, max_examples=40)
settings.load_profile("nptp")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of those files, and put them in that order before all others."""
    here = Path(__file__).parent
    places = {here / f"{name}.py": place for place, name in enumerate(SLOW)}
    missing = [str(path) for path in places if not path.exists()]
    assert not missing, f"SLOW in tests/conftest.py names files that are gone: {missing}"
    for item in items:
        if item.path in places:
            item.add_marker("slow")
    items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.fixture(scope="session")
def template() -> Iterator[Template]:
    with Template() as made:
        yield made


@pytest.fixture
def forked(template: Template) -> Iterator[None]:
    """Pools of this test fork their workers: starting torch takes seconds."""
    with forking(template):
        yield
