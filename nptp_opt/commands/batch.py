"""Commands of the instance library and of batch comparison: instances, compare, report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import click

from nptp_opt.cluster import TransferDtype
from nptp_opt.commands.outputs import check_outputs
from nptp_opt.commands.support import json_flag, print_json, say
from nptp_opt.cost.objectives import Objective
from nptp_opt.errors import InputError

FILE = click.Path(path_type=Path)
OVERLAP = {None: (), "no": (False,), "yes": (True,), "both": (False, True)}
REPEATS = 5

_tag = click.option("--tag", "tags", multiple=True, help="Only with this tag; may be repeated.")
_name = click.option("--name", "names", default="*", help="Pattern of names.")


@click.group()
def instances() -> None:
    """The library of layer and network instances; their names stand for files anywhere."""


@instances.command("list")
@_tag
@_name
@json_flag
def list_instances(tags: tuple[str, ...], names: str, as_json: bool) -> None:
    """List instances with grade, best known value and proven bound."""
    from nptp_opt.instances import library
    from nptp_opt.plot.tables import print_rows

    rows = [library.row(entry) for entry in library.select(tags, names)]
    print_json({"instances": rows}) if as_json else print_rows(rows)


@instances.command("show")
@click.argument("name")
@json_flag
def show_instance(name: str, as_json: bool) -> None:
    """Print one instance as its file would be."""
    from nptp_opt.instances import library

    content = library.problem_to_json(library.open_instance(name))
    print_json(content) if as_json else click.echo(json.dumps(content, indent=1))


@instances.command("export")
@_tag
@_name
@click.option("-o", "--output", type=FILE, required=True, help="Folder; it is made if need be.")
@json_flag
def export_instances(tags: tuple[str, ...], names: str, output: Path, as_json: bool) -> None:
    """Write instances as files."""
    from nptp_opt.files import write_text
    from nptp_opt.instances import library

    files = library.export(library.select(tags, names))
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{output}: cannot be made a folder: {error.strerror}") from None
    for name, content in files.items():
        write_text(output / name, json.dumps(content, indent=1) + "\n")
    written = {"folder": str(output), "files": len(files)}
    print_json(written) if as_json else click.echo(f"{len(files)} files in {output}")


@instances.command("generate")
@click.option("-o", "--output", type=FILE, required=True, help="Library file to write.")
@json_flag
def generate_instances(output: Path, as_json: bool) -> None:
    """Make the library anew from the models; needs torchvision, takes about 15 s."""
    from nptp_opt.files import write_text
    from nptp_opt.instances.generate import generate, to_text

    check_outputs(output)
    content = generate()
    write_text(output, to_text(content))
    written = {"library": str(output), "instances": len(content["instances"])}
    print_json(written) if as_json else click.echo(f"{written['instances']} in {output}")


@click.command()
@click.argument("spec", type=FILE, required=False)
@click.option("-o", "--output", type=FILE, required=True, help="Results file (SQLite).")
@click.option("--instance", "instances", multiple=True, help="File, library name or pattern.")
@_tag
@click.option("--formulation", "formulations", multiple=True, help="For layer instances.")
@click.option("--planner", "planners", multiple=True, help="For network instances.")
@click.option("--solver", "solvers", multiple=True, help="Name, `default` or `all`.",
              show_default="default")  # fmt: skip
@click.option("--objective", "objectives", type=click.Choice(get_args(Objective)), multiple=True,
              help="Of the planner nptp.", show_default="latency")  # fmt: skip
@click.option("--transfer-dtype", "transfer_dtypes", type=click.Choice(get_args(TransferDtype)),
              multiple=True, help="What planners' feature maps are sent as.",
              show_default="the cluster's")  # fmt: skip
@click.option("--overlap", type=click.Choice(["no", "yes", "both"]),
              callback=lambda *given: OVERLAP[given[-1]],
              help="Let planners' segments compute while halos travel.",
              show_default="no")  # fmt: skip
@click.option("--latency-limit-ms", type=float, help="Of every planner's plan.",
              show_default="none")  # fmt: skip
@click.option("--seed", "seeds", type=int, multiple=True, help="Seed of a method; repeatable.",
              show_default="0")  # fmt: skip
@click.option("--time-limit", "time_limits_s", type=float, multiple=True, show_default="60",
              help="Seconds per run; repeatable.")  # fmt: skip
@click.option("--memory", "memory_mib", type=float, help="MiB per run.", show_default="4096")
@click.option("--workers", type=click.IntRange(min=1), help="Runs at a time.",
              show_default="all cores")  # fmt: skip
@click.option("--retry", type=click.Choice(["failed"]), help="Do these runs again.")
@click.option("--scheduler", help="Dask scheduler (tcp://HOST:8786), or `local` for its own.")
@click.option("--tls-ca-file", help="Dask's TLS: authority.")
@click.option("--tls-cert", help="Dask's TLS: certificate.")
@click.option("--tls-key", help="Dask's TLS: key.")
@json_flag
def compare(spec: Path | None, output: Path, as_json: bool, **options: Any) -> None:
    """Run every instance with every method, solver, seed and limit of SPEC (TOML) or the options.

    Finished runs are in the results file at once; started again, only the others are done.
    """
    from nptp_opt.comparison.command import comparison
    from nptp_opt.plot.tables import print_pairs

    check_outputs(output, reads=filter(None, (spec,)))
    content = comparison(spec, output, options, say)
    print_json(content) if as_json else print_pairs(content)


@click.command()
@click.argument("results", type=FILE)
@click.option("--html", type=FILE, help="Write a self-contained page.")
@click.option("--csv", type=FILE, help="Write one line per run.")
@click.option("--markdown", type=FILE, help="Write the tables.")
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
    from nptp_opt.comparison.command import print_report, reported
    from nptp_opt.comparison.execute import Request

    if (emulate or repeats) and not execute:
        raise InputError("--emulate and --repeats belong to --execute")
    request = Request(emulate=emulate, repeats=repeats or REPEATS) if execute else None
    check_outputs(options["html"], options["csv"], options["markdown"], reads=(results,))
    content = reported(results, **options, request=request, say=say)
    print_json(content) if as_json else print_report(content)
