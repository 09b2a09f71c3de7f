"""Formulations of one layer's partition: one file each, registered with ``layer.registry``.

Solvers and PuLP are imported on the first solve only.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Literal

from nptp_opt.formulations.run import export_model, register_milp
from nptp_opt.layer.problem import LayerProblem
from nptp_opt.layer.registry import Family, Hints, Limits, MethodSpec, register
from nptp_opt.layer.result import LayerResult

if TYPE_CHECKING:
    from nptp_opt.formulations.building import BuiltModel
    from nptp_opt.formulations.pricing import Pricing

__all__ = ["export_model"]

WHERE = " where the form prices are exact or their bound meets the value, else a bound"

_MILP_SOLVERS = ("highs", "scip", "cbc")


def _register(
    name: str,
    family: Family,
    summary: str,
    *,
    pricing: Literal["exact", "form"] = "form",
    strips_first: bool = True,
) -> None:
    module = f"{__name__}.{name.replace('-', '_')}"

    def build(prices: Pricing) -> BuiltModel:
        built: BuiltModel = importlib.import_module(module).build(prices)
        return built

    spec = MethodSpec(
        name=name,
        family=family,
        kind="milp",
        pricing=pricing,
        proves=f"the optimum over {family} partitions" + ("" if pricing == "exact" else WHERE),
        solvers=_MILP_SOLVERS,
        summary=summary,
    )
    register_milp(spec, build, strips_first=strips_first)


_register(
    "strip",
    "strip",
    "parallel cuts through the whole map; 8 binaries per device",
    pricing="exact",
    strips_first=False,
)
_register("grid", "grid", "common cuts through the map, every shape of rows times columns")
_register("column", "column", "cuts in one direction go through, the others stop at them")
_register(
    "dissection-bigm",
    "dissection",
    "any rectangles by pairwise disjunctions: the textbook model, kept as the reference",
    strips_first=False,
)
_register(
    "dissection-config",
    "dissection",
    "any rectangles, one choice of contacts and width per device: the tight model",
)
_register("guillotine", "guillotine", "recursive cuts, the slicing tree chosen by binaries")

_CP_SAT = MethodSpec(
    name="cp-sat",
    family="dissection",
    kind="cp",
    pricing="form",
    proves="the optimum over dissection partitions" + WHERE,
    solvers=("cp-sat",),
    summary="any rectangles by intervals, no-overlap-2D and products, in OR-Tools",
)


def _cp_sat(problem: LayerProblem, solver: str | None, limits: Limits, hints: Hints) -> LayerResult:
    from nptp_opt.formulations.cp_sat import solve

    return solve(_CP_SAT, problem, limits, hints)


register(_CP_SAT, _cp_sat)
