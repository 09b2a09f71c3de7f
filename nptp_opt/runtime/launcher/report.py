"""What a run is asked to do, what it is compared with, and what it found."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from nptp_opt.errors import InputError
from nptp_opt.kernels.executors import find
from nptp_opt.kernels.executors.choice import REFERENCE
from nptp_opt.network.given import Given, random_inputs, tensors_of
from nptp_opt.network.load import LoadedModel
from nptp_opt.notebook import html_table
from nptp_opt.plan.model import Plan
from nptp_opt.runtime.trace import Span, too_slow
from nptp_opt.runtime.transport.registry import check_transport
from nptp_opt.verification.tolerance import OTHER_ENGINE, difference, largest, rounding, steps

DISTINCT_INPUTS = 16
"""A long stream takes this many inputs in turn; each differs from its neighbours."""

Throttle = Literal["none", "pad", "cgroup"]


@dataclass(frozen=True)
class RunOptions:
    """How to run.

    ``throttle="pad"`` stretches computation to the cost model's seconds, ``"cgroup"`` gives every
    worker the share of a core that makes it as slow as its device on the whole model. ``executor``
    computes tile programs; None for the fastest that is right on each device. ``in_flight`` inputs
    are on the devices at a time. A second of the devices' clock takes ``dilation`` seconds here.
    """

    repeats: int = 10
    warmup: int = 2
    timeout_s: float = 30.0
    threads: int = 1
    transport: str = "gloo"
    throttle: Throttle = "none"
    seed: int = 0
    executor: str | None = None
    in_flight: int = 1
    dilation: float = 1.0

    def __post_init__(self) -> None:
        check_transport(self.transport)
        for name, least in (("repeats", 1), ("warmup", 0), ("threads", 1), ("in_flight", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name} = {getattr(self, name)}: must be at least {least}")
        if not 0 < self.timeout_s < float("inf"):
            raise InputError(f"timeout_s = {self.timeout_s}: must be positive and finite")
        if not 1 <= self.dilation < float("inf"):
            raise InputError(f"`dilate` = {self.dilation}: must be 1 or more")
        if self.throttle not in get_args(Throttle):
            raise InputError(f"throttle = {self.throttle!r}: must be 'none', 'pad' or 'cgroup'")
        if self.executor is not None:
            find(self.executor)
        if self.throttle == "cgroup" and self.executor not in (None, REFERENCE):
            raise InputError(
                "`throttle` cgroup is set by torch's seconds for the model: use `throttle` pad "
                f"with executor {self.executor!r}"
            )

    @property
    def chosen_executor(self) -> str | None:
        """What workers are asked for: quotas fit the engine by whose seconds they are set."""
        return REFERENCE if self.throttle == "cgroup" else self.executor


@dataclass(frozen=True, repr=False)
class RunReport:
    """What was measured; times in seconds, one latency per timed run."""

    latency_s: tuple[float, ...]
    max_abs_error: float
    ok: bool
    """Every run, warm-up included, gave the model's result."""
    bytes: int
    """Bytes moved between devices for one input."""
    predicted_s: float
    single_device_s: float | None
    """Of the whole model: on this machine, or, at the plan's speeds, on one device of its own."""
    spans: Mapping[str, tuple[Span, ...]]
    """By device: of the runs of ``plan``, the one whose latency is nearest to their median."""
    plan: Plan
    """The plan that ran last: another one than the given one if a device was lost."""
    throttle: Throttle = "none"
    lost: tuple[str, ...] = ()
    """Devices that were lost on the way and planned around."""
    witness: str = ""
    """What the outputs were held against."""
    executors: Mapping[str, str] = field(default_factory=dict)
    """What computed the tile programs, by device."""
    in_flight: int = 1
    """Inputs on the devices at a time."""
    dilation: float = 1.0
    """How much slower than told the emulated cluster's clock ran here."""
    rate_per_s: float = 0.0
    """Results per second; one at a time they are compared in between."""

    def __repr__(self) -> str:
        verdict = "outputs right" if self.ok else f"outputs WRONG by {self.max_abs_error:.3g}"
        return (
            f"<RunReport of {self.plan.model} on {len(self.spans)} devices: median "
            f"{self.median_s:.4g} s of {len(self.latency_s)} runs, {verdict}>"
        )

    def _repr_html_(self) -> str:
        rows = {
            "outputs": "right" if self.ok else "wrong",
            "witness": self.witness,
            "median_s": self.median_s,
            "min_s": min(self.latency_s),
            "max_s": max(self.latency_s),
            "predicted_s": self.predicted_s,
            "single_device_s": self.single_device_s,
            "bytes": self.bytes,
            "dense_bytes": self.plan.dense_bytes,
        }
        return html_table(f"Run of {self.plan.model}", rows)

    @property
    def median_s(self) -> float:
        return statistics.median(self.latency_s)

    @property
    def is_void(self) -> bool:
        """True where this machine was too slow, or too busy, to emulate the devices' speeds."""
        if self.throttle != "pad":
            return False
        from nptp_opt.runtime.profiling.timeline import overrun_s

        return too_slow(self.median_s, overrun_s(self.plan, self.spans))

    def to_json(self) -> dict[str, Any]:
        """What ``run --json`` prints."""
        return {
            "ok": self.ok,
            "latency_s": {
                "median": self.median_s,
                "min": min(self.latency_s),
                "max": max(self.latency_s),
            },
            "runs": len(self.latency_s),
            "latencies_s": list(self.latency_s),
            "in_flight": self.in_flight,
            "dilate": self.dilation,
            "rate_per_s": self.rate_per_s,
            "predicted_s": self.predicted_s,
            "predicted_period_s": self.plan.period_s,
            "single_device_s": self.single_device_s,
            "bytes": self.bytes,
            "dense_bytes": self.plan.dense_bytes,
            "max_abs_error": self.max_abs_error,
            "witness": self.witness,
            "devices": list(self.spans),
            "executors": dict(self.executors),
            "lost": list(self.lost),
        }


