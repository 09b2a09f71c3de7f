"""``show``: a plan as a table, a picture, or a page that shows it at work."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from nptp_opt.commands.group import command
from nptp_opt.commands.outputs import check_outputs
from nptp_opt.commands.support import FILE, json_flag, print_json

if TYPE_CHECKING:
    from nptp_opt.plan.model import Plan


@command(example="show plan.json --html plan.html")
@click.argument("plan", type=FILE)
@click.argument("plan2", type=FILE, required=False)
@click.option("--png", type=FILE, help="Draw the partitions to a PNG.")
@click.option("--svg", type=FILE, help="Draw the partitions to an SVG.")
@click.option("--figures", type=FILE, metavar="FOLDER",
              help="Write partitions, timeline and halos as SVG and PDF.")  # fmt: skip
@click.option("--html", type=FILE, help="Write a page that shows the plan at work.")
@click.option("--trace", type=FILE, help="With --html: a run of PLAN, as `run --trace` wrote it.")
@json_flag
def show(
    plan: Path,
    plan2: Path | None,
    png: Path | None,
    svg: Path | None,
    figures: Path | None,
    html: Path | None,
    trace: Path | None,
    as_json: bool,
) -> None:
    """Show PLAN as a table; draw it with --png or --svg.

    --html writes one self-contained page: every step's maps and transfers, a timeline of devices
    and links, and the inference played; with PLAN2 both plans on one time axis.
    """
    from nptp_opt.plan.document import load_plan
    from nptp_opt.plot.figure_file import write_figure_file
    from nptp_opt.plot.plan_figure import draw_plan
    from nptp_opt.plot.tables import plan_rows, plan_totals, print_plan

    if html is None and (plan2 is not None or trace is not None):
        raise click.UsageError("a second plan and --trace are for the page: add --html FILE")
    loaded = load_plan(plan)
    reads = [path for path in (plan, plan2, trace) if path is not None]
    check_outputs(png, svg, html, reads=reads)
    if html is not None:
        _write_page(html, loaded, (plan, plan2), trace)
    if png is not None:
        write_figure_file(draw_plan(loaded), png, "png")
    if svg is not None:
        write_figure_file(draw_plan(loaded), svg, "svg")
    if figures is not None:
        from nptp_opt.plot.report_figures import write_plan_figures

        write_plan_figures(loaded, figures)
    if as_json:
        stated = loaded.provenance.to_json()
        found = {**plan_totals(loaded), "segments": plan_rows(loaded), "provenance": stated}
        print_json("show", found)
    else:
        print_plan(loaded)


def _write_page(
    html: Path, first: Plan, paths: tuple[Path, Path | None], trace: Path | None
) -> None:
    from nptp_opt.plan.document import load_plan
    from nptp_opt.plot.viewer.measured import load_trace
    from nptp_opt.plot.viewer.page import write_viewer

    path, other = paths
    name = path.name
    plans = {name: first}
    if other is not None:
        second = other.name if other.name != name else f"{other} (2)"
        plans[second] = load_plan(other)
    measured = {} if trace is None else {name: load_trace(trace, first)}
    write_viewer(html, plans, measured)
