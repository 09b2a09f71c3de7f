"""The torch verifier: does a plan compute the same tensors as the unpartitioned model?

First the plan on paper (``paper``), then in torch (``replay``). Every tile of every layer is
compared with the exported model's own forward pass, in float32 and in float64; model and plan
advance together, one layer at a time, so that only live tensors are held. Plan and export come
from one import, so the plan's outputs are held against a witness, too, that shares no code with it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from nptp_opt.errors import InputError
from nptp_opt.geometry import Tile
from nptp_opt.network.given import Given, by_input, random_inputs
from nptp_opt.network.load import LoadedModel
from nptp_opt.notebook import html_table
from nptp_opt.plan.model import Plan
from nptp_opt.verification.interpreter import Replay, replayed_outputs
from nptp_opt.verification.static import bound_faults, network_faults, paper_faults
from nptp_opt.verification.tolerance import (
    OTHER_ENGINE,
    Rounding,
    difference,
    gain,
    largest,
    rounding,
    steps,
)

BoundVerdict = Literal["none", "not checked", "proven", "wrong"]
"""What is known of a plan's ``bound_s``: "none" where it states none."""


@dataclass
class Errors:
    """Largest errors of one pass; relative ones to the largest magnitude of their layer."""

    absolute: float = 0.0
    relative: float = 0.0

    def note(self, error: float, scale: float) -> float:
        """Take in an error of a tensor whose largest magnitude is ``scale``; its relative size."""
        relative = relative_to(error, scale)
        self.absolute = max(self.absolute, error)
        self.relative = max(self.relative, relative)
        return relative


@dataclass(frozen=True)
class Expected:
    """A tensor of the unpartitioned model in float32, and how far another engine may lie off."""

    values: Tensor
    allowed: float


@dataclass
class Executed:
    """What an executor's tile programs made of a plan: their number, errors and faults."""

    executor: str
    programs: int
    errors: Errors = field(default_factory=Errors)
    faults: list[str] = field(default_factory=list)
    notes: Sequence[str] = ()


class Execution(Protocol):
    """A plan whose tile programs are compiled; they make the tensors ``wanted``."""

    @property
    def wanted(self) -> frozenset[str]: ...

    def run(self, x: Sequence[Tensor], expected: Mapping[str, Expected]) -> Executed:
        """Execute the plan on ``x`` and hold every program against what is expected."""


@dataclass(repr=False)
class Report:
    """What ``verify_plan`` found; a plan without faults computes what its model computes."""

    faults: list[str] = field(default_factory=list)
    errors: dict[torch.dtype, Errors] = field(default_factory=dict)
    bound: BoundVerdict = "not checked"
    layers: int = 0
    tiles: int = 0
    witness: str = ""
    """What the outputs were held against; empty where nothing was executed."""
    witnessed: Errors = field(default_factory=Errors)
    transfer_dtype: str = "float32"
    sent: Errors | None = None
    """Errors of the network's outputs with transfers as planned; None where they are exact."""
    sent_by_layer: dict[str, float] = field(default_factory=dict)
    """Relative errors of the layers with transfers as planned; empty where they are exact."""
    executed: Executed | None = None
    """What an executor made of the plan; None where none was asked for."""

    def __repr__(self) -> str:
        verdict = "right" if self.ok else f"{len(self.faults)} faults, first: {self.faults[0]}"
        return (
            f"<Report of {self.layers} layers, {self.tiles} tiles: {verdict}; bound {self.bound}>"
        )

    def _repr_html_(self) -> str:
        kept = ("bound", "layers", "tiles", "max_abs_error", "max_rel_error_float64", "witness")
        content = self.to_json()
        rows = {name: content[name] for name in kept}
        rows |= {f"fault {k}": fault for k, fault in enumerate(self.faults[:5], start=1)}
        return html_table("Verified: right" if self.ok else "Verified: wrong", rows)

    @property
    def ok(self) -> bool:
        return not self.faults

    @property
    def not_proven(self) -> tuple[str, ...]:
        """What the plan states and the verdict says nothing of."""
        return ("provenance",) if self.bound != "not checked" else ("provenance", "bound_s", "gap")

    def to_json(self) -> dict[str, Any]:
        """What ``verify --json`` prints.

        Errors are None where nothing was executed, or where a value is not finite.
        """
        single, double = self.errors.get(torch.float32), self.errors.get(torch.float64)
        return {
            "ok": self.ok,
            "max_abs_error": _finite(single.absolute) if single else None,
            "max_rel_error": _finite(single.relative) if single else None,
            "max_rel_error_float64": _finite(double.relative) if double else None,
            "witness": self.witness or None,
            "witness_max_abs_error": _finite(self.witnessed.absolute) if self.witness else None,
            "witness_max_rel_error": _finite(self.witnessed.relative) if self.witness else None,
            "bound": self.bound,
            "not_proven": list(self.not_proven),
            "layers": self.layers,
            "tiles": self.tiles,
            "transfer_dtype": self.transfer_dtype,
            "output_max_abs_error": _finite(self.sent.absolute) if self.sent else None,
            "output_max_rel_error": _finite(self.sent.relative) if self.sent else None,
            "layer_max_rel_error": {k: _finite(e) for k, e in self.sent_by_layer.items()},
            "executor": self.executed.executor if self.executed else None,
            "executor_programs": self.executed.programs if self.executed else None,
            "executor_max_abs_error": _error(self.executed, "absolute"),
            "executor_max_rel_error": _error(self.executed, "relative"),
            "faults": self.faults,
        }


