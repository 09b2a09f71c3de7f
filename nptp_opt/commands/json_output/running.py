"""Objects of ``run``, ``infer``, ``serve``, ``emulate`` and ``secret``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from nptp_opt.commands.json_output.base import Count, Named, Output, Part, Seconds, Spread


class TimeRow(Part):
    """Where a device's time went, in the run nearest to the median; null for the network."""

    device: str
    """``(network)`` in the last row."""
    wait_s: Seconds | None
    assemble_s: Seconds | None
    """Putting inputs together from what came and what was there."""
    compute_s: Seconds | None
    pad_s: Seconds | None
    """Waited after computing, to be as slow as the plan says."""
    send_s: Seconds | None
    """Handing messages over."""
    critical_s: float
    """Its part of the latency; these sum to the latency."""


class RunOutput(Output):
    """``run``."""

    schema_: Literal["nptp-opt/run/1"] = Named
    ok: bool
    """Whether every output was the model's."""
    latency_s: Spread
    runs: Count
    latencies_s: list[Seconds]
    """Of every measured run, in order."""
    in_flight: Count
    dilate: float
    """By how much an emulated run was slowed down; all seconds are those of the cluster."""
    rate_per_s: float
    """Results per second."""
    predicted_s: Seconds
    predicted_period_s: Seconds | None
    single_device_s: Seconds | None
    """Of the whole model on one device."""
    bytes: Count
    """Sent between devices for one input."""
    dense_bytes: Count
    """The same without encodings."""
    max_abs_error: float
    witness: str
    """What the outputs were held against."""
    devices: list[str]
    executors: dict[str, str]
    """What computed, by device."""
    lost: list[str]
    """Devices that were lost and planned around."""
    void: bool | None = None
    """With padding: whether this machine was too slow, or too busy, for the plan's speeds."""
    overrun_s: float | None = None
    """With padding: by how much it computed slower than the plan says, on the worst device."""
    critical_device: str
    """Who has the largest critical_s."""
    time: list[TimeRow]


class Tensor(Part):
    """An output of the model."""

    type: str
    shape: list[int]


class Class(Part):
    """One of the best classes of an input."""

    number: Count = Field(alias="class")
    value: float
    label: str | None = None


class Top(Part):
    """The best classes of an input."""

    input: str
    classes: list[Class]


class InferOutput(Output):
    """``infer``."""

    schema_: Literal["nptp-opt/infer/1"] = Named
    inputs: Count
    outputs: dict[str, Tensor]
    latency_s: Spread
    rate_per_s: float | None
    """Null for a single input."""
    files: list[str]
    """What was written."""
    top: list[Top]
    void: bool | None = None
    """With padding: whether this machine was too slow, or too busy, for the plan's speeds."""


class ServeOutput(Output):
    """``serve``, when it ends."""

    schema_: Literal["nptp-opt/serve/1"] = Named
    answered: Count
    losses: list[str]
    """Devices that were lost, in order."""
    returns: list[str]
    """Devices that came back."""
    drifts: list[str]
    """What was found to have changed, in words."""
    replans: Count
    served_s: Seconds
    void: bool | None = None
    """With padding: whether this machine was too slow, or too busy, for the plan's speeds."""
    overrun_s: float | None = None
    """With padding: by how much a typical input was computed slower, on the worst device."""


class EmulateOutput(Output):
    """``emulate --clean``."""

    schema_: Literal["nptp-opt/emulate/1"] = Named
    clean: bool
    folders: list[str]
    """What was removed."""
    processes: list[int]
    """What was ended."""
    groups: list[str]
    """Control groups that were removed."""


class SecretOutput(Output):
    """``secret``."""

    schema_: Literal["nptp-opt/secret/1"] = Named
    secret: str | None
    """The file; null where certificates alone were written."""
    certificates: list[str]
    """With ``--tls``: the files."""
    expires: str | None
    """With ``--tls``: the day on which the first of them expires."""
