"""Best known values and proven bounds of the library's instances, and the grades they give."""

from __future__ import annotations

import math
from functools import cache
from importlib import resources
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from nptp_opt.files import Strict
from nptp_opt.layer.result import relative_gap

Grade = Literal["easy", "medium", "hard", "open"]

PROVEN_GAP = 1e-6
EASY_S, MEDIUM_S = 1.0, 60.0
"""Process seconds on one core of the fastest proof."""

TileRow = tuple[int, int, int, int, int]
"""Device number, then y0, y1, x0, x1."""


class Best(Strict):
    """What is known of an instance, and what it took to prove it.

    ``tiles`` give a layer's value, ``plan`` (see ``certificates``) a network's. ``proofs`` holds
    every method that was tried alone, without anything known before: process seconds on one core to
    a proof that no partition of any family is better (gap 1e-6), null where it reached its limit
    without. A name with a slash is a formulation and its solver.

    The grade follows from this. easy: some method proved it within 1 s. medium: within 60 s. hard:
    it is proven, but that took longer, or a known value to start from. open: not proven.
    """

    value_s: float | None = None
    value_by: str | None = None
    bound_s: float | None = None
    bound_by: str | None = None
    proofs: dict[str, float | None] = Field(default_factory=dict)
    tiles: Annotated[tuple[Annotated[TileRow, Field(strict=False)], ...], Field(strict=False)] = ()
    plan: str | None = None


TABLE: TypeAdapter[dict[str, Best]] = TypeAdapter(dict[str, Best])


@cache
def best_table() -> dict[str, Best]:
    """Best known by instance name, as shipped."""
    text = resources.files("nptp_opt.instances").joinpath("best.json").read_text("utf-8")
    return TABLE.validate_json(text)


def proven(best: Best) -> bool:
    """Whether value and bound meet."""
    gap = relative_gap(best.value_s, best.bound_s)
    return gap is not None and gap <= PROVEN_GAP


def grade_of(best: Best | None) -> Grade:
    """How hard the instance has been so far, by the rule of ``Best``."""
    if best is None or not proven(best):
        return "open"
    fastest = min((s for s in best.proofs.values() if s is not None), default=math.inf)
    if fastest <= EASY_S:
        return "easy"
    return "medium" if fastest <= MEDIUM_S else "hard"


def schema_of_best() -> dict[str, Any]:
    """The JSON Schema of the table, as it is shipped."""
    return {"$id": "nptp-opt/best/1", **TABLE.json_schema()}
