"""The torch verifier: does a plan compute the same tensors as the unpartitioned model?

First the plan on paper (``paper``), then in torch (``replay``). Every tile of every layer is
compared with the model's own forward pass, in float32 and in float64. Model and plan advance
together, one layer at a time, so that only live tensors are held.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from nptp_opt.geometry import Tile
from nptp_opt.network.load import LoadedModel
from nptp_opt.paper import network_faults, paper_faults
from nptp_opt.replay import Replay, replayed_outputs
from nptp_opt.steps import Plan

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9}
"""Largest error that passes, relative to the largest magnitude in the layer's output."""


@dataclass
class Errors:
    """Largest errors of one pass; relative ones to the largest magnitude of their layer."""

    absolute: float = 0.0
    relative: float = 0.0


@dataclass
class Report:
    """What ``verify_plan`` found; a plan without faults computes what its model computes."""

    faults: list[str] = field(default_factory=list)
    errors: dict[torch.dtype, Errors] = field(default_factory=dict)
    layers: int = 0
    tiles: int = 0
    transfer_dtype: str = "float32"
    sent: Errors | None = None
    """Errors of the network's outputs with transfers as planned; None where they are exact."""
    sent_by_layer: dict[str, float] = field(default_factory=dict)
    """Relative errors of the layers with transfers as planned; empty where they are exact."""

    @property
    def ok(self) -> bool:
        return not self.faults

    def to_json(self) -> dict[str, Any]:
        """What ``verify --json`` prints.

        Errors are None where nothing was executed, or where a value is not finite.
        """
        single, double = self.errors.get(torch.float32), self.errors.get(torch.float64)
        return {
            "ok": self.ok,
            "max_abs_error": single.absolute if single else None,
            "max_rel_error": single.relative if single else None,
            "max_rel_error_float64": double.relative if double else None,
            "layers": self.layers,
            "tiles": self.tiles,
            "transfer_dtype": self.transfer_dtype,
            "output_max_abs_error": _finite(self.sent.absolute) if self.sent else None,
            "output_max_rel_error": _finite(self.sent.relative) if self.sent else None,
            "layer_max_rel_error": {k: _finite(e) for k, e in self.sent_by_layer.items()},
            "faults": self.faults,
        }


def verify_plan(
    plan: Plan, model: LoadedModel, *, stale: Sequence[str] = (), seed: int = 0
) -> Report:
    """Verify ``plan`` against ``model`` on a random input; ``stale`` are faults found before.

    Nothing is executed when the plan fails on paper. A plan that sends less than float32 is
    verified with exact transfers first, so nothing else is wrong with it; then the error that its
    transfers make in the layers and in the network's outputs is reported. It is a fault only where
    an output is not finite, or off by more than its largest magnitude.
    """
    report = Report(faults=[*paper_faults(plan), *stale])
    report.faults += network_faults(plan, model.network)
    if report.faults:
        return report
    shape = plan.network.shapes[plan.network.inputs[0]]
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    for dtype in (torch.float32, torch.float64):
        with torch.inference_mode():
            _Pass(plan, model.cast(dtype), values.to(dtype), report).run()
    report.transfer_dtype = plan.cluster.transfer_dtype
    if report.transfer_dtype != "float32":
        with torch.inference_mode():
            _SentPass(plan, model.cast(torch.float32), values.float(), report).run()
        report.sent = sent_errors(plan, model, values.float())
        if not report.sent.relative <= 1.0:
            report.faults.append(
                f"outputs differ from the model's by {report.sent.relative:.3g} of their largest "
                f"value when feature maps are sent as {report.transfer_dtype}"
            )
    report.layers = len(plan.network.layers)
    report.tiles = sum(len(step.tiles) for step in plan.steps)
    return report


def sent_errors(plan: Plan, model: LoadedModel, x: Tensor) -> Errors:
    """Errors of the outputs that the plan's transfer type makes; x and weights are float32."""
    expected = model.reference(x, ())
    with torch.inference_mode():
        found = replayed_outputs(plan, model.weights(), x, plan.cluster.transfer_dtype)
    errors = Errors()
    for name, values in expected.items():
        error = _largest(found[name].reshape(values.shape) - values)
        error = error if math.isfinite(error) else math.inf
        errors.absolute = max(errors.absolute, error)
        errors.relative = max(errors.relative, error / max(_largest(values), 1e-30))
    return errors


class _Pass:
    """One execution of a plan beside the model's own, in one dtype."""

    def __init__(self, plan: Plan, model: LoadedModel, x: Tensor, report: Report) -> None:
        self.model, self.x, self.report = model, x, report
        self.errors = report.errors.setdefault(x.dtype, Errors())
        self.replay = Replay(plan, model.weights(), x)
        self.comparable = model.comparable
        self.early: dict[str, Tensor] = {}
        self.pending = deque(
            (number, layer)
            for number, step in enumerate(plan.steps)
            for layer in plan.layers_of(step)
        )

    def run(self) -> None:
        wanted = [layer.name for _, layer in self.pending if layer.name in self.comparable]
        self.model.visit(self.x, wanted, self._see)
        self.replay.collect()
        self.report.faults += self.replay.faults

    def _see(self, name: str, value: Tensor) -> None:
        """Take the model's own value; keep a copy only where the plan makes it later."""
        self._advance()
        if self.pending and self.pending[0][1].name == name:
            self._next(value)
        else:
            self.early[name] = value.clone()
        self._advance()

    def _advance(self) -> None:
        """Run what the model does not compute, and what it has computed before the plan."""
        while self.pending:
            name = self.pending[0][1].name
            if name in self.comparable and name not in self.early:
                return
            self._next(self.early.pop(name, None))

    def _next(self, expected: Tensor | None) -> None:
        number, layer = self.pending.popleft()
        scale = _largest(expected) if expected is not None else 0.0
        for device, tile, value in self.replay.run(number, layer):
            if expected is not None:
                at = f"layer {layer.name} on {self.replay.names[device]}"
                error = _largest(value - _part(expected, tile))
                self._judge(layer.name, at, error, error / max(scale, 1e-30))

    def _judge(self, layer: str, at: str, error: float, relative: float) -> None:
        self.errors.absolute = max(self.errors.absolute, error)
        self.errors.relative = max(self.errors.relative, relative)
        if not relative <= TOLERANCE[self.x.dtype]:
            self.report.faults.append(
                f"{at}: differs from the model by {error:.3g} "
                f"({relative:.3g} of its largest value, {self.x.dtype})"
            )


class _SentPass(_Pass):
    """As above with transfers as planned; the layers' errors are noted, not judged."""

    def __init__(self, plan: Plan, model: LoadedModel, x: Tensor, report: Report) -> None:
        super().__init__(plan, model, x, report)
        self.replay = Replay(plan, model.weights(), x, plan.cluster.transfer_dtype)

    def _judge(self, layer: str, at: str, error: float, relative: float) -> None:
        relative = relative if math.isfinite(relative) else math.inf
        known = self.report.sent_by_layer.get(layer, 0.0)
        self.report.sent_by_layer[layer] = max(known, relative)


def _finite(error: float) -> float | None:
    """JSON knows no infinity."""
    return error if math.isfinite(error) else None


def _part(full: Tensor, tile: Tile | None) -> Tensor:
    return full if tile is None else full[..., tile.y0 : tile.y1, tile.x0 : tile.x1]


def _largest(values: Tensor) -> float:
    """Largest magnitude; nan when any value is nan."""
    if values.numel() == 0:
        return 0.0
    low, high = values.aminmax()
    return float(torch.maximum(high, -low))
