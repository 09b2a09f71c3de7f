"""``compare``: batches of instance x method x seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import click

from nptp_opt.cluster import TransferDtype
from nptp_opt.commands.completion import names_of
from nptp_opt.commands.group import command, under
from nptp_opt.commands.outputs import check_outputs
from nptp_opt.commands.speech import say
from nptp_opt.commands.support import (
    FILE,
    ObjectiveChoice,
    gone_options,
    json_flag,
    print_json,
    tag_option,
)
from nptp_opt.comparison.planning import Encodings
from nptp_opt.cost.objectives import Objective


@command(example="compare -o results.sqlite --tag easy --formulation strip")
@click.argument("spec", type=FILE, required=False)
@click.option("-o", "--output", type=FILE, required=True, help="Results file (SQLite).")
@under(
    "What is run",
    click.option("--instance", "instances", multiple=True, help="File, library name or pattern.",
                 shell_complete=names_of("instances")),
    tag_option,
    click.option("--formulation", "formulations", multiple=True, help="For layer instances.",
                 shell_complete=names_of("formulations")),
    click.option("--planner", "planners", multiple=True, help="For network instances.",
                 shell_complete=names_of("planners")),
    click.option("--solver", "solvers", multiple=True, help="Name, `default` or `all`.",
                 shell_complete=names_of("solvers"), show_default="default"),
    click.option("--objective", "objectives", type=ObjectiveChoice(get_args(Objective)),
                 multiple=True, help="Of the planner nptp.", show_default="latency"),
    click.option("--transfer-dtype", "transfer_dtypes", type=click.Choice(get_args(TransferDtype)),
                 multiple=True, help="What planners' feature maps are sent as.",
                 show_default="the cluster's"),
    click.option("--encodings", type=click.Choice(get_args(Encodings)), multiple=True,
                 help="Pixels and densities as network instances give them, or all dense.",
                 show_default="given"),
    click.option("--latency-limit-ms", type=float, help="Of every planner's plan.",
                 show_default="none"),
    click.option("--seed", "seeds", type=int, multiple=True, help="Seed of a method; repeatable.",
                 show_default="0"),
)  # fmt: skip
@under(
    "Limits of a run",
    click.option("--time-limit", "time_limits_s", type=float, multiple=True, show_default="60",
                 help="Seconds per run; repeatable."),
    click.option("--memory", "memory_mib", type=float, help="MiB per run.", show_default="4096"),
)  # fmt: skip
@under(
    "Where it runs",
    click.option("--workers", type=click.IntRange(min=1), help="Runs at a time.",
                 show_default="all cores"),
    click.option("--retry", type=click.Choice(["failed"]), help="Do these runs again."),
    click.option("--scheduler",
                 help="Dask scheduler (tcp://HOST:8786), or `local` for its own."),
    click.option("--tls-ca-file", help="Dask's TLS: authority."),
    click.option("--tls-cert", help="Dask's TLS: certificate."),
    click.option("--tls-key", help="Dask's TLS: key."),
)  # fmt: skip
@gone_options
@json_flag
def compare(spec: Path | None, output: Path, as_json: bool, **options: Any) -> None:
    """Run every instance with every method, solver, seed and limit of SPEC (TOML) or the options.

    Finished runs are in the results file at once; started again, only the others are done.
    """
    from nptp_opt.comparison.command import comparison
    from nptp_opt.plot.terminal import print_pairs

    check_outputs(output, reads=filter(None, (spec,)))
    content = comparison(spec, output, options, say)
    print_json("compare", content) if as_json else print_pairs(content)
