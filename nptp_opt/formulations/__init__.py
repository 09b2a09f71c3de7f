"""Formulations of one layer's partition: one file each, registered with ``layer.registry``.

Solvers and PuLP are imported on the first solve only.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Literal

from nptp_opt.formulations.run import export_model, register_export, register_milp
from nptp_opt.layer.limits import Hints, Limits
from nptp_opt.layer.problem import LayerProblem
from nptp_opt.layer.registry import MILP, Family, MethodSpec, register
from nptp_opt.layer.result import LayerResult

if TYPE_CHECKING:
    from nptp_opt.formulations.building import BuiltModel
    from nptp_opt.formulations.scaled_costs import ScaledCosts
    from nptp_opt.solvers.model import MilpModel

__all__ = ["export_model"]

WHERE = " where the form costs are exact or their bound meets the value, else a bound"


def _register(
    name: str,
    family: Family,
    summary: str,
    *,
    pricing: Literal["exact", "form"] = "form",
    strips_first: bool = True,
) -> None:
    module = f"{__name__}.{name.replace('-', '_')}"

    def build(costs: ScaledCosts) -> BuiltModel:
        built: BuiltModel = importlib.import_module(module).build(costs)
        return built

    spec = MethodSpec(
        name=name,
        family=family,
        kind="milp",
        pricing=pricing,
        proves=f"the optimum over {family} partitions" + ("" if pricing == "exact" else WHERE),
        needs=MILP,
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
    needs="cp-sat",
    summary="any rectangles by intervals, no-overlap-2D and products, in OR-Tools",
)


def _cp_sat(problem: LayerProblem, solver: str | None, limits: Limits, hints: Hints) -> LayerResult:
    from nptp_opt.formulations.cp_sat import solve

    return solve(_CP_SAT, problem, limits, hints)


register(_CP_SAT, _cp_sat)


_COVER = MethodSpec(
    name="cover",
    family="dissection",
    kind="milp",
    pricing="exact",
    proves="the optimum over all dissections",
    needs=MILP,
    summary="exact cover by candidate tiles, pruned by the configuration LP and a known value",
)


def _cover(problem: LayerProblem, solver: str | None, limits: Limits, hints: Hints) -> LayerResult:
    from nptp_opt.formulations.cover import cover

    return cover(problem, solver, limits, hints)


def _cover_model(problem: LayerProblem) -> MilpModel:
    from nptp_opt.formulations.cover import cover_model

    return cover_model(problem)


register(_COVER, _cover)
register_export(_COVER.name, _cover_model)
