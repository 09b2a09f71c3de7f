"""Refits the cluster's speeds from a run's own spans: what ``run --calibrate`` writes."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nptp_opt.cluster import Device
from nptp_opt.cost import layer_key, layer_speed
from nptp_opt.files import write_text
from nptp_opt.geometry import Tile
from nptp_opt.network.ir import regions
from nptp_opt.plan.model import Plan
from nptp_opt.runtime.device_program import Task, device_program
from nptp_opt.runtime.launcher.report import RunReport
from nptp_opt.runtime.profiling.fit import fit_layer
from nptp_opt.runtime.profiling.layers import Sample
from nptp_opt.runtime.profiling.timeline import Spans
from nptp_opt.runtime.trace import computed_s


def write_calibrated(report: RunReport, path: Path) -> None:
    """The plan's cluster (JSON, for ``solve -c``) with the speeds that the run showed."""
    content = calibrate_cluster(report.plan, report.spans)
    for entry in content["device"]:
        if entry["name"] in report.executors:
            entry["executor"] = report.executors[entry["name"]]
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def calibrate_cluster(plan: Plan, spans: Spans) -> dict[str, Any]:
    """The cluster's content; a device keeps the speeds of layers that it did not run.

    ``message_ms`` is what handing a message over took in the median, those left out that were
    encoded first.
    """
    content = plan.cluster.to_json()
    for number, entry in enumerate(content["device"]):
        if entry["name"] in spans:
            samples = _samples(plan, number, spans)
            kept = {speed["layer"]: speed for speed in entry.get("layers", ())}
            fitted = (fit_layer(key, layer_samples) for key, layer_samples in samples.items())
            kept |= {s.layer: {"layer": s.layer, "gflops": s.gflops, "overhead_ms": s.overhead_ms}
                     for s in fitted}  # fmt: skip
            entry["layers"] = list(kept.values())
    coded = _coded(plan)
    handing = [
        s.end_ns - s.start_ns
        for name, device_spans in spans.items()
        for s in device_spans
        if s.phase == "send" and (name, s.step, s.peer) not in coded
    ]
    if handing:
        content["network"]["message_ms"] = statistics.median(handing) / 1e6
    return content


def _coded(plan: Plan) -> frozenset[tuple[str, int, int]]:
    """Sender, step and receiver of messages that are encoded."""
    return frozenset(
        (plan.cluster.devices[move.src].name, step, move.dst)
        for step, each in enumerate(plan.steps)
        for move in each.transfers
        if move.encoding != "dense"
    )


def _samples(plan: Plan, number: int, spans: Spans) -> Mapping[str, Sequence[Sample]]:
    """FLOP and seconds by layer shape; a task of several layers is split as the model has it."""
    device = plan.cluster.devices[number]
    computed = computed_s(spans[device.name])
    samples: dict[str, list[Sample]] = defaultdict(list)
    for task in device_program(plan, number).tasks:
        if task.kind == "global":
            continue
        modelled = _modelled_calls(task, device)
        programs = max(1, len(task.pieces))
        total = sum((seconds for _, _, seconds in modelled), start=programs * device.program_s)
        for key, flop, seconds in modelled:
            samples[key].append((flop, computed[task.step] * seconds / total))
    return samples


def _modelled_calls(task: Task, device: Device) -> list[tuple[str, float, float]]:
    """Key, FLOP and modelled seconds of every layer call of a task that computes anything."""
    tiles = [piece.tile for piece in task.pieces] or [task.tile]
    return [work for tile in tiles for work in _modelled_tile_calls(task, tile, device)]


def _modelled_tile_calls(task: Task, tile: Tile, device: Device) -> list[tuple[str, float, float]]:
    regions_of = regions(task.layers, tile) if task.kind == "spatial" else {}
    work = []
    for layer in task.layers:
        flop = layer.flop_per_pixel * regions_of[layer.name].area if regions_of else layer.flop
        if flop > 0:
            work.append((layer_key(layer), flop, layer_speed(device, layer).seconds(flop)))
    return work
