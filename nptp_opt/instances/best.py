"""Best known values and proven bounds of the library's instances, and the grades they give."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from nptp_opt.files import Strict
from nptp_opt.result import relative_gap

Grade = Literal["easy", "medium", "hard", "open"]

PROVEN_GAP = 1e-6
EASY_S, MEDIUM_S = 1.0, 10.0
"""An instance is easy, or medium, when it was proven within this time on one core."""

TileRow = tuple[int, int, int, int, int]
"""Device number, then y0, y1, x0, x1."""


class Best(Strict):
    """What is known of an instance.

    ``tiles`` give a layer's value, ``plan`` (see ``certificates``) a network's; ``seconds`` is how
    long the proof took.
    """

    value_s: float | None = None
    value_by: str | None = None
    bound_s: float | None = None
    bound_by: str | None = None
    seconds: float | None = None
    tiles: Annotated[tuple[Annotated[TileRow, Field(strict=False)], ...], Field(strict=False)] = ()
    plan: str | None = None


TABLE: TypeAdapter[dict[str, Best]] = TypeAdapter(dict[str, Best])


@cache
def best_table() -> dict[str, Best]:
    """Best known by instance name, as shipped."""
    text = resources.files("nptp_opt.instances").joinpath("best.json").read_text("utf-8")
    return TABLE.validate_json(text)


def grade_of(best: Best | None) -> Grade:
    """Open without a proof; else by the time that the proof took."""
    gap = relative_gap(best.value_s, best.bound_s) if best else None
    if best is None or gap is None or gap > PROVEN_GAP or best.seconds is None:
        return "open"
    if best.seconds <= EASY_S:
        return "easy"
    return "medium" if best.seconds <= MEDIUM_S else "hard"
