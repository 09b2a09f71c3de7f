"""Two contenders on the same instances and seeds: which differences are beyond noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import fmean, stdev
from typing import Any

import numpy as np

from nptp_opt.comparison.measures import TIE
from nptp_opt.comparison.records import Record, by_contender
from nptp_opt.errors import InputError, unknown_name

RESAMPLES = 10_000
LEVEL = 0.05
FEWEST_SEEDS = 3
FEWEST_CASES = 6
"""Fewer cases cannot reach the level in a two-sided sign test."""

MEASURES: dict[str, Callable[[Record], float | None]] = {
    "value": lambda record: record.value_s,
    "time": lambda record: max(1e-3, record.time_s),
    "measured": lambda record: record.measured_s,
}


def paired_ratios(records: Sequence[Record], baseline: str, against: str) -> dict[str, Any]:
    """Ratios ``against`` / ``baseline`` of every measure on the cases that both have run.

    Seeds are averaged by instance (log scale), the interval is a bootstrap over instances, and the
    p-value is that of a two-sided sign test. Beyond noise: the interval leaves out 1 and p is
    below the level. Raises InputError for unknown contenders, or none in common.
    """
    groups = by_contender(records)
    for name in (baseline, against):
        if name not in groups:
            raise unknown_name("contender", name, groups)
    before = {record.case: record for record in groups[baseline]}
    after = {record.case: record for record in groups[against]}
    shared = [case for case in before if case in after]
    if not shared:
        raise InputError(f"{baseline!r} and {against!r} have no instance and seed in common")
    table: dict[str, Any] = {"baseline": baseline, "against": against, "cases": len(shared)}
    for measure, read in MEASURES.items():
        logs: dict[str, list[float]] = {}
        for case in shared:
            a, b = read(before[case]), read(after[case])
            if a is not None and b is not None:
                logs.setdefault(case[0], []).append(math.log(b / a))
        table[measure] = _verdict(logs)
    return table


def _verdict(logs: dict[str, list[float]]) -> dict[str, Any]:
    if not logs:
        return {"instances": 0, "beyond_noise": False}
    means = np.array([fmean(values) for values in logs.values()])
    low, high = _interval(means)
    p = sign_test(int((means > TIE).sum()), int((means < -TIE).sum()))
    enough = len(means) >= FEWEST_CASES
    return {
        "instances": len(means),
        "ratio": math.exp(float(means.mean())),
        "interval": [math.exp(low), math.exp(high)],
        "lower": int((means < -TIE).sum()),
        "higher": int((means > TIE).sum()),
        "p": p,
        "beyond_noise": enough and p < LEVEL and not low <= 0.0 <= high,
        "by_instance": [_instance(name, values) for name, values in logs.items()],
    }


def _interval(means: np.ndarray[Any, np.dtype[np.float64]]) -> tuple[float, float]:
    """Bootstrap interval of the mean (percentiles); the same every time. One mean is all of it."""
    from scipy.stats import bootstrap

    if len(means) == 1:
        return float(means[0]), float(means[0])
    found = bootstrap(
        (means,),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=1 - LEVEL,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)


def sign_test(plus: int, minus: int) -> float:
    """Two-sided p-value of so many differences of either sign; ties are left out."""
    from scipy.stats import binomtest

    return float(binomtest(plus, plus + minus).pvalue) if plus + minus else 1.0


def _instance(name: str, values: Sequence[float]) -> dict[str, Any]:
    """Ratio on one instance; beyond noise when it is more than two standard errors over seeds."""
    mean = fmean(values)
    beyond = None
    if len(values) >= FEWEST_SEEDS:
        beyond = abs(mean) > max(TIE, 2 * stdev(values) / math.sqrt(len(values)))
    return {
        "instance": name,
        "seeds": len(values),
        "ratio": math.exp(mean),
        "beyond_noise": beyond,
    }
