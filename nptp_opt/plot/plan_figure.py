"""All partitions of a plan as one figure, and as a self-contained HTML page."""

from __future__ import annotations

import html
import io
import math
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from nptp_opt.files import write_bytes, write_text
from nptp_opt.plan.model import Plan
from nptp_opt.plot.partition import draw_partition
from nptp_opt.plot.tables import cell, plan_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 6


def draw_plan(plan: Plan) -> Figure:
    """One panel per spatial segment, in order of execution."""
    from matplotlib.figure import Figure

    steps = [step for step in plan.steps if step.kind == "spatial"]
    columns = max(1, min(COLUMNS, len(steps)))
    rows = max(1, math.ceil(len(steps) / columns))
    figure = Figure(figsize=(2.1 * columns, 2.4 * rows), layout="constrained")
    names = [device.name for device in plan.cluster.devices]
    for number, step in enumerate(steps):
        last = plan.layers_of(step)[-1]
        title = f"{step.layers[0]}" + (f" to\n{last.name}" if len(step.layers) > 1 else "")
        title += f"\n{last.height} x {last.width}, {step.makespan_s * 1e3:.2f} ms"
        panel = figure.add_subplot(rows, columns, number + 1)
        draw_partition(step.tiles, last.height, last.width, names, title=title, ax=panel)
    kind = plan.cluster.network.kind
    figure.suptitle(
        f"{plan.model.ref} on {len(names)} devices ({kind}), "
        f"{plan.provenance.planner or 'plan'}: {plan.latency_s * 1e3:.1f} ms",
        fontsize=9,
        parse_math=False,
    )
    return figure


def _save(plan: Plan, kind: Literal["png", "svg"]) -> bytes:
    """The figure as a file's content, without dates or links in it."""
    unset = dict.fromkeys(("Date", "Creator", "Format", "Type")) if kind == "svg" else None
    buffer = io.BytesIO()
    draw_plan(plan).savefig(buffer, format=kind, dpi=150, metadata=unset)
    return buffer.getvalue()


def write_figure(plan: Plan, path: Path, kind: Literal["png", "svg"]) -> None:
    """Draw the plan to a file."""
    write_bytes(path, _save(plan, kind))


def write_page(plan: Plan, path: Path) -> None:
    """Write the figure and the table of segments as one HTML file that needs no network."""
    drawing = _save(plan, "svg").decode()
    rows = plan_rows(plan)
    head = "".join(f"<th>{html.escape(key)}</th>" for key in rows[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell(v))}</td>" for v in row.values()) + "</tr>"
        for row in rows
    )
    title = html.escape(f"{plan.model.ref}: {plan.latency_s * 1e3:.2f} ms")
    write_text(
        path,
        f"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>
body {{ font: 14px system-ui, sans-serif; margin: 1rem; }} table {{ border-collapse: collapse; }}
td, th {{ padding: .2rem .6rem; text-align: left; border-bottom: 1px solid #ddd; }}
svg {{ max-width: 100%; height: auto; }} .wide {{ overflow-x: auto; }}
</style></head><body><h1>{title}</h1>{drawing[drawing.index("<svg") :]}
<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>
</body></html>
""",
    )
