"""CBC: the command line that PuLP brings, one child process per solve.

PuLP's own call loses the bound, and its status says Optimal at a time limit, so the files and the
log are read here. CBC can overrun its limit: the child is killed at limit plus grace.
"""

from __future__ import annotations

import math
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np

from nptp_opt.errors import SolverError
from nptp_opt.layer.limits import Limits
from nptp_opt.layer.result import Status, Termination
from nptp_opt.solvers.base import Capabilities, MilpBackend, SolverOutcome
from nptp_opt.solvers.model import FloatArray, MilpModel
from nptp_opt.solvers.modelfile import model_text
from nptp_opt.solvers.trace import cbc_trace

GRACE_S = 5.0
INCREMENT = 1e-7
"""CBC only accepts solutions that are better by this much: its optimum is exact to within it."""

_NUMBER = r"([-+0-9.eE]+|inf)"


class Cbc(MilpBackend):
    """COIN-OR CBC 2.10 (EPL licence), one thread."""

    name: ClassVar[str] = "cbc"
    package: ClassVar[str] = "pulp"
    module: ClassVar[str] = "pulp"
    capabilities: ClassVar[Capabilities] = Capabilities(
        models=("milp",),
        warm_start=True,
        objective_bound=True,
        root_bound=True,
        nodes=True,
        seed=True,
    )

    @cached_property
    def path(self) -> Path | None:
        """The bundled executable; None where PuLP is missing or has none for this platform."""
        if not super().available:
            return None
        from pulp.apis.coin_api import pulp_cbc_path

        path = Path(pulp_cbc_path)
        return path if os.access(path, os.X_OK) else None

    @property
    def available(self) -> bool:
        return self.path is not None

    def _solve(self, model: MilpModel, limits: Limits, start: Mapping[str, float]) -> SolverOutcome:
        with tempfile.TemporaryDirectory(prefix="nptp-cbc-") as folder:
            place = Path(folder)
            (place / "model.mps").write_text(model_text(model, "mps", short_names=True))
            if start:
                _write_start(place / "start.txt", model, start)
            began = time.monotonic()
            log = self._call(place, limits, warm=bool(start))
            elapsed = time.monotonic() - began
            outcome = _outcome(model, place / "solution.txt", log, limits)
        if outcome.status is Status.INFEASIBLE and elapsed >= limits.time_limit_s:
            # CBC says "infeasible" when its limit strikes during preprocessing.
            return SolverOutcome(Status.NO_SOLUTION, Termination.TIME_LIMIT)
        return outcome

    def _call(self, place: Path, limits: Limits, *, warm: bool) -> str:
        limit = [] if limits.time_limit_s == math.inf else ["-sec", str(limits.time_limit_s)]
        command = [
            *(str(self.path), "model.mps", "-timeMode", "elapsed", *limit),
            *("-ratio", str(limits.gap), "-allow", "0", "-increment", str(INCREMENT)),
            *("-randomCbcSeed", str(limits.seed), "-threads", "1"),
            *(("-mips", "start.txt") if warm else ()),
            *("-solve", "-printingOptions", "all", "-solution", "solution.txt"),
        ]
        patience = None if limits.time_limit_s == math.inf else limits.time_limit_s + GRACE_S
        began = time.monotonic()
        with (place / "log.txt").open("w") as log:
            try:
                subprocess.run(
                    command, cwd=place, stdout=log, stderr=log, timeout=patience, check=True
                )
            except subprocess.TimeoutExpired:
                (place / "solution.txt").unlink(missing_ok=True)
            except (subprocess.CalledProcessError, OSError) as error:
                if time.monotonic() - began < limits.time_limit_s:
                    raise SolverError(f"solver 'cbc' failed: {error}") from None
                # It crashes now and then where a limit of milliseconds strikes while it reads.
                (place / "solution.txt").unlink(missing_ok=True)
        return (place / "log.txt").read_text()


def _write_start(path: Path, model: MilpModel, start: Mapping[str, float]) -> None:
    columns, values = model.start_indices(start)
    lines = [f"{j} C{j} {v!r} 0" for j, v in zip(columns, values.tolist(), strict=True)]
    path.write_text("\n".join(["Stopped on time - objective value 0", *lines, ""]))


def _from_log(log: str, label: str) -> float | None:
    matches = re.findall(rf"{label}\s*{_NUMBER}", log)
    return float(matches[-1]) if matches and math.isfinite(float(matches[-1])) else None


def _read_values(path: Path, n_columns: int) -> tuple[str, FloatArray]:
    """First line of a solution file, and the columns' values."""
    head, *rows = path.read_text().splitlines()
    values = np.zeros(n_columns)
    for row in rows:
        fields = row.replace("**", " ").split()
        if fields[1].startswith("C"):
            values[int(fields[1][1:])] = float(fields[2])
    return head, values


def _bound(log: str) -> float | None:
    """Proven bound of an unfinished search: the summary prints it with three decimals only."""
    rounded = _from_log(log, "Lower bound:")
    precise = _from_log(log, "best possible")
    known = [] if rounded is None else [rounded - 5e-4]
    known += [precise] if precise is not None and abs(precise) < 1e30 else []
    return max(known, default=None)


def _outcome(model: MilpModel, path: Path, log: str, limits: Limits) -> SolverOutcome:
    root, bound = _from_log(log, "Continuous objective value is"), _bound(log)
    if not path.exists():
        return _no_file(log, root)
    head, values = _read_values(path, model.n_columns)
    if "infeasible" in head.lower():
        return SolverOutcome(Status.INFEASIBLE, Termination.COMPLETED)
    timed_out = Termination.TIME_LIMIT if "time" in head else Termination.OTHER_LIMIT
    value = float(model.objective @ values + model.offset)
    nodes = _from_log(log, "Enumerated nodes:")
    seen = SolverOutcome(
        Status.FEASIBLE,
        timed_out,
        values,
        value,
        bound,
        root,
        None if nodes is None else int(nodes),
        cbc_trace(log),
    )
    if head.startswith("Optimal"):
        proven = value - max(limits.gap * abs(value), INCREMENT)
        best = proven if bound is None else max(proven, bound)
        return replace(seen, status=Status.OPTIMAL, termination=Termination.COMPLETED, bound=best)
    if "no integer solution" in head:
        best_known = root if bound is None else bound
        return replace(seen, status=Status.NO_SOLUTION, values=None, value=None, bound=best_known)
    return seen


def _no_file(log: str, root: float | None) -> SolverOutcome:
    """Killed, or proven infeasible before there was a solution to write."""
    if re.search(r"problem is infeasible|proven infeasible", log, re.IGNORECASE):
        return SolverOutcome(Status.INFEASIBLE, Termination.COMPLETED)
    return SolverOutcome(Status.NO_SOLUTION, Termination.TIME_LIMIT, bound=root, root_bound=root)
