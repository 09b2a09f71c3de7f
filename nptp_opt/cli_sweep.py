"""The command sweep: every planner over a range of clusters."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from nptp_opt.cli_outputs import check_outputs
from nptp_opt.cli_support import input_shape, json_flag, load, print_json, say
from nptp_opt.errors import NoSolutionError

FILE = click.Path(path_type=Path)
LEFT_OUT = ("layerwise",)
"""Planners that have to be named: slow, and never the best."""


@click.command()
@click.argument("model")
@click.option("-c", "--cluster", type=FILE, required=True, help="TOML file.")
@click.option("--over", "ranges", multiple=True, required=True, metavar="NAME=LO:HI[:COUNT]",
              help="rate, devices, gflops or latency_ms; once or twice.")  # fmt: skip
@click.option("--input", "shape", default="1x3x224x224", help="Input shape.")
@click.option("--planner", "planners", multiple=True, help="Repeatable.",
              show_default="all but layerwise")  # fmt: skip
@click.option("--time-limit", type=click.FloatRange(min=0, min_open=True), default=math.inf,
              help="Seconds per plan.", show_default="none")  # fmt: skip
@click.option("-o", "--output", type=FILE, help="Write the table as CSV.")
@click.option("--png", type=FILE, help="Draw curves (one range) or a map of winners (two).")
@click.option("--svg", type=FILE, help="The same as SVG.")
@json_flag
def sweep(model: str, cluster: Path, shape: str, **options: Any) -> None:
    """Predicted latency of every planner for MODEL while the cluster changes.

    Ctrl-C ends the sweep and keeps the points that are finished.
    """
    from nptp_opt.cluster import load_cluster
    from nptp_opt.methods import Limits
    from nptp_opt.planner import PLANNERS
    from nptp_opt.sweep import parse_axis, points, sweep_rows

    axes = [parse_axis(text) for text in options["ranges"]]
    over = points(load_cluster(cluster), axes)
    check_outputs(options["output"], options["png"], options["svg"], reads=(cluster, model))
    planners = options["planners"] or [name for name in PLANNERS if name not in LEFT_OUT]
    say(f"importing {model}")
    network = load(model, input_shape(shape)).network
    limits = Limits(time_limit_s=options["time_limit"])
    names = tuple(dict.fromkeys(planners))
    rows, complete = _finished(sweep_rows(network, over, names, limits, say))
    if not rows:
        raise NoSolutionError("sweep: stopped before the first point was finished")
    _write(rows, axes, f"{model} on {cluster.stem}", options)
    _print({"model": model, "complete": complete, "rows": rows}, as_json=options["as_json"])


def _finished(found: Iterable[dict[str, Any]]) -> tuple[list[dict[str, Any]], bool]:
    """The rows until the end or Ctrl-C, and whether that was the end."""
    rows: list[dict[str, Any]] = []
    try:
        for row in found:
            rows.append(row)
    except KeyboardInterrupt:
        say(f"interrupted: {len(rows)} points are finished")
        return rows, False
    return rows, True


def _write(rows: list[dict[str, Any]], axes: list[Any], title: str, options: Any) -> None:
    from nptp_opt.files import write_text
    from nptp_opt.plot.sweep_figure import draw_sweep, write_sweep
    from nptp_opt.sweep import flat

    if options["output"] is not None:
        text = io.StringIO()
        lines = [flat(row) for row in rows]
        writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
        write_text(options["output"], text.getvalue())
    if options["png"] is not None:
        write_sweep(draw_sweep(rows, axes, title), options["png"], "png")
    if options["svg"] is not None:
        write_sweep(draw_sweep(rows, axes, title), options["svg"], "svg")


def _print(content: dict[str, Any], *, as_json: bool) -> None:
    from nptp_opt.render import print_rows
    from nptp_opt.sweep import flat

    print_json(content) if as_json else print_rows([flat(row) for row in content["rows"]])
