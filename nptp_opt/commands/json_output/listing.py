"""Objects of ``compare``, ``report``, ``instances`` and the listing commands."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from nptp_opt.commands.json_output.base import Count, Named, Output, Part, Seconds, Table


class CompareOutput(Output):
    """``compare``: runs by how they ended."""

    schema_: Literal["nptp-opt/compare/1"] = Named
    results: str
    runs: Count
    finished: Count
    timeout: Count
    out_of_memory: Count = Field(alias="out-of-memory")
    crash: Count
    error: Count
    elsewhere: Count
    """Not done here: another process has claimed them."""


class ReportOutput(Output):
    """``report``."""

    schema_: Literal["nptp-opt/report/1"] = Named
    runs: Count
    rules: str
    """How the figures are computed, in words."""
    tables: dict[str, Table]
    """By name (docs/compare.md); a table's rows have the keys of its columns."""
    paired: dict[str, Any] | None = None
    """With --baseline and --against: their ratios by measure."""


class Method(Part):
    """A formulation or search for one layer."""

    name: str
    family: str
    kind: str
    pricing: Literal["exact", "form"]
    proves: str
    summary: str
    solvers: list[str]
    """Those that solve it, the default first; empty where it needs none."""


class FormulationsOutput(Output):
    """``formulations``."""

    schema_: Literal["nptp-opt/formulations/1"] = Named
    formulations: list[Method]


class Planner(Part):
    """A planner or baseline."""

    name: str
    summary: str


class PlannersOutput(Output):
    """``planners``."""

    schema_: Literal["nptp-opt/planners/1"] = Named
    planners: list[Planner]


class Capabilities(Part):
    """What a solver can do."""

    models: list[Literal["milp", "cp"]]
    warm_start: bool
    objective_bound: bool
    root_bound: bool
    nodes: bool
    seed: bool
    threads: bool


class Solver(Part):
    """A solver."""

    name: str
    version: str | None
    available: bool
    capabilities: Capabilities


class SolversOutput(Output):
    """``solvers``."""

    schema_: Literal["nptp-opt/solvers/1"] = Named
    solvers: list[Solver]


class Executor(Part):
    """An engine for tile programs."""

    name: str
    version: str | None
    available: bool
    tolerance: float
    """Largest relative error that a self-test lets pass, beside rounding."""
    threads: bool
    """Whether it takes a number of threads."""


class ExecutorsOutput(Output):
    """``executors``."""

    schema_: Literal["nptp-opt/executors/1"] = Named
    executors: list[Executor]


class VersionsOutput(Output):
    """``versions``."""

    schema_: Literal["nptp-opt/versions/1"] = Named
    versions: dict[str, str]


class InstanceRow(Part):
    """An instance of the library."""

    name: str
    kind: Literal["layer", "network"]
    grade: str
    value_s: Seconds | None
    """Best known."""
    bound_s: Seconds | None
    """Proven."""
    value_by: str | None
    bound_by: str | None
    tags: list[str]


class InstancesListOutput(Output):
    """``instances list``."""

    schema_: Literal["nptp-opt/instances-list/1"] = Named
    instances: list[InstanceRow]


class InstancesExportOutput(Output):
    """``instances export``."""

    schema_: Literal["nptp-opt/instances-export/1"] = Named
    folder: str
    files: Count


class InstancesGenerateOutput(Output):
    """``instances generate``."""

    schema_: Literal["nptp-opt/instances-generate/1"] = Named
    library: str
    instances: Count
