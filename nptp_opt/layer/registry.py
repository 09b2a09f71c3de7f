"""The registry of everything that partitions one layer: formulations and exact or heuristic search.

``formulations`` and ``search`` register here; ``solve.solve_layer`` alone looks names up.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

from nptp_opt.layer.limits import Hints, Limits
from nptp_opt.layer.problem import LayerProblem
from nptp_opt.layer.result import LayerResult
from nptp_opt.plugins import Registry

Family = Literal["strip", "grid", "column", "guillotine", "dissection"]
MILP = "milp"
"""What a method needs that every solver of mixed-integer linear programs can solve."""

Kind = Literal["milp", "cp", "search", "heuristic", "portfolio"]


@dataclass(frozen=True)
class MethodSpec:
    """What a method is, as ``nptp-opt formulations`` lists it.

    ``pricing`` is "exact" where every tile has its exact cost inside the method, "form" where the
    bilinear costs are (docs/cost.md): upper ones to find, lower ones to prove. ``needs`` is
    the kind of solver that it takes: "milp" for every one of these, a solver's name, or None.
    """

    name: str
    family: Family
    kind: Kind
    pricing: Literal["exact", "form"]
    proves: str
    needs: str | None
    summary: str

    @property
    def solvers(self) -> tuple[str, ...]:
        """Names of the solvers that the method can be solved by; the first is the default."""
        from nptp_opt.solvers import milp_names

        if self.needs is None:
            return ()
        return milp_names() if self.needs == MILP else (self.needs,)

    def to_json(self) -> dict[str, Any]:
        """The spec as ``nptp-opt formulations --json`` prints it."""
        fields = {key: value for key, value in asdict(self).items() if key != "needs"}
        return {**fields, "solvers": list(self.solvers)}


class Method(Protocol):
    """How a method is called; ``solver`` is one of its spec's solvers, None where it has none."""

    def __call__(
        self, problem: LayerProblem, solver: str | None, limits: Limits, hints: Hints
    ) -> LayerResult: ...


METHODS: Registry[tuple[MethodSpec, Method]] = Registry("formulation")
"""Every method by name; ``formulations``, ``search`` and plug-ins register here."""


def register(spec: MethodSpec, method: Method) -> None:
    """Add a method; raises ValueError for a name that is taken."""
    METHODS.register(spec.name, (spec, method))


def find(name: str) -> tuple[MethodSpec, Method]:
    """Spec and method of that name; raises InputError with the nearest known name."""
    return METHODS.find(name)


def specs() -> tuple[MethodSpec, ...]:
    """All registered methods in order of registration."""
    return tuple(spec for spec, _ in METHODS.values())
