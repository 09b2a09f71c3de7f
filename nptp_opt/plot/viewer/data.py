"""What the plan viewer shows, as plain JSON values: a document of schema ``nptp-opt/viewer/1``.

Everything is computed here, by the modules that planning uses; the page only scales and draws.
docs/viewer.md has the shape. Seconds are counted from the input, bytes are bytes, a device is its
number, and a rectangle is four whole numbers y0, y1, x0, x1, half-open, in elements of its map.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

from nptp_opt.cost import Ownership, Transfer
from nptp_opt.cost.objectives import Carried, Usage, carried
from nptp_opt.evaluate.critical_path import added_s, critical_path
from nptp_opt.evaluate.memory import peak_bytes
from nptp_opt.evaluate.simulate import Stretch, timeline
from nptp_opt.evaluate.usage import usage_of
from nptp_opt.geometry import Tile
from nptp_opt.network.ir import Network, regions
from nptp_opt.plan.model import Plan, owned_maps
from nptp_opt.plan.steps import SpatialStep, Step
from nptp_opt.plot.tables import plan_totals
from nptp_opt.plot.viewer.measured import MeasuredRun, MeasuredSpan

VIEWER_SCHEMA = "nptp-opt/viewer/1"

DIGITS = 9
"""Decimals of seconds: nanoseconds."""


LEAST_S = 1e-6
"""Seconds below which a device is not called slower: spans are in microseconds."""


def viewer_data(
    plans: Mapping[str, Plan], measured: Mapping[str, MeasuredRun] | None = None
) -> dict[str, Any]:
    """The document for one plan or several, by what they are called (the names of their files).

    ``measured`` has runs of some of them, by the same names.
    """
    shown = [_plan(name, plan, (measured or {}).get(name)) for name, plan in plans.items()]
    return {
        "schema": VIEWER_SCHEMA,
        "end_s": max(entry["end_s"] for entry in shown),
        "plans": shown,
    }


def _plan(name: str, plan: Plan, run: MeasuredRun | None) -> dict[str, Any]:
    stretches = timeline(plan.network, plan.cluster, plan.steps)
    path = critical_path(stretches)
    spans = () if run is None else run.spans
    ends = [stretch.end_s for stretch in stretches] + [span.end_s for span in spans]
    used = usage_of(plan.network, plan.cluster, plan.steps)
    links = carried(plan.cluster, used)
    return {
        "name": name,
        "model": plan.model.ref,
        "cluster": plan.cluster.name,
        "network": plan.cluster.network.kind,
        "planner": plan.provenance.planner,
        "totals": {key: _rounded(value) for key, value in plan_totals(plan).items()},
        "end_s": _rounded(max(ends, default=0.0)),
        "devices": _devices(plan, stretches, path, used, links),
        "medium_s": _rounded(links.medium_s),
        "steps": _steps(plan, stretches, path),
        "timeline": [_stretch(stretch, stretch in path) for stretch in stretches],
        "path": [
            {"stretch": stretches.index(stretch), "added_s": _rounded(seconds)}
            for stretch, seconds in zip(path, added_s(path), strict=True)
        ],
        "waits": _waits(len(plan.cluster.devices), stretches),
        "measured": None if run is None else [_span(span) for span in spans],
        "measured_s": _latency_s(spans),
        "void": None if run is None else run.void,
        "slower": _slower(stretches, spans),
    }


def _rounded(value: Any) -> Any:
    return round(value, DIGITS) if isinstance(value, float) else value


# -- time --------------------------------------------------------------------------------------


def _stretch(stretch: Stretch, critical: bool) -> dict[str, Any]:
    entry = {
        "step": stretch.step,
        "device": stretch.device,
        "start_s": _rounded(stretch.start_s),
        "end_s": _rounded(stretch.end_s),
        "critical": critical,
    }
    if stretch.on_link_s is not None:
        link = [_rounded(seconds) for seconds in stretch.on_link_s]
        entry |= {"peer": stretch.peer, "link_s": link}
    return entry


def _span(span: MeasuredSpan) -> dict[str, Any]:
    times = {"start_s": _rounded(span.start_s), "end_s": _rounded(span.end_s)}
    entry = {"phase": span.phase, "step": span.step, "device": span.device, **times}
    return entry if span.peer is None else entry | {"peer": span.peer}


def _latency_s(spans: Sequence[MeasuredSpan]) -> float | None:
    """When the last span of a run ends, but for what a device sends after its work is done."""
    ends = [span.end_s for span in spans if span.phase != "flush"]
    return round(max(ends), DIGITS) if ends else None


def _slower(stretches: Iterable[Stretch], measured: Iterable[MeasuredSpan]) -> list[dict[str, Any]]:
    """Devices that computed longer in a run than the plan says, and by how much in all steps."""
    spent: dict[tuple[int, int | None], float] = defaultdict(float)
    for span in measured:
        if span.phase == "compute":
            spent[span.device, span.step] += span.end_s - span.start_s
    for task in stretches:
        if task.peer is None and (task.device, task.step) in spent:
            spent[task.device, task.step] -= task.end_s - task.start_s
    late: dict[int, float] = defaultdict(float)
    for (device, _), seconds in spent.items():
        late[device] += max(0.0, seconds)
    ranked = sorted(late.items(), key=lambda pair: -pair[1])
    return [{"device": i, "seconds": _rounded(s)} for i, s in ranked if s > LEAST_S]


def _waits(n_devices: int, stretches: Sequence[Stretch]) -> list[dict[str, Any]]:
    """When a device with work left has nothing that it could compute, and whose message ends
    that."""
    return [wait for device in range(n_devices) for wait in _waits_of(device, stretches)]


def _waits_of(device: int, stretches: Sequence[Stretch]) -> Iterable[dict[str, Any]]:
    """Each lasts from the device's last task, or the last message that it handed over, to its
    next task."""
    free_s = 0.0
    arrived = {(s.step, s.end_s): s.device for s in stretches if s.peer == device}
    for stretch in sorted(
        (s for s in stretches if s.device == device), key=lambda s: (s.start_s, s.peer is None)
    ):
        if stretch.peer is None and stretch.start_s > free_s:
            yield {
                "device": device,
                "step": stretch.step,
                "start_s": _rounded(free_s),
                "end_s": _rounded(stretch.start_s),
                "peer": arrived.get((stretch.step, stretch.start_s)),
            }
        free_s = max(free_s, stretch.end_s if stretch.peer is None else stretch.start_s)


# -- devices -----------------------------------------------------------------------------------


def _devices(
    plan: Plan,
    stretches: Sequence[Stretch],
    path: Sequence[Stretch],
    used: Usage,
    links: Carried,
) -> list[dict[str, Any]]:
    """One entry per device: what it does in all, and what it holds at most."""
    cluster = plan.cluster
    critical_s = dict.fromkeys(range(len(cluster.devices)), 0.0)
    for stretch, seconds in zip(path, added_s(path), strict=True):
        critical_s[stretch.device] += seconds if stretch.peer is None else 0.0
    peaks = peak_bytes(plan.network, len(cluster.devices), plan.steps, cluster.source)
    return [
        {
            "name": device.name,
            "busy_s": _rounded(float(used.compute_s[i])),
            "waiting_s": _rounded(
                sum(wait["end_s"] - wait["start_s"] for wait in _waits_of(i, stretches))
            ),
            "critical_s": _rounded(critical_s[i]),
            "sent_bytes": int(used.send_bytes[i]),
            "received_bytes": int(used.recv_bytes[i]),
            "up_s": None if cluster.shared else _rounded(float(links.up_s[i])),
            "down_s": None if cluster.shared else _rounded(float(links.down_s[i])),
            "memory_bytes": int(peaks[i]),
            "memory_limit_bytes": None if device.memory_mib is None else int(device.memory_bytes),
        }
        for i, device in enumerate(cluster.devices)
    ]


# -- steps -------------------------------------------------------------------------------------


def _steps(
    plan: Plan, stretches: Sequence[Stretch], path: Sequence[Stretch]
) -> list[dict[str, Any]]:
    owned = owned_maps(plan.network, plan.cluster, plan.steps)
    return [
        {
            "kind": step.kind,
            "layers": list(step.layers),
            "device": step.device,
            "synchronous_s": _rounded(step.makespan_s),
            **_times(number, stretches, path),
            "transfers": [_transfer(plan.network, step, move) for move in step.transfers],
            "maps": [*_inputs(plan.network, step, owned), *_made(plan.network, step)],
        }
        for number, step in enumerate(plan.steps)
    ]


def _times(number: int, stretches: Sequence[Stretch], path: Sequence[Stretch]) -> dict[str, float]:
    """From the step's first stretch to its last, and its part of the critical path."""
    own = [stretch for stretch in stretches if stretch.step == number]
    added = {"compute": 0.0, "message": 0.0}
    for stretch, seconds in zip(path, added_s(path), strict=True):
        if stretch.step == number:
            added[stretch.kind] += seconds
    return {
        "start_s": _rounded(min((stretch.start_s for stretch in own), default=0.0)),
        "end_s": _rounded(max((stretch.end_s for stretch in own), default=0.0)),
        "critical_compute_s": _rounded(added["compute"]),
        "critical_exchange_s": _rounded(added["message"]),
    }