@dataclass(frozen=True)
class Reference:
    """A tensor for every input, and what the model's witness makes of them.

    ``allowed`` is the largest absolute error by output that rounding explains.
    """

    inputs: tuple[Tensor, ...]
    outputs: Mapping[str, Tensor]
    allowed: Mapping[str, float]
    seconds: float = 0.0
    """Of the unpartitioned model in torch, and its CPU time over all threads."""
    cpu_s: float = 0.0

    def error(self, outputs: Mapping[str, Tensor], lossy: float = 0.0) -> tuple[float, bool]:
        """Largest absolute error (infinite for NaN), and whether it is within what is allowed.

        ``lossy`` is what transfers add, relative to the largest magnitude of an output.
        """
        worst, ok = 0.0, True
        for name, expected in self.outputs.items():
            error = difference(outputs[name], expected)
            worst = max(worst, error)
            ok = ok and error <= self.allowed[name] + lossy * largest(expected)
        return worst, ok


@dataclass(frozen=True)
class Run:
    """One input's way through the cluster."""

    latency_s: float
    ended_s: float
    """When the result was there, on a monotonic clock as fast as the cluster's."""
    error: float
    ok: bool
    sent_bytes: int
    spans: Mapping[str, tuple[Span, ...]]
    """Empty where so many were measured that not all are kept (``thinned``)."""
    plan: Plan
    executors: Mapping[str, str]


MOST_TRACED = 64
"""Runs whose spans are kept: 20 kB each, of which a report shows one."""


def thinned(runs: Sequence[Run]) -> list[Run]:
    """The same runs; of more than ``MOST_TRACED`` with spans every second one forgets them.

    The last keeps them: the plan may have become another one.
    """
    traced = [k for k, run in enumerate(runs) if run.spans]
    forgotten = set(traced[:-1:2]) if len(traced) > MOST_TRACED else ()
    return [replace(run, spans={}) if k in forgotten else run for k, run in enumerate(runs)]


def rate_per_s(runs: Sequence[Run]) -> float:
    """Results per second between the first and the last; of a single run, 1 / its latency."""
    ends = sorted(run.ended_s for run in runs)
    if len(ends) < 2 or ends[-1] <= ends[0]:
        return 1 / runs[0].latency_s
    return (len(ends) - 1) / (ends[-1] - ends[0])


def make_report(
    options: RunOptions,
    references: Sequence[Reference],
    runs: Sequence[Run],
    lost: Sequence[str] = (),
    witness: str = "",
) -> RunReport:
    timed = runs[options.warmup :]
    latencies = tuple(run.latency_s for run in timed)
    plan = timed[-1].plan
    last = [run for run in timed if run.plan is plan]
    middle = statistics.median(run.latency_s for run in last)
    traced = [run for run in last if run.spans] or last
    typical = min(traced, key=lambda run: abs(run.latency_s - middle))
    return RunReport(
        latency_s=latencies,
        max_abs_error=max(run.error for run in runs),
        ok=all(run.ok for run in runs),
        bytes=typical.sent_bytes,
        predicted_s=plan.latency_s,
        single_device_s=statistics.median(r.seconds for r in references[options.warmup :]),
        spans=typical.spans,
        plan=plan,
        throttle=options.throttle,
        lost=tuple(lost),
        witness=witness,
        executors=typical.executors,
        in_flight=options.in_flight,
        dilation=options.dilation,
        rate_per_s=rate_per_s(timed),
    )


def make_references(plan: Plan, model: LoadedModel, options: RunOptions) -> list[Reference]:
    """One input per run, the warm-ups first, none like the one before: stale data is seen."""
    threads = torch.get_num_threads()
    torch.set_num_threads(options.threads)
    try:
        count = options.warmup + options.repeats
        made: list[Reference] = []
        for k in range(min(count, DISTINCT_INPUTS)):
            x = random_inputs(plan.network, options.seed + k)
            made.append(make_reference(model, x, made[0] if made else None))
        return [made[k % len(made)] for k in range(count)]
    finally:
        torch.set_num_threads(threads)


def make_reference(model: LoadedModel, x: Given, like: Reference | None = None) -> Reference:
    """What the witness makes of ``x``, and how long torch takes for the whole model.

    What rounding explains is measured, or taken over from a reference of another input.
    """
    start, cpu = time.perf_counter(), time.process_time()
    single = model.reference(x, ())
    spent = time.perf_counter() - start, time.process_time() - cpu
    outputs = {name: values.float() for name, values in model.witness_outputs(x).items()}
    given = tensors_of(x)
    if like is not None:
        return Reference(given, outputs, like.allowed, *spent)
    double = model.in_double().reference([part.double() for part in given], ())
    worth = steps(model.network, model.weights())
    allowed = {
        name: rounding(single[name], double[name], step=worth[name]).allowed(
            torch.float32, 2 * OTHER_ENGINE
        )
        for name in outputs
    }
    return Reference(given, outputs, allowed, *spent)
