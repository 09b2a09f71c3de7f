"""Prices a run's result again, outside the process that made it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nptp_opt.comparison.runs import Run

if TYPE_CHECKING:
    from nptp_opt.plan.model import Plan
from nptp_opt.plan.steps import Step

RESULT_FIELDS = (
    "termination",
    "makespan_s",
    "bound_s",
    "any_bound_s",
    "root_bound_s",
    "nodes",
    "rows",
    "columns",
    "nonzeros",
    "integers",
    "build_s",
    "solve_s",
    "tiles",
    "notes",
)


def priced(run: Run, folder: Path) -> dict[str, Any]:
    """What the run's result holds, its value priced anew; ``fault`` says what is wrong with it."""
    if (folder / "result.json").exists():
        return _layer(run, folder / "result.json")
    if (folder / "plan.json").exists():
        return _plan(folder / "plan.json")
    return {}


def _layer(run: Run, path: Path) -> dict[str, Any]:
    from nptp_opt.instances.reader import layer_problem_from_json
    from nptp_opt.verification.layer_result import check_result

    content = json.loads(path.read_text())
    kept = {name: content[name] for name in RESULT_FIELDS}
    kept["value_s"] = kept.pop("makespan_s")
    if kept["tiles"] is None:
        return kept
    faults, value = check_result(layer_problem_from_json(run.instance, run.name), path)
    return {**kept, "value_s": value, "fault": faults[0] if faults else None}


def _plan(path: Path) -> dict[str, Any]:
    """The plan's latency is the sum of its segments' makespans; ``static`` prices each of
    these, what the plan uses besides time, and its bound, which tables compare.
    """
    from nptp_opt.plan.document import read_plan
    from nptp_opt.verification.static import bound_faults, paper_faults

    plan, stale = read_plan(path)
    faults = [*stale, *paper_faults(plan)] or bound_faults(plan)
    return {
        "value_s": plan.latency_s,
        "bound_s": plan.bound_s,
        "solve_s": plan.provenance.search_s,
        "bound_s_seconds": plan.provenance.bound_s_seconds,
        "synchronous_s": plan.synchronous_s,
        "notes": {
            "bytes": plan.transfer_bytes,
            "energy_j": plan.energy_j,
            "period_s": plan.period_s,
        },
        "tiles": [_partition(plan, step) for step in plan.steps if step.kind == "spatial"],
        "fault": faults[0] if faults else None,
        "plan": path.read_text(),
    }


def _partition(plan: Plan, step: Step) -> dict[str, Any]:
    """A segment's partition, named by its last layer."""
    names = [device.name for device in plan.cluster.devices]
    tiles = [
        {"device": names[i], "y0": t.y0, "y1": t.y1, "x0": t.x0, "x1": t.x1}
        for i, t in step.tiles.items()
    ]
    return {"segment": step.layers[-1], "tiles": tiles}
