"""All partitions of a plan as one figure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nptp_opt.plan.model import Plan
from nptp_opt.plot.colours import MOST_LABELS, device_keys, legend_columns
from nptp_opt.plot.partition import draw_partition

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 6
KEY_WIDTH = 0.9
"""Inches of a column of the legend."""


def draw_plan(plan: Plan) -> Figure:
    """One panel per spatial segment, in order of execution."""
    from matplotlib.figure import Figure

    steps = [step for step in plan.steps if step.kind == "spatial"]
    columns = max(1, min(COLUMNS, len(steps)))
    rows = max(1, math.ceil(len(steps) / columns))
    names = [device.name for device in plan.cluster.devices]
    keyed = legend_columns(len(names), 16 * rows) if len(names) > MOST_LABELS else 0
    size = (max(3.0, 2.1 * columns) + KEY_WIDTH * keyed, 2.4 * rows)
    figure = Figure(figsize=size, layout="constrained")
    for number, step in enumerate(steps):
        last = plan.layers_of(step)[-1]
        title = f"{step.layers[0]}" + (f" to\n{last.name}" if len(step.layers) > 1 else "")
        title += f"\n{last.height} x {last.width}, {step.makespan_s * 1e3:.2f} ms"
        panel = figure.add_subplot(rows, columns, number + 1)
        draw_partition(step.tiles, last.height, last.width, names, title=title, legend=False,
                       ax=panel)  # fmt: skip
    if keyed:
        keys = device_keys(names, range(len(names)))
        figure.legend(handles=keys, fontsize=6, loc="outside right upper",
                      ncols=keyed)  # fmt: skip
    kind = plan.cluster.network.kind
    figure.suptitle(
        f"{plan.model.ref} on {len(names)} devices ({kind}), "
        f"{plan.provenance.planner or 'plan'}: {plan.latency_s * 1e3:.1f} ms",
        fontsize=9,
        x=0.5 if not keyed else 0.02,
        ha="center" if not keyed else "left",
        parse_math=False,
    )
    return figure
