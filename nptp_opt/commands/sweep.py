"""The command sweep: every planner over a range of clusters."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from nptp_opt.commands.outputs import check_outputs
from nptp_opt.commands.progress import moving
from nptp_opt.commands.support import input_option, input_shape, json_flag, load, print_json, say
from nptp_opt.network.ref import spelled

FILE = click.Path(path_type=Path)
LEFT_OUT = ("layerwise",)
"""Planners that have to be named: slow, and never the best."""


@click.command()
@click.argument("model")
@click.option("-c", "--cluster", type=FILE, required=True, help="TOML file.")
@click.option("--over", "ranges", multiple=True, required=True, metavar="NAME=LO:HI[:COUNT]|VALUE",
              help="rate, devices, gflops or latency_ms; once or twice.")  # fmt: skip
@input_option
@click.option("--planner", "planners", multiple=True, help="Repeatable.",
              show_default="all but layerwise")  # fmt: skip
@click.option("--time-limit", type=click.FloatRange(min=0, min_open=True), default=math.inf,
              help="Seconds per plan.", show_default="none")  # fmt: skip
@click.option("-o", "--output", type=FILE, help="Write the table as CSV.")
@click.option("--png", type=FILE, help="Draw curves (one range) or a map of winners (two).")
@click.option("--svg", type=FILE, help="The same as SVG.")
@json_flag
def sweep(model: str, cluster: Path, shape: str | None, **options: Any) -> None:
    """Predicted latency of every planner for MODEL while the cluster changes.

    Finished points are in the table's file at once. Ctrl-C ends the sweep with status 130, after
    the points that are finished were printed and drawn.
    """
    from nptp_opt.cluster import load_cluster
    from nptp_opt.comparison.sweep import parse_axis, points, sweep_rows
    from nptp_opt.layer.limits import Limits
    from nptp_opt.planner import PLANNERS

    axes = [parse_axis(text) for text in options["ranges"]]
    over = points(load_cluster(cluster), axes)
    check_outputs(options["output"], options["png"], options["svg"], reads=(cluster, model))
    planners = options["planners"] or [name for name in PLANNERS if name not in LEFT_OUT]
    size = input_shape(shape, model)
    say(f"importing {model} at {spelled(size)}")
    network = load(model, size).network
    limits = Limits(time_limit_s=options["time_limit"])
    names = tuple(dict.fromkeys(planners))
    with moving(f"planning {len(over)} points") as line:
        found = sweep_rows(network, over, names, limits, line.say)
        rows, complete = _finished(found, options["output"])
    if rows:
        _draw(rows, axes, f"{model} on {cluster.stem}", options)
        _print({"model": model, "complete": complete, "rows": rows}, as_json=options["as_json"])
    if not complete:
        say(f"{len(rows)} of {len(over)} points are finished")
        raise KeyboardInterrupt


def _finished(
    found: Iterable[dict[str, Any]], table: Path | None
) -> tuple[list[dict[str, Any]], bool]:
    """The rows until the end or Ctrl-C, each in the table's file at once, and whether it ended."""
    rows: list[dict[str, Any]] = []
    try:
        for row in found:
            rows.append(row)
            if table is not None:
                _write_table(rows, table)
    except KeyboardInterrupt:
        return rows, False
    return rows, True


def _write_table(rows: list[dict[str, Any]], path: Path) -> None:
    from nptp_opt.comparison.sweep import flat
    from nptp_opt.files import write_text

    text = io.StringIO()
    lines = [flat(row) for row in rows]
    writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    write_text(path, text.getvalue())


def _draw(rows: list[dict[str, Any]], axes: list[Any], title: str, options: Any) -> None:
    from nptp_opt.plot.sweep_figure import draw_sweep, write_sweep

    if options["png"] is not None:
        write_sweep(draw_sweep(rows, axes, title), options["png"], "png")
    if options["svg"] is not None:
        write_sweep(draw_sweep(rows, axes, title), options["svg"], "svg")


def _print(content: dict[str, Any], *, as_json: bool) -> None:
    from nptp_opt.comparison.sweep import flat
    from nptp_opt.plot.tables import print_rows

    print_json(content) if as_json else print_rows([flat(row) for row in content["rows"]])
