"""Results as dictionaries for ``--json`` (in SI units), and printed for people."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nptp_opt import __version__
from nptp_opt.layer.result import relative_gap
from nptp_opt.network import describe
from nptp_opt.network.ir import Network
from nptp_opt.plan.model import Plan
from nptp_opt.plan.steps import Step
from nptp_opt.plot.terminal import print_pairs, print_rows, print_text, shows_all
from nptp_opt.plot.units import beside

if TYPE_CHECKING:
    from nptp_opt.runtime.launcher.report import RunReport

PACKAGES = ("pulp", "highspy", "ortools", "torch", "torchvision", "numpy", "numba")


def cell(value: Any) -> str:
    """One value as text: floats with six digits, None as a dash, lists joined."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {cell(entry)}" for key, entry in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(cell(entry) for entry in value)
    return str(value)


def solve_summary(plan: Plan, path: Path) -> dict[str, Any]:
    """What ``solve`` prints."""
    objective = plan.provenance.objective
    aim = _aim(plan)
    gap = plan.gap if objective == "latency" else aim.get("objective_gap")
    sought = plan.provenance.options.gap
    optimal = gap is not None and sought is not None and gap <= sought
    return {
        "plan": str(path),
        "planner": plan.provenance.planner,
        "status": "optimal" if optimal else "feasible",
        "objective": objective,
        **plan_totals(plan),
        **aim,
        "segments": len(plan.steps),
        "worth_distributing": len(plan.computing) > 1,
        "left_out": [plan.cluster.devices[i].name for i in plan.idle],
        "search_s": plan.provenance.search_s,
        "search_cut": plan.provenance.search_cut,
        "bound_s_seconds": plan.provenance.bound_s_seconds,
        "solve_s": plan.provenance.solve_s,
        **({"notes": list(plan.provenance.notes)} if plan.provenance.notes else {}),
    }


def _aim(plan: Plan) -> dict[str, float | None]:
    """Bound and gap of an objective that has a bound of its own."""
    least, value = plan.provenance.objective_bound, plan.objective_value
    if least is None or value is None:
        return {}
    gap = 0.0 if value == least else relative_gap(value, least)
    return {"objective_bound": least, "objective_gap": gap}


def run_summary(report: RunReport) -> dict[str, Any]:
    """What ``run --json`` prints."""
    from nptp_opt.runtime.profiling.timeline import critical_device, overrun_s, time_table

    content = report.to_json()
    if report.throttle == "pad":
        content["void"] = report.is_void
        content["overrun_s"] = overrun_s(report.plan, report.spans)
    content["critical_device"] = critical_device(report.plan, report.spans)
    return content | {"time": time_table(report.plan, report.spans)}


def print_run(content: Mapping[str, Any]) -> None:
    """The figures of a run, then where the time of a typical one went."""
    print_pairs({k: v for k, v in content.items() if k not in ("time", "latencies_s")})
    print_text("\nwhere the time went in the run nearest to the median")
    print_rows(content["time"])


def print_layer_result(content: Mapping[str, Any]) -> None:
    """A layer result: its figures, then its tiles."""
    print_pairs({key: value for key, value in content.items() if key != "tiles"})
    if content["tiles"]:
        print_rows(content["tiles"])


def plan_rows(plan: Plan) -> list[dict[str, Any]]:
    """One row per step of a plan."""
    return [_plan_row(plan, number, step) for number, step in enumerate(plan.steps)]


def _plan_row(plan: Plan, number: int, step: Step) -> dict[str, Any]:
    names = [device.name for device in plan.cluster.devices]
    layers = plan.layers_of(step)
    return {
        "segment": number,
        "kind": step.kind,
        "layers": list(step.layers),
        "map": list(layers[-1].shape) if layers else None,
        "device": None if step.device is None else names[step.device],
        "tiles": [
            {"device": names[i], "y0": t.y0, "y1": t.y1, "x0": t.x0, "x1": t.x1}
            for i, t in sorted(step.tiles.items())
            if step.device is None and not t.is_empty
        ],
        "bytes": sum(move.bytes for move in step.transfers),
        "makespan_s": step.makespan_s,
        "pieces": max(len(step.pieces_of(i)) for i in step.devices),
    }


def plan_totals(plan: Plan) -> dict[str, Any]:
    """What ``solve`` and ``show`` say of the whole plan."""
    return {
        "latency_s": plan.latency_s,
        "bound_s": plan.bound_s,
        "gap": plan.gap,
        "synchronous_s": plan.synchronous_s,
        "bytes": plan.transfer_bytes,
        "energy_j": plan.energy_j,
        "period_s": plan.period_s,
    }


