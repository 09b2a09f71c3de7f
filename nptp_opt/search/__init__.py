"""Exact and heuristic searches for one layer's partition, and the bound on all partitions.

Registered with ``nptp_opt.methods``; numba and HiGHS are imported on the first use only.
"""

from __future__ import annotations

import importlib

from nptp_opt.methods import Family, Hints, Kind, Limits, MethodSpec, register
from nptp_opt.problem import LayerProblem
from nptp_opt.result import LayerResult


def _register(
    name: str, module: str, function: str, family: Family, kind: Kind, proves: str, summary: str
) -> None:
    def method(
        problem: LayerProblem, solver: str | None, limits: Limits, hints: Hints
    ) -> LayerResult:
        found = importlib.import_module(f"{__name__}.{module}")
        result: LayerResult = getattr(found, function)(problem, solver, limits, hints)
        return result

    spec = MethodSpec(
        name=name,
        family=family,
        kind=kind,
        pricing="exact",
        proves=proves,
        solvers=(),
        summary=summary,
    )
    register(spec, method)


_register(
    "column-dp",
    "column",
    "column_dp",
    "column",
    "search",
    "the optimum over column partitions",
    "dynamic program over columns of stacked tiles and their transpose; the strongest cheap rival",
)
_register(
    "guillotine-dp",
    "guillotine",
    "guillotine_dp",
    "guillotine",
    "search",
    "the optimum over guillotine partitions",
    "dynamic program over device sets (switched); filtered exact search (shared)",
)
_register(
    "multilevel",
    "auto",
    "multilevel_split",
    "guillotine",
    "heuristic",
    "nothing; the configuration bound is reported beside it",
    "recursive two-way split: a reconstruction of NPTP's multilevel partition algorithm from its "
    "abstract; not theirs",
)
_register(
    "dissection-search",
    "auto",
    "dissection_search",
    "dissection",
    "search",
    "the optimum over all dissections",
    "depth-first corner filling, pruned by the configuration LP's multipliers",
)
_register(
    "auto",
    "auto",
    "auto",
    "dissection",
    "portfolio",
    "the optimum over all dissections within the time limit, or a bound",
    "bound, multilevel, column-dp, guillotine-dp, then dissection-search",
)
