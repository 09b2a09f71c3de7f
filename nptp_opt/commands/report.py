"""``report``: tables and pages of a results file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nptp_opt.commands.group import command
from nptp_opt.commands.outputs import check_outputs
from nptp_opt.commands.speech import say
from nptp_opt.commands.support import (
    FILE,
    json_flag,
    print_json,
)
from nptp_opt.errors import InputError

REPEATS = 5


@command(example="report results.sqlite --html report.html")
@click.argument("results", type=FILE)
@click.option("--html", type=FILE, help="Write a self-contained page.")
@click.option("--csv", type=FILE, help="Write one line per run.")
@click.option("--markdown", type=FILE, help="Write the tables.")
@click.option("--figures", type=FILE, metavar="FOLDER",
              help="Write profiles, convergence and latencies as SVG and PDF.")  # fmt: skip
@click.option("--baseline", help="Contender to compare with, as the tables name it.")
@click.option("--against", help="Contender that is compared with the baseline.")
@click.option("--execute", is_flag=True, help="Run the planners' plans and add their latencies.")
@click.option("--emulate", is_flag=True, help="With --execute: on emulated clusters (`run`).")
@click.option("--repeats", type=click.IntRange(min=1), help="With --execute: runs of a plan.",
              show_default=str(REPEATS))  # fmt: skip
@json_flag
def report(
    results: Path,
    as_json: bool,
    execute: bool,
    emulate: bool,
    repeats: int | None,
    **options: Any,
) -> None:
    """Tables, profiles and figures of a results file; contradictions come first.

    --execute runs every plan once per results file; measured latencies stay in the file.
    """
    from nptp_opt.comparison.command import make_report, print_report
    from nptp_opt.comparison.execute import Request

    if (emulate or repeats) and not execute:
        raise InputError("--emulate and --repeats belong to --execute")
    request = Request(emulate=emulate, repeats=repeats or REPEATS) if execute else None
    check_outputs(options["html"], options["csv"], options["markdown"], reads=(results,))
    figures = options.pop("figures")
    content = make_report(results, **options, request=request, say=say)
    if figures is not None:
        from nptp_opt.plot.report_figures import write_run_figures

        write_run_figures(results, figures)
    print_json("report", content) if as_json else print_report(content)