def _transfer(network: Network, step: Step, move: Transfer) -> dict[str, Any]:
    """``tile`` is None where what is sent is no part of the map: a partial of a reduction."""
    source = step.source_of(network, move.tensor)
    return {
        "from": move.src,
        "to": move.dst,
        "tensor": source,
        "tile": _sides(move.tile) if source == move.tensor else None,
        "bytes": move.bytes,
    }


def _inputs(
    network: Network, step: Step, owned: Mapping[str, Ownership]
) -> Iterable[dict[str, Any]]:
    """The maps that a step reads: who owns and who needs what of each."""
    needs: dict[str, Ownership] = dict(step.needs(network))
    for move in step.transfers:
        needs.setdefault(step.source_of(network, move.tensor), {})
    for tensor, wanted in needs.items():
        yield {
            **_map(network, tensor, "input"),
            "owned": _tiles(owned.get(tensor, {})),
            "needs": _tiles(wanted),
        }


def _made(network: Network, step: Step) -> Iterable[dict[str, Any]]:
    """The maps that a step makes, and of the inner ones who computes what: also what others
    compute."""
    if isinstance(step, SpatialStep):
        layers = step.layers_of(network)
        wanted = {device: regions(layers, step.tiles[device]) for device in step.devices}
        for name in step.inner:
            computed = {device: tiles[name] for device, tiles in wanted.items()}
            yield {
                **_map(network, name, "inner"),
                "computed": _tiles(computed),
                "repeated": _repeated(computed),
            }
    for tensor, tiles in step.makes.items():
        yield {**_map(network, tensor, "output"), "owned": _tiles(tiles)}


def _repeated(computed: Ownership) -> list[list[int]]:
    """Rectangles that two devices compute."""
    common = (one.intersect(other) for one, other in combinations(computed.values(), 2))
    return [_sides(tile) for tile in common if not tile.is_empty]


def _map(network: Network, tensor: str, role: str) -> dict[str, Any]:
    _, channels, height, width = network.shapes[tensor]
    size = {"channels": channels, "height": height, "width": width}
    return {"tensor": tensor, "role": role, **size}


def _tiles(tiles: Ownership) -> list[list[int]]:
    """Lists of device, y0, y1, x0, x1."""
    return [[device, *_sides(tile)] for device, tile in tiles.items() if not tile.is_empty]


def _sides(tile: Tile) -> list[int]:
    return [tile.y0, tile.y1, tile.x0, tile.x1]
