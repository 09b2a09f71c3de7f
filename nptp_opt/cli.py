"""The command line: thin click commands over the package (docs/cli.md).

Results go to stdout, progress and logs to stderr; ``--json`` prints exactly one JSON object.
"""

from __future__ import annotations

import logging
import math
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

import click

from nptp_opt import __version__
from nptp_opt.cluster import TransferDtype
from nptp_opt.commands import batch, runtime, sweep
from nptp_opt.commands.outputs import check_outputs
from nptp_opt.commands.progress import moving
from nptp_opt.commands.support import input_option, input_shape
from nptp_opt.commands.support import json_flag as _json
from nptp_opt.commands.support import load as _load
from nptp_opt.commands.support import print_json as _print_json
from nptp_opt.commands.support import say as _say
from nptp_opt.cost.objectives import Objective
from nptp_opt.errors import (
    INTERNAL,
    NoSolutionError,
    NptpError,
    VerificationError,
    internal_error,
)

if TYPE_CHECKING:
    from nptp_opt.plan.model import Plan

POINTS = 9
"""Plans of --pareto at most where --points says nothing."""

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""

CONTEXT = {"help_option_names": ["-h", "--help"], "show_default": True}
"""Of every command."""

Command = TypeVar("Command", bound=Callable[..., Any])


