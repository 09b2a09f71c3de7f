"""Solver back-ends: one file each, one interface (``base``), one registry.

``listing`` is what the commands ``solvers`` and ``versions`` print.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from nptp_opt.solvers import base
from nptp_opt.solvers.base import (
    Backend,
    Capabilities,
    MilpBackend,
    SolverOutcome,
    backends,
    find,
    find_milp,
    milp_names,
)
from nptp_opt.solvers.cbc import Cbc
from nptp_opt.solvers.cpsat import CpSat
from nptp_opt.solvers.highs import Highs
from nptp_opt.solvers.model import MilpModel, from_pulp
from nptp_opt.solvers.scip import Scip

__all__ = [
    "Backend",
    "Capabilities",
    "MilpBackend",
    "MilpModel",
    "SolverOutcome",
    "backends",
    "find",
    "find_milp",
    "from_pulp",
    "listing",
    "milp_names",
]

for _backend in (Highs(), Scip(), Cbc(), CpSat()):
    base.register(_backend)


def listing() -> list[dict[str, Any]]:
    """Name, version, availability and capabilities of every solver, ready for JSON."""
    return [
        {
            "name": backend.name,
            "version": backend.version,
            "available": backend.available,
            "capabilities": asdict(backend.capabilities),
        }
        for backend in backends()
    ]
