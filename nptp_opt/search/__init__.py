"""Exact and heuristic searches for one layer's partition, and the bound on all partitions.

Registered with ``nptp_opt.layer.registry``; numba and HiGHS are imported on the first use only.
"""

from __future__ import annotations

import importlib

from nptp_opt.layer.limits import Hints, Limits
from nptp_opt.layer.problem import LayerProblem
from nptp_opt.layer.registry import Method, MethodSpec, register
from nptp_opt.layer.result import LayerResult


def _late(module: str, function: str) -> Method:
    """The method, its module imported on the first call."""

    def method(
        problem: LayerProblem, solver: str | None, limits: Limits, hints: Hints
    ) -> LayerResult:
        loaded = importlib.import_module(f"nptp_opt.{module}")
        result: LayerResult = getattr(loaded, function)(problem, solver, limits, hints)
        return result

    return method


register(
    MethodSpec(
        name="column-dp",
        family="column",
        kind="search",
        pricing="exact",
        proves="the optimum over column partitions",
        needs=None,
        summary="dynamic program over columns of stacked tiles, and their transpose",
    ),
    _late("search.column", "column_dp"),
)
register(
    MethodSpec(
        name="guillotine-dp",
        family="guillotine",
        kind="search",
        pricing="exact",
        proves="the optimum over guillotine partitions",
        needs=None,
        summary="dynamic program over device sets (switched); filtered exact search (shared)",
    ),
    _late("search.guillotine", "guillotine_dp"),
)
register(
    MethodSpec(
        name="multilevel",
        family="guillotine",
        kind="heuristic",
        pricing="exact",
        proves="nothing; the configuration bound is reported beside it",
        needs=None,
        summary="recursive two-way split: a reconstruction of NPTP's multilevel partition "
        "algorithm from its abstract; not theirs",
    ),
    _late("search.auto", "multilevel_split"),
)
register(
    MethodSpec(
        name="dissection-search",
        family="dissection",
        kind="search",
        pricing="exact",
        proves="the optimum over all dissections",
        needs=None,
        summary="depth-first corner filling, pruned by the configuration LP's multipliers",
    ),
    _late("search.auto", "dissection_search"),
)
register(
    MethodSpec(
        name="auto",
        family="dissection",
        kind="portfolio",
        pricing="exact",
        proves="the optimum over all dissections where time allows, else a bound",
        needs=None,
        summary="configuration bound, multilevel, column-dp, guillotine-dp, dissection-search",
    ),
    _late("search.auto", "auto"),
)
