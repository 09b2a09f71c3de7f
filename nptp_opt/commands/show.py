"""``show``: a plan as a table or a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from nptp_opt.commands.outputs import check_outputs
from nptp_opt.commands.support import (
    json_flag,
    print_json,
)

if TYPE_CHECKING:
    pass


@click.command()
@click.argument("plan", type=click.Path(path_type=Path))
@click.option("--png", type=click.Path(path_type=Path), help="Draw the partitions to a PNG.")
@click.option("--svg", type=click.Path(path_type=Path), help="Draw the partitions to an SVG.")
@click.option("--html", type=click.Path(path_type=Path), help="Write a self-contained page.")
@json_flag
def show(plan: Path, png: Path | None, svg: Path | None, html: Path | None, as_json: bool) -> None:
    """Show PLAN as a table; draw it with --png, --svg or --html."""
    from nptp_opt.plan.document import load_plan
    from nptp_opt.plot.plan_figure import write_figure, write_page
    from nptp_opt.plot.tables import plan_rows, plan_totals, print_plan

    loaded = load_plan(plan)
    check_outputs(png, svg, html, reads=(plan,))
    if png is not None:
        write_figure(loaded, png, "png")
    if svg is not None:
        write_figure(loaded, svg, "svg")
    if html is not None:
        write_page(loaded, html)
    if as_json:
        print_json({**plan_totals(loaded), "segments": plan_rows(loaded)})
    else:
        print_plan(loaded)
