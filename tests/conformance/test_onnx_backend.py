"""The onnx package's test cases: none is computed wrongly, and each refusal says why."""

import warnings

import pytest

from tests.conformance.onnx_cases import QUICK, folder_cases, node_cases
from tests.conformance.verdicts import judge, table

EVERY = 3


def check(cases):
    """Judge all cases and print what came out; the counts are those of docs/conformance.md."""
    verdicts = [judge(case) for case in cases]
    print(f"\n{table(verdicts)}")
    bad = [v for v in verdicts if v.kind not in ("right", "refused")]
    assert [str(v) for v in bad] == []
    assert any(v.kind == "right" for v in verdicts)


def test_a_sample_of_the_onnx_package_s_cases(tmp_path):
    with warnings.catch_warnings(action="ignore"):
        cases = node_cases(tmp_path, QUICK) + folder_cases(tmp_path)
    check(cases[::EVERY])


@pytest.mark.conformance
def test_all_of_the_onnx_package_s_cases(tmp_path):
    with warnings.catch_warnings(action="ignore"):
        cases = node_cases(tmp_path) + folder_cases(tmp_path)
    assert len(cases) >= 400
    check(cases)
