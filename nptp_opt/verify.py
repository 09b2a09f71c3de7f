"""The torch verifier: does a plan compute the same tensors as the unpartitioned model?

First the plan on paper (``paper``). Then in torch: each tile is computed from its own need alone,
which is put together from what its device owns and what the listed transfers bring; an element
that neither gives is a fault. Every layer is compared with the model's own forward pass, in
float32 and in float64. Reference and plan advance together, so that only live tensors are held.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from nptp_opt.cost import RESULT, input_ownership
from nptp_opt.geometry import Tile
from nptp_opt.kernels import combine, partial, run_gather, run_layer
from nptp_opt.network.ir import external_inputs, regions
from nptp_opt.network.load import LoadedModel
from nptp_opt.network.serial import network_hash
from nptp_opt.paper import paper_faults
from nptp_opt.steps import Plan, Step

Crop = tuple[Tile, Tensor]

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

    @property
    def ok(self) -> bool:
        return not self.faults

    def to_json(self) -> dict[str, Any]:
        """What ``verify --json`` prints; errors are None where nothing was executed."""
        single, double = self.errors.get(torch.float32), self.errors.get(torch.float64)
        return {
            "ok": self.ok,
            "max_abs_error": single.absolute if single else None,
            "max_rel_error": single.relative if single else None,
            "max_rel_error_float64": double.relative if double else None,
            "layers": self.layers,
            "tiles": self.tiles,
            "faults": self.faults,
        }


def verify_plan(
    plan: Plan, model: LoadedModel, *, stale: Sequence[str] = (), seed: int = 0
) -> Report:
    """Verify ``plan`` against ``model`` on a random input; ``stale`` are faults found before.

    Nothing is executed when the plan fails on paper.
    """
    report = Report(faults=[*paper_faults(plan), *stale])
    if network_hash(model.network) != network_hash(plan.network):
        report.faults.append(
            f"the plan is for another network than {plan.model.ref!r} is now: plan again"
        )
    if report.faults:
        return report
    weights = model.weights()
    shape = plan.network.shapes[plan.network.inputs[0]]
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    for dtype in (torch.float32, torch.float64):
        cast = {k: w.to(dtype) if w.is_floating_point() else w for k, w in weights.items()}
        with torch.inference_mode():
            _Pass(plan, model, cast, values.to(dtype), report).run()
    report.layers = len(plan.network.layers)
    report.tiles = sum(len(step.tiles) for step in plan.steps)
    return report


class _Pass:
    """One execution of a plan beside the model's own, in one dtype."""

    def __init__(
        self,
        plan: Plan,
        model: LoadedModel,
        weights: Mapping[str, Tensor],
        x: Tensor,
        report: Report,
    ) -> None:
        self.plan, self.model, self.weights, self.x, self.report = plan, model, weights, x, report
        self.errors = report.errors.setdefault(x.dtype, Errors())
        self.names = [device.name for device in plan.cluster.devices]
        self.held: dict[str, dict[int, Crop]] = {}
        self.expected: dict[str, Tensor] = {}
        self.comparable = model.comparable
        self.last_use = _last_uses(plan)
        self.replicated = plan.network.replicated

    def run(self) -> None:
        for name, owners in input_ownership(self.plan.network, self.plan.cluster).items():
            self.held[name] = {device: (tile, self.x) for device, tile in owners.items()}
        pending = deque(enumerate(self.plan.steps))

        def see(name: str, value: Tensor) -> None:
            self.expected[name] = value
            while pending and self._ready(pending[0][1]):
                self._step(*pending.popleft())

        wanted = [layer.name for layer in self.plan.network.layers if layer.name in self.comparable]
        self.model.visit(self.x, wanted, see)
        for number, step in pending:
            self._step(number, step)

    def _ready(self, step: Step) -> bool:
        return all(n in self.expected for n in step.layers if n in self.comparable)

    def _step(self, number: int, step: Step) -> None:
        if step.device is not None:
            self._gather(number, step, step.device)
        elif step.kind == "global":
            self._reduce(step)
        else:
            made = {}
            for device, tile in step.tiles.items():
                for name, crop in self._segment(number, step, device, tile):
                    self._compare(name, self.names[device], crop)
                made[device] = crop
            self.held[step.layers[-1]] = made
        for name in step.layers:
            self.expected.pop(name, None)
        for tensor in [t for t in self.held if self.last_use.get(t, -1) <= number]:
            del self.held[tensor]

    def _reduce(self, step: Step) -> None:
        """A global layer on every device that uses it, from partials of the owned tiles."""
        layer = self.plan.layers_of(step)[-1]
        results = {}
        for device in step.tiles:
            small = {t: self.held[t][device][1] for t in layer.inputs if t in self.replicated}
            value = run_gather(layer, self.weights, small) if not layer.reduces else None
            if value is None:
                senders = {device, *(m.src for m in step.transfers if m.dst == device)}
                crops = self.held[layer.nodes[0].inputs[0]]
                parts = [partial(layer, crops[i][1]) for i in sorted(senders) if i in crops]
                value = combine(layer, self.weights, parts, small)
            results[device] = (RESULT, value)
            self._compare(layer.name, self.names[device], (None, value))
        self.held[layer.name] = results

    def _segment(
        self, number: int, step: Step, device: int, tile: Tile
    ) -> Iterator[tuple[str, Crop]]:
        """Every layer of a segment on one device, from what it owns and receives alone."""
        layers = self.plan.layers_of(step)
        wanted = regions(layers, tile)
        inputs = {
            tensor: self._fetched(number, step, device, tensor, wanted[tensor])
            for tensor in external_inputs(layers)
        }
        for layer in layers:
            region = wanted[layer.name]
            if region.is_empty and layer is not layers[-1]:
                continue
            value = run_layer(layer, self.weights, inputs, region)
            inputs[layer.name] = (region, value)
            yield layer.name, inputs[layer.name]

    def _fetched(self, number: int, step: Step, device: int, tensor: str, need: Tile) -> Crop:
        """``need`` of a tensor, put together from own elements and the listed transfers."""
        if tensor in self.replicated:
            return self.held[tensor][device]
        parts = [crop for i, crop in self.held[tensor].items() if i == device]
        for move in step.transfers:
            if move.dst == device and move.tensor == tensor:
                tile, values = self.held[tensor][move.src]
                parts.append((move.tile, _cut(values, tile, move.tile)))
        batch, channels = self.plan.network.shapes[tensor][:2]
        whole = self.x.new_full((batch, channels, need.height, need.width), float("nan"))
        given = torch.zeros((need.height, need.width), dtype=torch.bool)
        for tile, values in parts:
            common = need.intersect(tile)
            if not common.is_empty:
                _cut(whole, need, common).copy_(_cut(values, tile, common))
                _cut(given, need, common).fill_(True)
        if not bool(given.all()):
            self.report.faults.append(
                f"segment {number}: {self.names[device]} reads {int((~given).sum())} elements of "
                f"{tensor} which it neither owns nor receives"
            )
        return need, whole

    def _gather(self, number: int, step: Step, device: int) -> None:
        network = self.plan.network
        layers = self.plan.layers_of(step)
        collect = network.spatial_outputs if step is self.plan.steps[-1] else ()
        inputs = {
            tensor: self._fetched(number, step, device, tensor, network.full(tensor))[1]
            for tensor in dict.fromkeys((*external_inputs(layers), *collect))
        }
        for layer in layers:
            inputs[layer.name] = run_gather(layer, self.weights, inputs)
            self._compare(layer.name, self.names[device], (None, inputs[layer.name]))

    def _compare(self, name: str, device: str, crop: tuple[Tile | None, Tensor]) -> None:
        """Hold one tile (None: the whole tensor) against the model's own value."""
        if name not in self.expected:
            return
        full, (tile, value) = self.expected[name], crop
        wanted = full if tile is None else full[..., tile.y0 : tile.y1, tile.x0 : tile.x1]
        if wanted.numel() == 0:
            return
        error = float((value - wanted).abs().max())
        relative = error / max(float(full.abs().max()), 1e-30)
        self.errors.absolute = max(self.errors.absolute, error)
        self.errors.relative = max(self.errors.relative, relative)
        if not relative <= TOLERANCE[value.dtype]:
            self.report.faults.append(
                f"layer {name} on {device}: differs from the model by {error:.3g} "
                f"({relative:.3g} of its largest value, {value.dtype})"
            )


def _last_uses(plan: Plan) -> dict[str, int]:
    """The number of the last step that reads each tensor."""
    found = {}
    for number, step in enumerate(plan.steps):
        for tensor in external_inputs(plan.layers_of(step)):
            found[tensor] = number
    for tensor in plan.network.spatial_outputs:
        found[tensor] = len(plan.steps) - 1
    return found


def _cut(values: Tensor, tile: Tile, part: Tile) -> Tensor:
    """The rectangle ``part`` of values that cover ``tile``."""
    return values[..., part.y0 - tile.y0 : part.y1 - tile.y0, part.x0 - tile.x0 : part.x1 - tile.x0]
