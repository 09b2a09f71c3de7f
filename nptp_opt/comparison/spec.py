"""The comparison's TOML file, and the runs that it stands for."""

from __future__ import annotations

import importlib
import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator

from nptp_opt.cluster import TransferDtype
from nptp_opt.comparison.planning import Encodings, aims, plannings
from nptp_opt.comparison.runs import Run
from nptp_opt.cost.objectives import Objective
from nptp_opt.errors import InputError
from nptp_opt.files import Strict, explain, load_toml
from nptp_opt.instances import library
from nptp_opt.instances.library import Problem
from nptp_opt.instances.networks import NetworkProblem

Names = Annotated[tuple[str, ...], Field(strict=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


Chosen = tuple[str, str | None, dict[str, Any]]
"""A method, its solver, and how it plans."""

PLANNING = frozenset({"objectives", "transfer_dtypes", "encodings", "latency_limit_ms"})
"""Fields of a spec that are for planners."""


class Spec(Strict):
    """What to compare; every list is crossed with every other.

    ``instances`` holds files and names or patterns of the library, ``tags`` picks from the library
    too. ``solvers`` are names, or ``default`` for a formulation's first, or ``all``. How planners
    plan: ``objectives`` (of ``nptp``; baselines have none), ``transfer_dtypes`` (the cluster's own
    by default), ``encodings`` (as instances give them, or dense), and ``latency_limit_ms`` of every
    plan.
    """

    @model_validator(mode="before")
    @classmethod
    def _gone(cls, data: Any) -> Any:
        """Say what to write instead of what there was in earlier versions."""
        if isinstance(data, dict) and "overlap" in data:
            raise ValueError(
                "overlap is gone: plans overlap computing and exchange where that makes them "
                "faster; leave it out"
            )
        objectives = data.get("objectives") if isinstance(data, dict) else None
        if isinstance(objectives, (list, tuple)) and "predicted" in objectives:
            raise ValueError(
                "objectives: `predicted` is what every plan is made for now: leave it out"
            )
        return data

    instances: Names = ()
    tags: Names = ()
    formulations: Names = ()
    planners: Names = ()
    solvers: Names = ("default",)
    objectives: Annotated[tuple[Objective, ...], Field(strict=False, min_length=1)] = ("latency",)
    transfer_dtypes: Annotated[tuple[TransferDtype, ...], Field(strict=False)] = ()
    encodings: Annotated[tuple[Encodings, ...], Field(strict=False, min_length=1)] = ("given",)
    latency_limit_ms: Positive | None = None
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(strict=False)] = (0,)
    time_limits_s: Annotated[tuple[Positive, ...], Field(strict=False, min_length=1)] = (60.0,)
    gap: Annotated[float, Field(ge=0, lt=1)] = 1e-6
    threads: Annotated[int, Field(ge=1)] = 1
    memory_mib: Positive = 4096.0
    grace_s: Positive = 10.0
    plugins: Names = ()


def load_spec(path: Path) -> Spec:
    """Read a spec file; raises InputError naming file and field."""
    return spec_from_dict(load_toml(path), str(path))


def spec_from_dict(data: dict[str, Any], where: str = "spec") -> Spec:
    """Check parsed TOML, or options of the command line."""
    try:
        spec = Spec.model_validate(data)
    except ValidationError as error:
        raise explain(error, where) from None
    if not spec.instances and not spec.tags:
        raise InputError(f"{where}: no instances: give `instances` or `tags`")
    if not spec.formulations and not spec.planners:
        raise InputError(f"{where}: nothing to compare: give `formulations` or `planners`")
    return spec


def load_plugins(names: Sequence[str]) -> None:
    """Import modules that register methods of their own; the current folder is importable."""
    here = str(Path.cwd())
    if names and here not in sys.path:
        sys.path.insert(0, here)
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise InputError(f"plugin {name!r} cannot be imported: {error}") from None


def runs_of(spec: Spec) -> list[Run]:
    """All runs of the spec, each once, instance by instance.

    Layers meet ``formulations``, networks meet ``planners``. Raises InputError for unknown names
    and where no run is left.
    """
    load_plugins(spec.plugins)
    _check_planners(spec)
    formulations = _formulations(spec)
    runs: dict[str, Run] = {}
    for problem in _problems(spec):
        content = library.problem_to_json(problem)
        chosen = formulations
        if isinstance(problem, NetworkProblem):
            chosen = _planners(spec, problem)
        crossed = itertools.product(chosen, spec.seeds, spec.time_limits_s)
        for (method, solver, planning), seed, limit in crossed:
            run = Run(
                instance=content,
                method=method,
                solver=solver,
                seed=seed,
                time_limit_s=limit,
                gap=spec.gap,
                threads=spec.threads,
                memory_mib=spec.memory_mib,
                grace_s=spec.grace_s,
                plugins=spec.plugins,
                planning=planning,
            )
            runs[run.key] = run
    if not runs:
        raise InputError("no runs: layers need `formulations`, networks need `planners`")
    return list(runs.values())


def _problems(spec: Spec) -> Iterator[Problem]:
    """Problems by file, name, pattern and tag; a library instance named twice comes once."""
    names: dict[str, None] = {}
    for ref in spec.instances:
        if any(sign in ref for sign in "*?["):
            names |= dict.fromkeys(entry.name for entry in library.select(spec.tags, ref))
        else:
            names[ref] = None
    if not spec.instances:
        names = dict.fromkeys(entry.name for entry in library.select(spec.tags))
    for ref in names:
        yield library.open_instance(ref)


def _formulations(spec: Spec) -> list[Chosen]:
    pairs = [pair for name in spec.formulations for pair in _with_solvers(name, spec.solvers)]
    return [(formulation, solver, {}) for formulation, solver in pairs]


def _planners(spec: Spec, problem: NetworkProblem) -> list[Chosen]:
    from nptp_opt.planner.objective import check_objective

    for objective in spec.objectives if any(map(aims, spec.planners)) else ():
        try:
            check_objective(problem.cluster, objective)
        except InputError as error:
            raise InputError(f"{problem.name}: {error}") from None
    return [
        (name, None, planning)
        for name in spec.planners
        for planning in plannings(
            name,
            problem,
            objectives=spec.objectives,
            transfer_dtypes=spec.transfer_dtypes,
            encodings=spec.encodings,
            latency_limit_ms=spec.latency_limit_ms,
        )
    ]


def _check_planners(spec: Spec) -> None:
    """Raise InputError for unknown planners, and for options that exclude each other."""
    from nptp_opt.planner import PLANNERS, PlanOptions, check_planner

    for name in spec.planners:
        PLANNERS.find(name)
    for objective in spec.objectives:
        check_planner(PlanOptions(objective=objective))
    given = sorted(PLANNING & spec.model_fields_set)
    if given and not spec.planners:
        raise InputError(f"{', '.join(given)}: for planners only: give `planners` and networks")


def _with_solvers(formulation: str, solvers: Sequence[str]) -> list[tuple[str, str | None]]:
    from nptp_opt.layer import registry
    from nptp_opt.layer.solve import pick_solver
    from nptp_opt.solvers import find

    spec, _ = registry.find(formulation)
    if not spec.solvers:
        return [(formulation, None)]
    if "all" in solvers:
        return [(formulation, solver) for solver in spec.solvers]
    named = [pick_solver(spec, None) if name == "default" else name for name in solvers]
    for name in named:
        find(str(name))
    taken = [name for name in dict.fromkeys(named) if name in spec.solvers]
    return [(formulation, name) for name in taken]
