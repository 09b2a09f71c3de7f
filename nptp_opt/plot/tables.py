"""Results as dictionaries for ``--json`` and as tables for the terminal."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from nptp_opt import __version__
from nptp_opt.layer.result import relative_gap
from nptp_opt.network import describe
from nptp_opt.network.ir import Network
from nptp_opt.plan.model import Plan
from nptp_opt.plan.steps import Step

if TYPE_CHECKING:
    from nptp_opt.runtime.launcher.report import RunReport

PACKAGES = ("pulp", "highspy", "ortools", "torch", "torchvision", "numpy", "numba")


def _console() -> Console:
    """As wide as it gets where nothing says how wide: in a pipe or a file no name is cut."""
    console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = 10_000
    return console


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


def print_pairs(content: Mapping[str, Any]) -> None:
    """A two-column table of names and values; of several sentences each has a row."""
    table = Table(show_header=False, box=None, pad_edge=False)
    for key, value in content.items():
        sentences = isinstance(value, list) and all(" " in str(part) for part in value)
        for number, part in enumerate(value if value and sentences else [value]):
            table.add_row(key if number == 0 else "", cell(part))
    _console().print(table)


def print_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    """A table with the keys of the first row as its header; nothing without rows."""
    if not rows:
        return
    table = Table(box=None, pad_edge=False)
    for key in rows[0]:
        table.add_column(key, overflow="fold")
    for row in rows:
        table.add_row(*(cell(value) for value in row.values()))
    _console().print(table)


def solve_summary(plan: Plan, path: Path) -> dict[str, Any]:
    """What ``solve`` prints."""
    objective = plan.provenance.objective
    aim = _aim(plan, objective)
    gap = plan.gap if objective == "latency" else aim.get("objective_gap")
    sought = plan.provenance.options.gap
    optimal = gap is not None and sought is not None and gap <= sought
    return {
        "plan": str(path),
        "planner": plan.provenance.planner,
        "status": "optimal" if optimal else "feasible",
        "objective": objective if objective == "latency" else f"{objective} (bound, gap: latency)",
        **plan_totals(plan),
        **aim,
        "segments": len(plan.steps),
        "search_s": plan.provenance.search_s,
        "search_cut": plan.provenance.search_cut,
        "bound_s_seconds": plan.provenance.bound_s_seconds,
        "solve_s": plan.provenance.solve_s,
        **({"notes": list(plan.provenance.notes)} if plan.provenance.notes else {}),
    }


def _aim(plan: Plan, objective: str) -> dict[str, float | None]:
    """Bound and gap of an objective that has a bound of its own."""
    least = plan.provenance.objective_bound
    values = {"bytes": plan.transfer_bytes, "energy": plan.energy_j, "throughput": plan.period_s}
    if least is None or values.get(objective) is None:
        return {}
    value = values[objective]
    gap = 0.0 if value == least else relative_gap(value, least)
    return {"objective_bound": least, "objective_gap": gap}


def run_summary(report: RunReport) -> dict[str, Any]:
    """What ``run --json`` prints."""
    from nptp_opt.runtime.profiling.timeline import critical_device, overrun_s, time_table

    content = report.to_json()
    if report.throttle == "pad":
        content["overrun_s"] = overrun_s(report.plan, report.spans)
    content["critical_device"] = critical_device(report.plan, report.spans)
    return content | {"time": time_table(report.plan, report.spans)}


def print_run(content: Mapping[str, Any]) -> None:
    """The figures of a run, then where the time of a typical one went."""
    print_pairs({k: v for k, v in content.items() if k not in ("time", "latencies_s")})
    _console().print("\nwhere the time went in the run nearest to the median, in seconds")
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
    shares = {names[i]: f"{t.height}x{t.width}" for i, t in step.tiles.items()}
    return {
        "segment": number,
        "layers": " ".join(step.layers) or "(collect)",
        "map": "x".join(str(n) for n in layers[-1].shape) if layers else "",
        "tiles": shares if step.device is None else f"all on {names[step.device]}",
        "bytes": sum(move.bytes for move in step.transfers),
        "makespan_ms": round(step.makespan_s * 1e3, 4),
        "overlap": "yes" if step.overlap else "",
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


def print_plan(plan: Plan) -> None:
    """The plan's steps, then its totals."""
    print_rows(plan_rows(plan))
    print_pairs(plan_totals(plan))


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
        "gathered": [asdict(entry) for entry in describe.gathered(network)],
        "whole_flop_share": flop,
        "whole_bytes_share": made,
    }


def print_inspection(content: Mapping[str, Any]) -> None:
    """The inspection as tables: one line per layer, then the cuts and what is gathered."""
    print_rows(
        [
            {
                "layer": row["name"],
                "op": " + ".join((row["op"], *row["folded"])),
                "output": "x".join(map(str, row["shape"])),
                "window": row["window"] or row["kind"],
                "MFLOP": row["flop"] / 1e6,
                "out kB": row["out_bytes"] / 1e3,
                "weights kB": row["param_bytes"] / 1e3,
            }
            for row in content["layers"]
        ]
    )
    console = _console()
    console.print(f"\ntotal {content['flop'] / 1e9:.4g} GFLOP, ", end="")
    console.print(f"{content['param_bytes'] / 1e6:.4g} MB of weights")
    console.print(f"single-tensor cuts after: {', '.join(content['cuts']) or 'none'}")
    if content["whole_flop_share"] or content["whole_bytes_share"]:
        console.print(
            f"run whole on one device: {content['whole_flop_share']:.3%} of the FLOP, "
            f"{content['whole_bytes_share']:.3%} of the bytes made"
        )
    for entry in content["gathered"]:
        console.print(f"not partitioned: {entry['name']}: {entry['why']}")


def version_rows() -> dict[str, str]:
    """Versions of the tool, Python, the system and the packages that matter."""
    found = {"nptp-opt": __version__, "python": platform.python_version()}
    found["system"] = f"{platform.system()} {platform.machine()}"
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found
