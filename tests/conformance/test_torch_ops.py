"""torch's operator database: none is computed wrongly, and each refusal says why."""

import warnings

import pytest
import torch

from tests.conformance.torch_cases import QUICK, elementwise_cases, torch_cases
from tests.conformance.verdicts import judge, table

EVERY = 12
"""Of the operators that work element by element, one in so many is in the quick sample."""


def check(cases):
    """Judge all cases and print what came out; the counts are those of docs/conformance.md."""
    verdicts = [judge(case) for case in cases]
    print(f"\n{table(verdicts)}")
    assert [str(v) for v in verdicts if v.kind not in ("right", "refused")] == []
    assert any(v.kind == "right" for v in verdicts)


@pytest.fixture(autouse=True)
def quiet():
    """One thread, and none of torch's own warnings about its samples."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with warnings.catch_warnings(action="ignore"):
        yield
    torch.set_num_threads(threads)


def test_a_sample_of_torch_s_operators():
    cases = torch_cases(QUICK)
    assert len(QUICK) <= len(cases) <= 5 * len(QUICK)
    check(cases + elementwise_cases()[::EVERY])


@pytest.mark.conformance
def test_all_of_torch_s_operators_that_take_maps():
    cases = torch_cases()
    assert len(cases) >= 450
    check(cases)


@pytest.mark.conformance
def test_all_of_torch_s_operators_that_work_element_by_element():
    cases = elementwise_cases()
    assert len(cases) >= 150
    check(cases)