def verify_plan(
    plan: Plan,
    model: LoadedModel,
    *,
    stale: Sequence[str] = (),
    seed: int = 0,
    bound: bool = False,
    execution: Callable[[], Execution] | None = None,
) -> Report:
    """Verify ``plan`` against ``model`` on random inputs; ``stale`` are faults found before.

    With ``bound`` the plan's bound is computed again, too, which can take as long as the rest.
    ``execution`` compiles the plan for an executor, whose programs are held against the model, too:
    each may lie off by what rounding explains, times ``OTHER_ENGINE``.

    Nothing is executed when the plan fails on paper. What rounding may do to each layer is
    measured (``tolerance``); the outputs are held against the model's witness, too. A plan that
    sends less than float32 is verified with exact transfers first, so nothing else is wrong with
    it; then the error that its transfers make in the layers and in the network's outputs is
    reported. It is a fault only where
    an output is not finite, or off by more than its largest magnitude.
    """
    report = Report(faults=[*paper_faults(plan), *stale])
    report.faults += network_faults(plan, model.network)
    if report.faults:
        return report
    _check_bound(plan, report, again=bound)
    if report.faults:
        return report
    x = random_inputs(plan.network, seed, torch.float64)
    with torch.inference_mode():
        made = None if execution is None else execution()
        walk = _Walk(plan, model, x, report, made.wanted if made else frozenset())
        walk.run()
        _compare_with_witness(walk, report)
        if made is not None:
            report.executed = made.run(walk.inputs[0], walk.kept)
            report.faults += report.executed.faults
    report.transfer_dtype = plan.cluster.transfer_dtype
    if report.transfer_dtype != "float32":
        report.sent = sent_errors(plan, model, [part.float() for part in x])
        if not report.sent.relative <= 1.0:
            report.faults.append(
                f"outputs differ from the model's by {report.sent.relative:.3g} of their largest "
                f"value when feature maps are sent as {report.transfer_dtype}"
            )
    report.layers = len(plan.network.layers)
    report.tiles = sum(len(step.tiles) for step in plan.steps)
    return report


def _check_bound(plan: Plan, report: Report, *, again: bool) -> None:
    if plan.bound_s is None:
        report.bound = "none"
    elif again:
        report.faults += bound_faults(plan)
        report.bound = "wrong" if report.faults else "proven"


def sent_errors(plan: Plan, model: LoadedModel, x: Given) -> Errors:
    """Errors of the outputs that the plan's transfer type makes; x and weights are float32."""
    expected = model.reference(x, ())
    with torch.inference_mode():
        received = replayed_outputs(plan, model.weights(), x, plan.cluster.transfer_dtype)
    errors = Errors()
    for name, values in expected.items():
        errors.note(difference(received[name], values), largest(values))
    return errors


class _Walk:
    """The model in float32 and in float64, and the plan beside it in both."""

    def __init__(
        self,
        plan: Plan,
        model: LoadedModel,
        x: Sequence[Tensor],
        report: Report,
        keep: frozenset[str] = frozenset(),
    ) -> None:
        self.keep, self.kept = keep, dict[str, Expected]()
        self.model, self.report = model, report
        self.inputs = tuple(part.float() for part in x), tuple(x)
        double, self.weights = model.in_double(), model.weights()
        self.double = double
        self.single_pass = _Pass(plan, model, self.inputs[0], report, self.weights)
        self.passes = [self.single_pass, _Pass(plan, double, x, report, double.weights())]
        if plan.cluster.transfer_dtype != "float32":
            self.passes.append(_SentPass(plan, model, self.inputs[0], report, self.weights))
        self.layers = plan.network.by_name
        given = by_input(plan.network, x)
        self.magnitudes = {name: largest(values) for name, values in given.items()}
        self.roundings = dict.fromkeys(plan.network.inputs, Rounding(0.0, 0.0))
        self.steps = steps(plan.network, self.weights)

    def run(self) -> None:
        """Both passes over all layers; the plan's outputs are in ``single_pass`` afterwards."""
        wanted = [name for name in self.layers if name in self.model.comparable]
        pairs = zip(
            self.model.tensors(self.inputs[0], wanted),
            self.double.tensors(self.inputs[1], wanted),
            strict=True,
        )
        for (name, single), (_, double) in pairs:
            allowed = self._rounding(name, single, double)
            if name in self.keep:
                self.kept[name] = Expected(single, allowed.allowed(torch.float32, OTHER_ENGINE))
            for one, values in zip(self.passes, (single, double, single), strict=False):
                one.see(name, values, allowed)
        for one in self.passes:
            one.finish()

    def _rounding(self, name: str, single: Tensor, double: Tensor) -> Rounding:
        layer = self.layers[name]
        known = {**self.single_pass.unseen, **self.magnitudes}
        given = max((known.get(tensor, 0.0) for tensor in layer.inputs), default=0.0)
        weighs = gain(layer, self.weights)
        # what a norm or a difference has left of its inputs still bears their rounding
        self.magnitudes[name] = largest(double) if weighs != 1.0 else max(largest(double), given)
        self.roundings[name] = rounding(single, double, weighs * given, self.steps[name])
        return self.roundings[name]


