"""What the report computes, on rows whose answers are worked out by hand."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import pytest

from nptp_opt.comparison import measures
from nptp_opt.comparison.agreement import agreements, disagreements
from nptp_opt.comparison.page import page
from nptp_opt.comparison.paired import paired_ratios, sign_test
from nptp_opt.comparison.records import Record, records_of, shared_cases
from nptp_opt.comparison.tables import CSV_FIELDS, MEASURED_FIELDS, tables, to_csv, to_markdown
from nptp_opt.errors import InputError
from tests.comparison.runs import records


def two_methods() -> list[Record]:
    """a proves two instances in 1 s and 3 s; b proves the first in 2 s and is worse on i2."""
    return records(
        {"method": "a", "instance": "i1", "solve_s": 1.0},
        {"method": "a", "instance": "i2", "solve_s": 3.0},
        {"method": "b", "instance": "i1", "solve_s": 2.0},
        {"method": "b", "instance": "i2", "status": "feasible", "value_s": 2.0, "bound_s": 0.5},
        {"method": "b", "instance": "i3", "harness": "timeout", "status": None, "value_s": None},
    )


def test_shifted_geometric_mean() -> None:
    """sqrt((1 + 1) (7 + 1)) - 1 = 3."""
    assert measures.shifted_geomean([1.0, 7.0], 1.0) == pytest.approx(3.0)
    assert measures.shifted_geomean([], 1.0) is None


def test_only_cases_that_all_have_run_are_compared() -> None:
    assert {record.case for record in shared_cases(two_methods())} == {("i1", 0), ("i2", 0)}


def test_the_summary_counts_and_averages() -> None:
    a, b = measures.summary(two_methods())
    assert (a["runs"], a["optimal"], a["shared"], a["timeout"]) == (2, 2, 2, 0)
    assert (b["runs"], b["optimal"], b["shared"], b["timeout"]) == (3, 1, 2, 1)
    assert a["time_s"] == pytest.approx(math.sqrt(2 * 4) - 1)
    assert b["time_s"] == pytest.approx(math.sqrt(3 * 11) - 1)
    assert a["ratio"] == pytest.approx(1.0)
    assert b["ratio"] == pytest.approx(math.sqrt(2))
    assert b["gap"] == pytest.approx(0.75 / 2)


def test_a_value_that_the_check_rejects_does_not_count() -> None:
    found = records({"method": "a", "fault": "covered twice"})
    assert found[0].value_s is None and not found[0].proven
    assert measures.summary(found)[0]["solved"] == 0
    assert tables(found)["faults"] == [
        {"instance": "i1", "contender": "a", "fault": "covered twice"}
    ]


def test_primal_integral() -> None:
    """1 until 2 s, 0.5 until 4 s, then 0: 2 + 1 = 3."""
    (record,) = records({"trace": [[2.0, 2.0, None], [4.0, 1.0, 1.0]]})
    assert measures.primal_integral(record, 1.0) == pytest.approx(3.0)
    (none,) = records({"value_s": None, "status": "no-solution", "trace": [[9.0, None, 0.5]]})
    assert measures.primal_integral(none, 1.0) == pytest.approx(10.0)


def test_performance_profiles() -> None:
    """By time b is twice as slow on i1 and fails on i2; by value it ties once and loses by 2."""
    found = measures.profiles(two_methods(), "time")
    assert found["a"] == [(1.0, 1.0)]
    assert found["b"] == [(1.0, 0.0), (2.0, 0.5)]
    assert measures.profiles(two_methods(), "value")["b"] == [(1.0, 0.5), (2.0, 1.0)]


def test_the_gap_falls_when_the_trace_says_so() -> None:
    found = records({"trace": [[1.0, 2.0, 1.0], [5.0, 1.0, 1.0]]})
    curve = measures.gap_curves(found)["column-dp"]
    assert {gap for at, gap in curve if at < 1.0} == {1.0}
    assert {gap for at, gap in curve if 1.0 <= at < 5.0} == {0.5}
    assert {gap for at, gap in curve if at >= 5.0} == {0.0}


def test_pairwise_wins() -> None:
    assert measures.wins(two_methods()) == [
        {"contender": "a", "a": 0, "b": 1},
        {"contender": "b", "a": 0, "b": 0},
    ]


def test_sizes_are_medians_of_contenders_with_a_model() -> None:
    sized = [{"method": "m", "instance": f"i{n}", "rows": n, "columns": 2 * n} for n in (1, 2, 9)]
    found = measures.sizes(records(*sized, {"method": "search"}))
    assert [(row["contender"], row["rows"], row["columns"]) for row in found] == [("m", 2, 4)]


def test_bounds_at_the_root() -> None:
    """Best 10, known before 4, root 7: half of what was open is closed at the root."""
    found = measures.roots(
        records(
            {"method": "strip", "value_s": 10.0, "bound_s": 9.0, "root_bound_s": 7.0,
             "any_bound_s": 4.0},
        )
    )  # fmt: skip
    assert found == [
        {"contender": "strip", "runs": 1, "root": 0.7, "final": 0.9, "closed_at_root": 0.5}
    ]


@pytest.mark.parametrize(
    ("first", "second", "family"),
    [
        (("guillotine", 2.0, 2.0), ("guillotine-dp", 1.0, 1.0), "guillotine"),
        (("dissection-config", 2.0, 1.5), ("strip", 1.2, 1.2), "dissection"),
        (("strip", 1.0, 1.0), ("column-dp", 2.0, 1.9), "column"),
    ],
)
def test_a_bound_above_a_value_within_its_family_comes_first(
    first: tuple[str, float, float], second: tuple[str, float, float], family: str
) -> None:
    found = records(
        *(
            {"method": method, "value_s": value, "bound_s": bound}
            for method, value, bound in (first, second)
        )
    )
    (fault,) = disagreements(found)
    assert fault["family"] == family
    content = tables(found)
    assert next(iter(content)) == "disagreements"
    text = to_markdown(content)
    assert text.index("Contradictions") < text.index("Contenders")


def test_a_larger_family_may_be_better() -> None:
    """Strips that are proven worse than columns contradict nothing."""
    found = records(
        {"method": "strip", "value_s": 2.0, "bound_s": 2.0},
        {"method": "column-dp", "value_s": 1.0, "bound_s": 1.0},
    )
    assert disagreements(found) == []


def test_proven_optima_of_one_family_agree() -> None:
    found = records(
        {"method": "guillotine", "solver": "highs"}, {"method": "guillotine", "solver": "cbc"}
    )
    assert agreements(found) == [{"family": "guillotine", "compared": 1, "agreed": 1}]


def test_limits_tell_contenders_apart_when_there_are_several() -> None:
    found = records({"time_limit_s": 1.0}, {"time_limit_s": 60.0})
    assert [record.contender for record in found] == ["column-dp 1s", "column-dp 60s"]


def seeded(ratio: float, instances: int) -> list[Record]:
    rows: list[dict[str, Any]] = []
    for n in range(instances):
        for seed in range(3):
            case = {"instance": f"i{n}", "seed": seed}
            noise = 1 + 1e-4 * (seed - 1)
            rows += [
                {"method": "old", "value_s": 1.0, **case},
                {"method": "new", "value_s": ratio * noise, **case},
            ]
    return records(*rows)


def test_a_difference_on_all_of_ten_instances_is_beyond_noise() -> None:
    found = paired_ratios(seeded(0.9, 10), "old", "new")["value"]
    assert found["beyond_noise"] and found["lower"] == 10
    assert found["ratio"] == pytest.approx(0.9, rel=1e-3)
    assert found["interval"][0] <= found["ratio"] <= found["interval"][1] < 1
    assert all(row["beyond_noise"] for row in found["by_instance"])


@pytest.mark.parametrize(("ratio", "instances"), [(1.0, 10), (0.9, 3)])
def test_noise_and_too_few_instances_are_not(ratio: float, instances: int) -> None:
    assert not paired_ratios(seeded(ratio, instances), "old", "new")["value"]["beyond_noise"]


def test_sign_test() -> None:
    """Six of six: 2 / 2^6; none: certain."""
    assert sign_test(6, 0) == pytest.approx(2 / 64)
    assert sign_test(0, 0) == 1.0


def test_unknown_contenders_are_named() -> None:
    with pytest.raises(InputError, match="unknown contender 'c'"):
        paired_ratios(two_methods(), "a", "c")


def test_a_file_without_runs_is_refused() -> None:
    with pytest.raises(InputError, match="no finished run"):
        records_of([])


def test_runs_that_failed_say_why() -> None:
    """Bug: a run that was refused was counted, and its message was in no table."""
    refused = {"harness": "error", "status": None, "value_s": None, "message": "no watts"}
    found = tables(records(*({"instance": i, **refused} for i in ("i1", "i2")), {"method": "b"}))
    (row,) = found["failures"]
    assert (row["runs"], row["first"], row["message"]) == (2, "i1", "no watts")
    assert "no watts" in to_markdown(found)


def test_csv_has_a_line_per_run() -> None:
    head, *lines = to_csv(two_methods()).splitlines()
    assert head.split(",") == [*CSV_FIELDS, *measures.USED, *MEASURED_FIELDS]
    assert len(lines) == 5


def test_the_page_is_self_contained_and_its_data_cannot_end_the_script() -> None:
    found = records({"message": "</script><b>", "status": None, "harness": "crash"})
    text = page(found, tables(found))
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "</script><b>" not in text
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    assert data is not None
    assert json.loads(data[1])["runs"][0][0] == "i1"
