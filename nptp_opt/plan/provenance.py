"""How a plan was made: by which tool, planner and options, and in what time."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, ClassVar

from pydantic import Field

from nptp_opt.files import Strict

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Names = Annotated[tuple[str, ...], Field(strict=False)]


class PlannerOptions(Strict):
    """The limits that a plan was searched within."""

    time_limit_s: Seconds | None = None
    """None: there was none."""
    gap: Annotated[float, Field(ge=0, lt=1)] | None = None
    seed: int | None = None
    threads: int | None = None
    """0: the solver chose."""
    prove: bool | None = None


class Provenance(Strict):
    """What a plan says of its making. A field that was never set is unknown, and not written.

    Raises ValidationError naming a field that is not known or has no value of its kind.
    """

    tool: str | None = None
    """Name and version."""
    planner: str | None = None
    formulation: str | None = None
    """What solved the single layers; None where the planner solves none."""
    solver: str | None = None
    """None: the formulation's own choice."""
    options: PlannerOptions = PlannerOptions()
    objective: str = "latency"
    latency_limit_s: Seconds | None = None
    solve_s: Seconds | None = None
    """Seconds of search and bound."""
    search_s: Seconds | None = None
    bound_s_seconds: Seconds | None = None
    """Seconds that the latency's bound took; None where it was not asked for."""
    search_cut: bool = False
    """The search was ended, by the time limit or by hand, before it had done its work."""
    objective_bound: Seconds | None = None
    """No plan within the limit has a lower value of the objective, in its own unit."""
    replanned: bool = False
    """Mended at run time, after devices were lost."""
    notes: Names = ()
    """What the planner had to say: what it left out for lack of time, a misfit profile."""

    TIMES: ClassVar = frozenset({"solve_s", "search_s", "bound_s_seconds"})
    """Fields that differ between two runs that make the same plan."""

    def without(self, names: Collection[str]) -> Provenance:
        """The same with some fields unknown."""
        kept = self.model_fields_set - set(names)
        return Provenance(**{name: getattr(self, name) for name in kept})

    def to_json(self) -> dict[str, Any]:
        """The fields that are known, as plain JSON values."""
        return self.model_dump(mode="json", exclude_unset=True)