class _Group(click.Group):
    """Turns our errors into one line on stderr and their exit code, and any other exception into
    a line and a code of its own: 1 says that a plan was found wrong. With -v its traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except NptpError as error:
            click.echo(f"nptp-opt: {error}", err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:  # click's own status for it means a failed verification here
            click.echo("nptp-opt: interrupted", err=True)
            ctx.exit(INTERRUPTED)
        except (click.ClickException, click.Abort, click.exceptions.Exit, BrokenPipeError):
            raise  # click's own
        except Exception as error:  # noqa: BLE001 - nobody expected it
            if ctx.params["verbose"]:
                traceback.print_exception(error)
            click.echo(f"nptp-opt: {internal_error(error)}", err=True)
            ctx.exit(INTERNAL)


def _finite(_: click.Context, param: click.Parameter, value: float | None) -> float | None:
    if value is not None and math.isnan(value):
        raise click.BadParameter("must be a number", param=param)
    return value


def _options(*decorators: Callable[[Any], Any]) -> Callable[[Command], Command]:
    def apply(command: Command) -> Command:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return apply


def _limits(time_help: str) -> Callable[[Command], Command]:
    """Options of a search; what its time limit covers differs from command to command."""
    return _options(
        click.option("--solver", help="Solver for the formulation.", show_default="its first one"),
        click.option(
            "--time-limit", type=float, callback=_finite, help=time_help, show_default="none"
        ),
        click.option("--gap", type=float, default=1e-6, callback=_finite, help="Gap to prove."),
        click.option("--seed", type=int, default=0, help="Seed of solvers and weights."),
        click.option(
            "--threads", type=int, default=1, help="Threads per solver; 0 lets it choose."
        ),
    )


@click.group(cls=_Group, context_settings=CONTEXT)
@click.version_option(__version__, prog_name="nptp-opt")
@click.option("-v", "--verbose", count=True, help="More progress on stderr, and tracebacks.")
def main(verbose: int) -> None:
    """Optimal partitions of CNN inference over several devices: plan, prove, execute."""
    level = logging.WARNING - 10 * min(verbose, 2)
    logging.basicConfig(stream=sys.stderr, level=level, format="%(name)s: %(message)s")


def _limits_from(**options: Any) -> Any:
    from nptp_opt.layer.registry import Limits

    limit = options["time_limit"]
    return Limits(
        time_limit_s=math.inf if limit is None else limit,
        gap=options["gap"],
        seed=options["seed"],
        threads=options["threads"],
    )


@main.command()
@click.argument("model")
@click.option("-c", "--cluster", type=click.Path(path_type=Path), required=True, help="TOML file.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Plan file.")
@input_option
@click.option("--planner", default="nptp", help="Planner or baseline.")
@click.option("--formulation", help="Formulation for the single layers.",
              show_default="the planner's")  # fmt: skip
@click.option("--transfer-dtype", type=click.Choice(get_args(TransferDtype)),
              help="What feature maps are sent as.", show_default="the cluster file's")  # fmt: skip
@click.option("--objective", type=click.Choice(get_args(Objective)), default="latency",
              help="What the planner nptp minimises; energy needs the devices' watts (sending is "
              "free without joules_per_byte).")  # fmt: skip
@click.option("--latency-limit-ms", type=click.FloatRange(min=0, min_open=True), callback=_finite,
              help="Only plans of at most this latency.", show_default="none")  # fmt: skip
@click.option("--pareto", metavar="A,B", help="Plans between two objectives: OUTPUT.1.json, ...")
@click.option("--points", type=click.IntRange(min=2), help="Most plans of --pareto.",
              show_default=str(POINTS))  # fmt: skip
@click.option("--overlap", is_flag=True, help="Let segments compute while their halos travel.")
@click.option("--trust-import", is_flag=True,
              help="Do not hold the imported network against the model first.")  # fmt: skip
@_limits("Seconds of search; a plan's bound is extra.")
@_json
def solve(model: str, cluster: Path, output: Path, **options: Any) -> None:
    """Plan MODEL (a torchvision name, an .onnx file or module:callable) on a cluster."""
    from nptp_opt.cluster import load_cluster
    from nptp_opt.plan.document import numbered, write_plan
    from nptp_opt.plan.model import ModelRef
    from nptp_opt.planner import check_planner, plan_network
    from nptp_opt.planner.objective import check_objective
    from nptp_opt.planner.pareto import check_pareto, pareto_front, parse_pair
    from nptp_opt.plot.tables import solve_summary
    from nptp_opt.verification.import_check import check_import

    chosen = _plan_options(options)
    _refuse_unused(options)
    check_planner(chosen)
    pair = None if options["pareto"] is None else parse_pair(options["pareto"])
    devices = load_cluster(cluster).sending_as(options["transfer_dtype"])
    check_objective(devices, chosen.objective)
    points = options["points"] or POINTS
    check_outputs(output, reads=(cluster, model))
    if pair is not None:
        check_pareto(devices, chosen, pair)
        check_outputs(*numbered(output, points), reads=(cluster, model))
    shape = input_shape(options["shape"], model)
    _say(f"importing {model} at {'x'.join(map(str, shape))}")
    loaded = _load(model, shape, options["seed"])
    if not options["trust_import"]:
        _say(f"comparing with {loaded.witness.name}")
        check_import(loaded, options["seed"])
    _say(f"planning {len(loaded.network.layers)} layers on {len(devices.devices)} devices")
    reference = ModelRef(model, shape, options["seed"])
    with moving("planning") as line:
        chosen = replace(chosen, watch=line.fastest, tell=line.tell)
        given = (reference, loaded.network, devices, chosen)
        if pair is None:
            plan = plan_network(*given)
        else:
            front = pareto_front(*given, pair, points)
    if pair is not None:
        _write_front(front, output, options["as_json"])
        return
    write_plan(plan, output)
    summary = solve_summary(plan, output)
    _print_json(summary) if options["as_json"] else _print_table(summary)


def _write_front(front: Sequence[Plan], output: Path, as_json: bool) -> None:
    """Write the plans of a front; what is there beside them is not ours to delete, but is named."""
    from nptp_opt.plan.document import numbered, numbered_above, write_plan
    from nptp_opt.plot.tables import solve_summary

    files = numbered(output, len(front))
    for plan, path in zip(front, files, strict=True):
        write_plan(plan, path)
    for path in numbered_above(output, len(front)):
        _say(f"{path}: is not of this front of {len(front)}; delete it if an earlier run left it")
    rows = [solve_summary(plan, path) for plan, path in zip(front, files, strict=True)]
    _print_list("front", rows, as_json)


def _refuse_unused(options: dict[str, Any]) -> None:
    """Raise UsageError for options that would have no effect."""
    from nptp_opt.planner import PLANNERS

    if options["points"] is not None and options["pareto"] is None:
        raise click.UsageError("--points is for --pareto A,B; give both or neither")
    spec = PLANNERS.get(options["planner"])
    if spec is None:
        return
    if not spec.aims and options["objective"] != "latency":
        raise click.UsageError(
            f"--objective {options['objective']} is for the planner nptp: {spec.name} plans for "
            "the latency; leave one of them out (every plan states its bytes, energy and period)"
        )
    for name in ("formulation", "solver"):
        if not spec.solves and options[name] is not None:
            raise click.UsageError(
                f"--{name} is for the planners nptp and layerwise; {spec.name} does not use it"
            )


def _plan_options(options: dict[str, Any]) -> Any:
    from nptp_opt.planner import PlanOptions

    given = {"planner": options["planner"], "solver": options["solver"]}
    given["objective"] = options["objective"]
    if options["latency_limit_ms"] is not None:
        given["latency_limit_s"] = options["latency_limit_ms"] * 1e-3
    given["overlap"] = options["overlap"]
    if options["formulation"] is not None:
        given["formulation"] = options["formulation"]
    return PlanOptions(limits=_limits_from(**options), **given)


def _print_table(content: dict[str, Any]) -> None:
    from nptp_opt.plot.tables import print_pairs

    print_pairs(content)


@main.command()
@click.argument("model")
@input_option
@_json
def inspect(model: str, shape: str | None, as_json: bool) -> None:
    """Show MODEL as the planner sees it: layers, single-tensor cuts, what is gathered and why."""
    from nptp_opt.plot.tables import inspection, print_inspection

    given = input_shape(shape, model)
    _say(f"importing {model} at {'x'.join(map(str, given))}")
    content = inspection(_load(model, given).network)
    _print_json(content) if as_json else print_inspection(content)


@main.command("solve-layer")
@click.argument("instance", type=click.Path(path_type=Path))
@click.option("--formulation", default="auto", help="See `formulations`.")
@click.option("--export-mps", type=click.Path(path_type=Path), help="Write the model as MPS.")
@click.option("--export-lp", type=click.Path(path_type=Path), help="Write the model as LP.")
@_limits("Seconds of search.")
@_json
def solve_layer(instance: Path, formulation: str, **options: Any) -> None:
    """Solve one layer INSTANCE (JSON) with one formulation or method."""
    from nptp_opt.formulations import export_model
    from nptp_opt.instances.library import open_layer
    from nptp_opt.layer.result import Status
    from nptp_opt.layer.solve import solve_layer as solve_problem
    from nptp_opt.plot.tables import print_layer_result
    from nptp_opt.verification.layer_result import layer_result_to_json

    problem = open_layer(instance)
    limits = _limits_from(**options)
    kinds: tuple[Literal["mps", "lp"], ...] = ("mps", "lp")
    check_outputs(options["export_mps"], options["export_lp"], reads=(instance,))
    for kind in kinds:
        path = options[f"export_{kind}"]
        if path is not None:
            export_model(problem, formulation, path, kind)
    with moving(f"solving by {formulation}"):
        result = solve_problem(problem, formulation, solver=options["solver"], limits=limits)
    content = layer_result_to_json(problem, result)
    _print_json(content) if options["as_json"] else print_layer_result(content)
    if result.status == Status.NO_SOLUTION:
        raise NoSolutionError(
            f"{formulation}: no solution within {limits.time_limit_s} s; raise --time-limit"
        )


@main.command()
@click.argument("instance", type=click.Path(path_type=Path))
@click.argument("result", type=click.Path(path_type=Path))
@_json
def check(instance: Path, result: Path, as_json: bool) -> None:
    """Price a RESULT (as `solve-layer --json` prints it) of INSTANCE without any solver."""
    from nptp_opt.instances.library import open_layer
    from nptp_opt.verification.layer_result import check_result

    faults, makespan_s = check_result(open_layer(instance), result)
    content = {"ok": not faults, "makespan_s": makespan_s, "faults": faults}
    _print_json(content) if as_json else _print_table(content)
    if faults:
        raise VerificationError(f"{result}: {faults[0]}")


@main.command()
@click.argument("plan", type=click.Path(path_type=Path))
@click.option("--seed", type=int, default=0, help="Seed of the input.")
@_json
def verify(plan: Path, seed: int, as_json: bool) -> None:
    """Prove in torch that PLAN computes the same tensors as the unpartitioned model."""
    from nptp_opt.plan.document import read_plan
    from nptp_opt.verification.torch_check import verify_plan

    read, stale = read_plan(plan)
    _say(f"verifying {read.model.ref} on {len(read.cluster.devices)} devices")
    model = _load(read.model.ref, read.model.input, read.model.seed)
    with moving("comparing with the model"):
        report = verify_plan(read, model, stale=stale, seed=seed)
    content = report.to_json()
    table = {key: value for key, value in content.items() if key != "layer_max_rel_error"}
    _print_json(content) if as_json else _print_table(table)
    if not report.ok:
        raise VerificationError(f"{plan}: {report.faults[0]}")


@main.command()
@click.argument("plan", type=click.Path(path_type=Path))
@click.option("--png", type=click.Path(path_type=Path), help="Draw the partitions to a PNG.")
@click.option("--svg", type=click.Path(path_type=Path), help="Draw the partitions to an SVG.")
@click.option("--html", type=click.Path(path_type=Path), help="Write a self-contained page.")
@_json
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
        _print_json({**plan_totals(loaded), "segments": plan_rows(loaded)})
    else:
        print_plan(loaded)


@main.command()
@_json
def formulations(as_json: bool) -> None:
    """List the formulations and search methods for one layer."""
    from dataclasses import asdict

    from nptp_opt.layer.registry import specs
    from nptp_opt.layer.solve import solve_layer as _registers_all  # noqa: F401

    _print_list("formulations", [asdict(spec) for spec in specs()], as_json)


@main.command()
@_json
def planners(as_json: bool) -> None:
    """List the planners for whole networks, baselines included."""
    from nptp_opt.planner import PLANNERS

    rows = [{"name": spec.name, "summary": spec.summary} for spec in PLANNERS.values()]
    _print_list("planners", rows, as_json)


@main.command()
@_json
def solvers(as_json: bool) -> None:
    """List the solvers and what each can do."""
    from nptp_opt.solvers import listing

    _print_list("solvers", listing(), as_json)


@main.command()
@_json
def versions(as_json: bool) -> None:
    """Print the versions that a bug report needs."""
    from nptp_opt.plot.tables import version_rows

    content = version_rows()
    _print_json({"versions": content}) if as_json else _print_table(content)


def _print_list(name: str, rows: list[dict[str, Any]], as_json: bool) -> None:
    from nptp_opt.plot.tables import print_rows

    _print_json({name: rows}) if as_json else print_rows(rows)


_BATCH = (batch.instances, batch.compare, batch.report)
_RUNTIME = (runtime.run, runtime.worker, runtime.profile, runtime.emulate)

for _command in (*_BATCH, *_RUNTIME, sweep.sweep):
    main.add_command(_command)


if __name__ == "__main__":
    main()
