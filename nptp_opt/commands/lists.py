"""What there is: ``formulations``, ``planners``, ``solvers``, ``executors``, ``versions``."""

from __future__ import annotations

from nptp_opt.commands.group import command
from nptp_opt.commands.support import (
    json_flag,
    print_json,
    print_list,
    print_table,
)


@command(example="formulations")
@json_flag
def formulations(as_json: bool) -> None:
    """List the formulations and search methods for one layer."""

    from nptp_opt.layer.registry import specs
    from nptp_opt.layer.solve import solve_layer as _registers_all  # noqa: F401

    rows = [spec.to_json() for spec in specs()]
    print_list("formulations", rows, as_json, ("name", "summary", "family", "solvers"))


@command(example="planners")
@json_flag
def planners(as_json: bool) -> None:
    """List the planners for whole networks, baselines included."""
    from nptp_opt.planner import PLANNERS

    rows = [{"name": spec.name, "summary": spec.summary} for spec in PLANNERS.values()]
    print_list("planners", rows, as_json)


@command(example="solvers")
@json_flag
def solvers(as_json: bool) -> None:
    """List the solvers and what each can do."""
    from nptp_opt.solvers import listing

    print_list("solvers", listing(), as_json)


@command(example="executors")
@json_flag
def executors(as_json: bool) -> None:
    """List the engines that compute tile programs."""
    from nptp_opt.kernels.executors import listing

    print_list("executors", listing(), as_json)


@command(example="versions")
@json_flag
def versions(as_json: bool) -> None:
    """Print the versions that a bug report needs."""
    from nptp_opt.plot.tables import version_rows

    content = version_rows()
    print_json("versions", {"versions": content}) if as_json else print_table(content)