MOST_TILES = 4
"""Tiles of a step that a terminal shows one by one."""

PLAN_COLUMNS = ("segment", "layers", "tiles", "makespan_s", "bytes", "map", "pieces")
"""Of a plan's steps, the most important first."""


def print_plan(plan: Plan) -> None:
    """The plan's steps, then its totals, then what it says of its making."""
    print_rows([_plan_line(row) for row in plan_rows(plan)], PLAN_COLUMNS)
    print_text("")
    print_pairs(plan_totals(plan))
    print_text("\nstated by who made the plan, not proven")
    print_pairs(plan.provenance.to_json())


def _plan_line(row: Mapping[str, Any]) -> dict[str, Any]:
    """A step as it is printed."""
    every = shows_all()
    return {
        "segment": row["segment"],
        "layers": (" " if every else "\n").join(_layer_lines(row["layers"], every=every)),
        "tiles": f"all on {row['device']}" if row["device"] else _tiles_text(row["tiles"], every),
        "map": "x".join(map(str, row["map"] or ())),
        **{key: row[key] for key in ("bytes", "makespan_s", "pieces")},
    }


def _layer_lines(names: Sequence[str], *, every: bool) -> list[str]:
    """A run of layers by its first and last name."""
    if not names:
        return ["(collect)"]
    if every or len(names) == 1:
        return list(names)
    return [f"{names[0]} ..", names[-1]] if len(names) > 2 else list(names)


def _tiles_text(tiles: Sequence[Mapping[str, Any]], every: bool) -> str:
    """Each device with the size of its tile; of many, how many and from which size to which."""
    sizes = [(tile["y1"] - tile["y0"], tile["x1"] - tile["x0"]) for tile in tiles]
    if every or len(tiles) <= MOST_TILES:
        each = [f"{t['device']} {h}x{w}" for t, (h, w) in zip(tiles, sizes, strict=True)]
        return (", " if every else "\n").join(each)
    least, most = (pick(sizes, key=lambda size: size[0] * size[1]) for pick in (min, max))
    return f"{len(tiles)} devices,\n{least[0]}x{least[1]} to {most[0]}x{most[1]}"


def inspection(network: Network) -> dict[str, Any]:
    """What ``inspect`` prints: layers, the cuts where one map is alive, and what is gathered."""
    flop, made = describe.whole_share(network)
    return {
        "model": network.name,
        "inputs": {name: list(network.shapes[name]) for name in network.inputs},
        "outputs": list(network.outputs),
        "flop": sum(layer.flop for layer in network.layers),
        "param_bytes": sum(layer.param_bytes for layer in network.layers),
        "layers": [asdict(row) for row in describe.rows(network)],
        "cuts": describe.cut_points(network),
        "gathered": [asdict(entry) for entry in describe.gathered_layers(network)],
        "whole_flop_share": flop,
        "whole_bytes_share": made,
    }


INSPECTION_COLUMNS = ("layer", "op", "output", "flop", "out_bytes", "window", "weight_bytes")
"""Of a network's layers, the most important first."""


def print_inspection(content: Mapping[str, Any]) -> None:
    """The inspection as tables: one line per layer, then the cuts and what is gathered."""
    print_rows([_layer_line(row) for row in content["layers"]], INSPECTION_COLUMNS)
    work, weights = beside("flop", content["flop"]), beside("bytes", content["param_bytes"])
    print_text(f"\ntotal {work}, {weights} of weights")
    print_text(f"single-tensor cuts after: {', '.join(content['cuts']) or 'none'}")
    if content["whole_flop_share"] or content["whole_bytes_share"]:
        print_text(
            f"run whole on one device: {content['whole_flop_share']:.3%} of the FLOP, "
            f"{content['whole_bytes_share']:.3%} of the bytes made"
        )
    for entry in content["gathered"]:
        print_text(f"not partitioned: {entry['name']}: {entry['why']}")


def _layer_line(row: Mapping[str, Any]) -> dict[str, Any]:
    """A layer as it is printed; a window that both axes share once."""
    axes = row["window"].split(", ")
    window = axes[0] if len(axes) == 2 and axes[0] == axes[1] else row["window"]
    return {
        "layer": row["name"],
        "op": " + ".join((row["op"], *row["folded"])),
        "output": "x".join(map(str, row["shape"])),
        "window": window or row["kind"],
        "flop": row["flop"],
        "out_bytes": row["out_bytes"],
        "weight_bytes": row["param_bytes"],
    }


def version_rows() -> dict[str, str]:
    """Versions of the tool, Python, the system and the packages that matter."""
    versions = {"nptp-opt": __version__, "python": platform.python_version()}
    versions["system"] = f"{platform.system()} {platform.machine()}"
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions
