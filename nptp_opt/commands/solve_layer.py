"""``solve-layer``: one layer instance, one method."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import click

from nptp_opt.commands.completion import names_of
from nptp_opt.commands.group import command
from nptp_opt.commands.outputs import check_outputs
from nptp_opt.commands.progress import show_progress
from nptp_opt.commands.support import (
    json_flag,
    limit_options,
    limits_from,
    print_json,
)
from nptp_opt.errors import NoSolutionError


@command("solve-layer", example="solve-layer instance.json --formulation cover --json")
@click.argument("instance", type=click.Path(path_type=Path))
@click.option("--formulation", default="auto", help="See `formulations`.",
              shell_complete=names_of("formulations"))  # fmt: skip
@click.option("--export-mps", type=click.Path(path_type=Path), help="Write the model as MPS.")
@click.option("--export-lp", type=click.Path(path_type=Path), help="Write the model as LP.")
@limit_options("Seconds of search.")
@json_flag
def solve_layer(instance: Path, formulation: str, **options: Any) -> None:
    """Solve one layer INSTANCE (JSON) with one formulation or method."""
    from nptp_opt.formulations import export_model
    from nptp_opt.instances.library import open_layer
    from nptp_opt.layer.result import Status
    from nptp_opt.layer.solve import solve_layer as solve_problem
    from nptp_opt.plot.tables import print_layer_result
    from nptp_opt.verification.layer_result import layer_result_to_json

    problem = open_layer(instance)
    limits = limits_from(**options)
    kinds: tuple[Literal["mps", "lp"], ...] = ("mps", "lp")
    check_outputs(options["export_mps"], options["export_lp"], reads=(instance,))
    for kind in kinds:
        path = options[f"export_{kind}"]
        if path is not None:
            export_model(problem, formulation, path, kind)
    with show_progress(f"solving by {formulation}"):
        result = solve_problem(problem, formulation, solver=options["solver"], limits=limits)
    content = layer_result_to_json(problem, result)
    print_json("solve-layer", content) if options["as_json"] else print_layer_result(content)
    if result.status == Status.NO_SOLUTION:
        raise NoSolutionError(
            f"{formulation}: no solution within {limits.time_limit_s} s; raise --time-limit"
        )
