"""Objects of ``init``, ``solve``, ``show``, ``explain``, ``inspect`` and ``sweep``."""

from __future__ import annotations

from typing import Any, Literal

from nptp_opt.commands.json_output.base import (
    Count,
    Named,
    Output,
    Part,
    Rectangle,
    Seconds,
    Share,
)


class ClusterDevice(Part):
    """A device of the file that was written."""

    name: str
    gflops: float
    memory_mib: float | None
    """Null: no limit."""
    up_mbit_per_s: float | None
    """Null on a shared medium. So is the next."""
    down_mbit_per_s: float | None
    address: str | None
    profile: str | None
    """The file, beside the cluster file, of what was measured."""


class MeasuredPair(Part):
    """Two devices of ``init``, with the way between them, the others silent."""

    devices: list[str]
    mbit_per_s: float
    """From the first to the second."""
    back_mbit_per_s: float
    latency_ms: float


class InitOutput(Output):
    """``init``."""

    schema_: Literal["nptp-opt/init/1"] = Named
    cluster: str
    """The file."""
    network: Literal["switched", "shared"]
    mbit_per_s: float | None
    """Of the shared medium."""
    latency_ms: float
    devices: list[ClusterDevice]
    links: list[MeasuredPair] | None
    """Of every two devices; null where nothing was measured."""


class Totals(Part):
    """What a whole plan takes."""

    latency_s: Seconds
    """Of one input, as executed."""
    bound_s: Seconds | None
    """Below which no plan's latency lies; null where none was proven."""
    gap: Share | None
    """(latency_s - bound_s) / latency_s."""
    synchronous_s: Seconds
    """Sum of the steps' makespans, as if all waited for all after each."""
    bytes: Count
    """Sent between devices for one input."""
    energy_j: float | None
    """Joules; null where no device states its watts."""
    period_s: Seconds | None
    """Between results of a pipeline with enough inputs under way."""


class Planned(Totals):
    """A plan that was made."""

    plan: str
    """The plan's file."""
    planner: str
    status: Literal["optimal", "feasible"]
    """``optimal`` where the gap that was asked for is proven."""
    objective: str
    """What the planner minimised."""
    objective_bound: float | None = None
    """Of an objective that has a bound of its own, in its unit; bound_s is the latency's."""
    objective_gap: float | None = None
    segments: Count
    """Steps of the plan."""
    worth_distributing: bool
    """Whether more than one device computes."""
    left_out: list[str]
    """Devices that compute nothing."""
    search_s: Seconds | None
    search_cut: bool | None
    """Whether the time limit ended the search."""
    bound_s_seconds: Seconds | None
    """How long the bound took."""
    solve_s: Seconds | None
    """Search and bound."""
    notes: tuple[str, ...] = ()
    """What the planner left out, or took for granted."""


class SolveOutput(Planned, Output):
    """``solve``."""

    schema_: Literal["nptp-opt/solve/1"] = Named


class FrontOutput(Output):
    """``solve --pareto``."""

    schema_: Literal["nptp-opt/front/1"] = Named
    front: list[Planned]
    """The plans between the two objectives."""


class StepRow(Part):
    """A step of a plan."""

    segment: Count
    """Its number."""
    kind: Literal["spatial", "global", "gather"]
    layers: list[str]
    map: list[int] | None
    """Shape of the map that its last layer makes; null where none is made."""
    device: str | None
    """Who runs it alone, in a gather."""
    tiles: list[Rectangle]
    bytes: Count
    """Sent to others in this step."""
    makespan_s: Seconds
    pieces: Count
    """Parts in which the most divided tile is computed."""


class ShowOutput(Totals, Output):
    """``show``."""

    schema_: Literal["nptp-opt/show/1"] = Named
    segments: list[StepRow]
    provenance: dict[str, Any]
    """What the plan's file says of its making (docs/plan.md)."""


class Found(Part):
    """One thing that there is to say of a plan."""

    topic: str
    text: str
    """A sentence."""
    figures: dict[str, Any]
    """The numbers in it, by name."""


class ExplainOutput(Output):
    """``explain``."""

    schema_: Literal["nptp-opt/explain/1"] = Named
    plan: str | None
    """The plan's file; null of a request, which has ``model`` and ``cluster``."""
    model: str | None
    cluster: str | None
    findings: list[Found]


class InspectedLayer(Part):
    """A layer as the planner sees it."""

    name: str
    op: str
    kind: Literal["spatial", "global", "gather"]
    folded: list[str]
    """Pointwise ops behind it."""
    inputs: list[str]
    in_shapes: list[list[int]]
    shape: list[int]
    window: str
    """Of rows, then of columns, in words: ``k3 s2 p1+1`` is kernel, stride, padding on either side;
    empty for layers that are not partitioned."""
    flop: float
    out_bytes: Count
    param_bytes: Count


class Gathered(Part):
    """A layer that is not partitioned."""

    name: str
    why: str


class InspectOutput(Output):
    """``inspect``."""

    schema_: Literal["nptp-opt/inspect/1"] = Named
    model: str
    inputs: dict[str, list[int]]
    """Shapes by name."""
    outputs: list[str]
    flop: float
    param_bytes: Count
    layers: list[InspectedLayer]
    cuts: list[str]
    """Layers after which one map alone is alive."""
    gathered: list[Gathered]
    whole_flop_share: Share
    """Of the work that one device at a time does."""
    whole_bytes_share: Share


class SweptPoint(Part):
    """One cluster of a sweep; of the ranges it has those that were given."""

    rate: float | None = None
    """Mbit/s of every link, or of the medium."""
    devices: float | None = None
    gflops: float | None = None
    """Of the fastest device."""
    latency_ms: float | None = None
    """Of a message."""
    latency_s: dict[str, Seconds | None]
    """By planner; null where it has no plan that fits."""
    dense_latency_s: dict[str, Seconds | None] | None = None
    """The same with all maps dense and in float32; only there with pixels or samples."""
    winner: str | None
    """The fastest planner; ``nptp`` only where it is faster than all others."""
    ratio: float | None
    """Latency of ``nptp`` over the best baseline's."""


class SweepOutput(Output):
    """``sweep``."""

    schema_: Literal["nptp-opt/sweep/1"] = Named
    model: str
    complete: bool
    """False where Ctrl-C ended it."""
    rows: list[SweptPoint]