def _compare_with_witness(walk: _Walk, report: Report) -> None:
    report.witness = walk.model.witness.name
    planned = walk.single_pass.replay.results
    try:
        expected = walk.model.witness_outputs(walk.inputs[0])
    except InputError as error:
        report.faults.append(f"{report.witness}: {error}")
        return
    for name, values in expected.items():
        off = difference(planned[name], values.float())
        report.witnessed.note(off, largest(values))
        if not off <= walk.roundings[name].allowed(torch.float32, OTHER_ENGINE):
            report.faults.append(f"output {name}: differs from {report.witness} by {off:.3g}")


class _Pass:
    """One execution of a plan beside the model's own, in one dtype."""

    sent_as: Any = "float32"

    def __init__(
        self,
        plan: Plan,
        model: LoadedModel,
        x: Sequence[Tensor],
        report: Report,
        weights: Mapping[str, Tensor],
    ) -> None:
        self.dtype, self.report = x[0].dtype, report
        self.errors = report.errors.setdefault(self.dtype, Errors())
        self.replay = Replay(plan, weights, x, self.sent_as)
        self.comparable = model.comparable
        self.early: dict[str, tuple[Tensor, Rounding]] = {}
        self.unseen: dict[str, float] = {}
        """Magnitudes of what the plan makes and the model has not: statistics of a norm."""
        self.pending = deque(
            (number, layer)
            for number, step in enumerate(plan.steps)
            for layer in plan.layers_of(step)
        )

    def see(self, name: str, value: Tensor, allowed: Rounding) -> None:
        """Take the model's own value; the plan may make it now, or later."""
        self.early[name] = value, allowed
        self._advance()

    def finish(self) -> None:
        """Run what the model does not compute after its last tensor, and collect the results."""
        self._advance()
        self.replay.collect()
        self.report.faults += self.replay.faults

    def _advance(self) -> None:
        """Run what the model does not compute, and what it has computed before the plan."""
        while self.pending:
            name = self.pending[0][1].name
            if name in self.comparable and name not in self.early:
                return
            self._next(self.early.pop(name, None))

    def _next(self, seen: tuple[Tensor, Rounding] | None) -> None:
        number, layer = self.pending.popleft()
        for device, tile, value in self.replay.run(number, layer):
            if seen is None:
                known = self.unseen.get(layer.name, 0.0)
                self.unseen[layer.name] = max(known, largest(value))
            else:
                expected, allowed = seen
                error = difference(value, _part(expected, tile))
                at = f"layer {layer.name} on {self.replay.names[device]}"
                self._judge(layer.name, at, error, largest(expected), allowed)

    def _judge(self, layer: str, at: str, error: float, scale: float, allowed: Rounding) -> None:
        relative = self.errors.note(error, scale)
        most = allowed.allowed(self.dtype)
        if not error <= most:
            self.report.faults.append(
                f"{at}: differs from the model by {error:.3g} ({relative:.3g} of its largest "
                f"value, {self.dtype}); rounding explains {most:.3g}"
            )


class _SentPass(_Pass):
    """As above with transfers as planned; the layers' errors are noted, not judged."""

    def __init__(self, plan: Plan, *rest: Any) -> None:
        self.sent_as = plan.cluster.transfer_dtype
        super().__init__(plan, *rest)

    def _judge(self, layer: str, at: str, error: float, scale: float, allowed: Rounding) -> None:
        known = self.report.sent_by_layer.get(layer, 0.0)
        self.report.sent_by_layer[layer] = max(known, relative_to(error, scale))


def relative_to(error: float, scale: float) -> float:
    """An error by the size of what it is in; 0 where there is none."""
    return error / max(scale, 1e-30) if error else 0.0


def _error(executed: Executed | None, kind: Literal["absolute", "relative"]) -> float | None:
    return None if executed is None else _finite(getattr(executed.errors, kind))


def _finite(error: float) -> float | None:
    """JSON knows no infinity."""
    return error if math.isfinite(error) else None


def _part(full: Tensor, tile: Tile | None) -> Tensor:
    return full if tile is None else full[..., tile.y0 : tile.y1, tile.x0 : tile.x1]
