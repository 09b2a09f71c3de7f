"""The command sweep: every planner over a range of clusters."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nptp_opt.commands.completion import names_of
from nptp_opt.commands.group import command, under
from nptp_opt.commands.outputs import check_outputs
from nptp_opt.commands.progress import show_progress
from nptp_opt.commands.speech import say
from nptp_opt.commands.support import (
    input_option,
    input_shape,
    json_flag,
    load,
    pixel_options,
    pixels_from,
    print_json,
    samples_option,
)
from nptp_opt.network.ref import spelled

if TYPE_CHECKING:
    from nptp_opt.network.ir import Network
    from nptp_opt.network.ref import InputShape

FILE = click.Path(path_type=Path)
LEFT_OUT = ("layerwise",)
"""Planners that have to be named: slow, and never the best."""


@command(example="sweep vgg16 -c cluster.toml --over rate=10:1000:7 -o sweep.csv")
@click.argument("model", shell_complete=names_of("models", or_files=True))
@click.option("-c", "--cluster", type=FILE, required=True, help="TOML file.")
@click.option("--over", "ranges", multiple=True, required=True, metavar="NAME=LO:HI[:COUNT]|VALUE",
              help="rate, devices, gflops or latency_ms; once or twice.")  # fmt: skip
@under("Model", input_option, pixel_options, samples_option)
@under(
    "Search",
    click.option("--planner", "planners", multiple=True, help="Repeatable.",
                 shell_complete=names_of("planners"), show_default="all but layerwise"),
    click.option("--time-limit", type=click.FloatRange(min=0, min_open=True), default=math.inf,
                 help="Seconds per plan.", show_default="none"),
)  # fmt: skip
@under(
    "Output",
    click.option("-o", "--output", type=FILE, help="Write the table as CSV."),
    click.option("--png", type=FILE, help="Draw curves (one range) or a map of winners (two)."),
    click.option("--svg", type=FILE, help="The same as SVG."),
)
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
    network, dense = _networks(model, size, options)
    limits = Limits(time_limit_s=options["time_limit"])
    names = tuple(dict.fromkeys(planners))
    with show_progress(f"planning {len(over)} points") as line:
        swept = sweep_rows(network, over, names, limits, line.say, dense)
        rows, complete = _collect_rows(swept, options["output"])
    if rows:
        _draw(rows, axes, f"{model} on {cluster.stem}", options)
        _print({"model": model, "complete": complete, "rows": rows}, as_json=options["as_json"])
    if not complete:
        say(f"{len(rows)} of {len(over)} points are finished")
        raise KeyboardInterrupt


def _networks(
    model: str, size: InputShape, options: dict[str, Any]
) -> tuple[Network, Network | None]:
    """What is swept, and where that has pixels or densities the same without, to stand beside."""
    from nptp_opt.api import with_samples

    loaded = load(model, size, pixels=pixels_from(options, size))
    network = loaded.network
    if options["samples"] is not None:
        say(f"counting zeros on {options['samples']}")
        network = with_samples(loaded, options["samples"]).network
    if not network.densities and not loaded.ref.pixels:
        return network, None
    plain = load(model, size).network
    return network, None if plain == network else plain  # a file may take bytes itself


def _collect_rows(
    swept: Iterable[dict[str, Any]], table: Path | None
) -> tuple[list[dict[str, Any]], bool]:
    """The rows until the end or Ctrl-C, each in the table's file at once, and whether it ended."""
    rows: list[dict[str, Any]] = []
    try:
        for row in swept:
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
    from nptp_opt.plot.figure_file import KINDS, write_figure_file
    from nptp_opt.plot.sweep_figure import draw_sweep

    for kind in KINDS[:2]:
        if options[kind] is not None:
            write_figure_file(draw_sweep(rows, axes, title), options[kind], kind)


def _print(content: dict[str, Any], *, as_json: bool) -> None:
    from nptp_opt.comparison.sweep import flat
    from nptp_opt.plot.terminal import print_rows

    print_json("sweep", content) if as_json else print_rows([flat(row) for row in content["rows"]])
