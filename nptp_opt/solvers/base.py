"""The one interface of all solver back-ends, what each can do as data, and the registry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from nptp_opt.errors import InputError, SolverError
from nptp_opt.layer.limits import Limits
from nptp_opt.layer.result import Status, Termination, TracePoint
from nptp_opt.plugins import Packaged, Registry
from nptp_opt.solvers.model import FloatArray, MilpModel

ModelKind = Literal["milp", "cp"]


@dataclass(frozen=True)
class Capabilities:
    """What a back-end can take and tell; everything is off unless a class says otherwise."""

    models: tuple[ModelKind, ...]
    warm_start: bool = False
    objective_bound: bool = False
    root_bound: bool = False
    nodes: bool = False
    seed: bool = False
    threads: bool = False


@dataclass(frozen=True)
class SolverOutcome:
    """What a solver says about one model.

    ``status`` is what was found, ``termination`` why it stopped. ``value`` and ``bound`` are the
    solver's own objective values; None where unknown. ``values`` holds one entry per column, None
    without a solution. ``trace`` is in seconds and the solver's own values.
    """

    status: Status
    termination: Termination
    values: FloatArray | None = None
    value: float | None = None
    bound: float | None = None
    root_bound: float | None = None
    nodes: int | None = None
    trace: tuple[TracePoint, ...] = ()
    notes: Mapping[str, str] = field(default_factory=dict)


class Backend(Packaged):
    """A solver: its name, the Python package it comes in, and what it can do."""

    capabilities: ClassVar[Capabilities]

    def require(self, limits: Limits) -> None:
        """Raise SolverError when the solver is missing, InputError for a setting it lacks."""
        if not self.available:
            raise SolverError(f"solver {self.name!r} is not available: pip install {self.package}")
        if limits.threads > 1 and not self.capabilities.threads:
            raise InputError(
                f"solver {self.name!r} cannot use {limits.threads} threads; set threads to 1"
            )


class MilpBackend(Backend):
    """A solver of ``MilpModel``s."""

    def solve(
        self, model: MilpModel, limits: Limits, *, start: Mapping[str, float] | None = None
    ) -> SolverOutcome:
        """Minimise ``model``; ``start`` gives values of some columns by name as a warm start.

        Raises SolverError when the solver fails, InputError for a setting that it cannot honour.
        """
        self.require(limits)
        return self._solve(model, limits, start or {})

    def _solve(self, model: MilpModel, limits: Limits, start: Mapping[str, float]) -> SolverOutcome:
        raise NotImplementedError


BACKENDS: Registry[Backend] = Registry("solver")
"""Every back-end by name; plug-ins register here, too."""


def register(backend: Backend) -> None:
    """Add a back-end; raises ValueError for a name that is taken."""
    BACKENDS.register(backend.name, backend)


def backends() -> tuple[Backend, ...]:
    """All registered back-ends in order of registration."""
    return tuple(BACKENDS.values())


def find(name: str) -> Backend:
    """The back-end of that name; raises InputError with the nearest known name."""
    return BACKENDS.find(name)


def find_milp(name: str) -> MilpBackend:
    """As ``find``, for solvers that take a MILP."""
    backend = find(name)
    if not isinstance(backend, MilpBackend):
        raise InputError(f"solver {name!r} takes no MILP; use {', '.join(milp_names())}")
    return backend


def milp_names() -> tuple[str, ...]:
    """Names of the solvers that take a MILP."""
    return tuple(b.name for b in backends() if isinstance(b, MilpBackend))
