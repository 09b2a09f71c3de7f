"""Units stand beside numbers, which are as long as people read them."""

from __future__ import annotations

from typing import Any

import pytest

from nptp_opt.plot.units import beside, column, quantity, with_unit


@pytest.mark.parametrize(
    ("key", "value", "name", "text"),
    [
        ("latency_s", 0.50734912345678901, "latency", "507.35 ms"),
        ("latency_s", 12.0, "latency", "12 s"),
        ("makespan_s", 4.2e-5, "makespan", "42 us"),
        ("period_s", 0.0, "period", "0 s"),
        ("bound_s", None, "bound", "-"),
        ("bound_s_seconds", 1.5, "bound found in", "1.5 s"),
        ("gap", 0.0312, "gap", "3.12 %"),
        ("bytes", 2536576, "bytes", "2.5366 MB"),
        ("dense_bytes", 12, "dense bytes", "12 B"),
        ("energy_j", 0.25, "energy", "250 mJ"),
        ("rate_per_s", 239.7771, "rate", "239.78 /s"),
        ("up_mbit_per_s", 94.5, "up", "94.5 Mbit/s"),
        ("encode_mb_per_s", 1000.0, "encode", "1000 MB/s"),
        ("peak_mib", 58.28912, "peak", "58.289 MiB"),
        ("gflops", 40.0, "speed", "40 GFLOP/s"),
        ("max_rel_error", 1.9375123e-07, "max rel error", "1.9375e-07"),
        ("segments", 123456789, "segments", "123456789"),
        ("worth_distributing", True, "worth distributing", "yes"),
        ("latency_s", {"median": 0.001, "max": 2.0}, "latency", "median 1 ms, max 2 s"),
        ("lost", [], "lost", "none"),
        ("options", {"time_limit_s": 5, "seed": 0}, "options", "time limit 5 s, seed 0"),
    ],
)
def test_a_value_has_its_unit_beside_it(key: str, value: Any, name: str, text: str) -> None:
    """Bug: 17 digits, and units in names alone."""
    assert (quantity(key).name, beside(key, value)) == (name, text)


@pytest.mark.parametrize(
    ("objective", "text"), [("throughput", "53.4 us"), ("energy", "0.0534 mJ"), ("bytes", "0 B")]
)
def test_the_bound_of_an_objective_has_its_unit(objective: str, text: str) -> None:
    """Bug: "objective bound 5.34e-05"."""
    content = {"objective": objective, "objective_bound": 0 if objective == "bytes" else 5.34e-5}
    assert beside(with_unit("objective_bound", content), content["objective_bound"]) == text


def test_a_column_has_one_unit_in_its_header() -> None:
    assert column("makespan_s", [0.5, 0.0012, None]) == ("makespan ms", ["500", "1.2", "-"])
    assert column("bytes", [2048, 1_500_000]) == ("MB", ["0.002048", "1.5"])
    assert column("device", ["a", "b"]) == ("device", ["a", "b"])
