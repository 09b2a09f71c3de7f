"""Objects of ``solve-layer``, ``check`` and ``verify``."""

from __future__ import annotations

from typing import Any, Literal

from nptp_opt.commands.json_output.base import Count, Named, Output, Rectangle, Seconds, Share


class SolveLayerOutput(Output):
    """``solve-layer``; ``check`` reads it."""

    schema_: Literal["nptp-opt/solve-layer/1"] = Named
    instance: str
    formulation: str
    solver: str | None
    status: Literal["optimal", "feasible", "infeasible", "no-solution"]
    termination: str
    """Why the search stopped."""
    makespan_s: Seconds | None
    """Null without a partition."""
    bound_s: Seconds | None
    """Below which no partition of the formulation's family lies."""
    gap: Share | None
    any_bound_s: Seconds | None
    """Below which no partition of any family lies."""
    root_bound_s: Seconds | None
    """The solver's bound before it branched."""
    nodes: Count | None
    rows: Count | None
    """Of the model; null where there is none. So are the next three."""
    columns: Count | None
    nonzeros: Count | None
    integers: Count | None
    build_s: Seconds
    solve_s: Seconds
    notes: dict[str, Any]
    """What the method has to say of its result, by name."""
    tiles: list[Rectangle] | None
    """Of the devices that own one."""


class CheckOutput(Output):
    """``check``."""

    schema_: Literal["nptp-opt/check/1"] = Named
    ok: bool
    makespan_s: Seconds | None
    """Null where the tiles are no partition."""
    faults: list[str]


class VerifyOutput(Output):
    """``verify``. Errors are null where nothing was executed, or a value is not finite."""

    schema_: Literal["nptp-opt/verify/1"] = Named
    ok: bool
    max_abs_error: float | None
    """Largest error of any layer, against the model in float32."""
    max_rel_error: float | None
    max_rel_error_float64: float | None
    """The same in float64."""
    witness: str | None
    """What the outputs were held against."""
    witness_max_abs_error: float | None
    witness_max_rel_error: float | None
    bound: Literal["none", "not checked", "proven", "wrong"]
    """Whether bound_s was proven again; ``none`` where the plan states none."""
    not_proven: list[str]
    """What the plan states and the verdict says nothing of."""
    layers: Count
    tiles: Count
    transfer_dtype: str
    output_max_abs_error: float | None
    """Of the outputs with transfers as planned; null where these lose nothing."""
    output_max_rel_error: float | None
    layer_max_rel_error: dict[str, float | None]
    """The same by layer."""
    executor: str | None
    """Whose tile programs were held against the layers."""
    executor_programs: Count | None
    executor_max_abs_error: float | None
    executor_max_rel_error: float | None
    faults: list[str]
