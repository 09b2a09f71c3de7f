"""``solve``: a plan for a model on a cluster, or a front of plans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from nptp_opt.cluster import TransferDtype
from nptp_opt.commands.completion import names_of
from nptp_opt.commands.group import command, under
from nptp_opt.commands.interrupts import stoppable
from nptp_opt.commands.outputs import check_outputs
from nptp_opt.commands.progress import show_progress
from nptp_opt.commands.speech import say
from nptp_opt.commands.support import (
    ObjectiveChoice,
    finite,
    gone_options,
    input_option,
    input_shape,
    json_flag,
    limit_options,
    limits_from,
    load,
    pixel_options,
    pixels_from,
    print_json,
    print_list,
    print_table,
    samples_option,
    weights_option,
)
from nptp_opt.cost.objectives import Objective
from nptp_opt.errors import INTERRUPTED, InfeasibleError
from nptp_opt.network.ref import spelled

if TYPE_CHECKING:
    from nptp_opt.network.ir import Network
    from nptp_opt.plan.model import Plan


MOST_WHOLE = 0.05
"""Share of the FLOP on one device at a time up to which nothing is said."""

POINTS = 9
"""Plans of --pareto at most where --points says nothing."""

FRONT_COLUMNS = ("plan", "latency_s", "bytes", "energy_j", "period_s", "segments")
"""Of a front of plans, the most important first."""


@command(example="solve vgg16 -c cluster.toml -o plan.json")
@click.argument("model", shell_complete=names_of("models", or_files=True))
@click.option("-c", "--cluster", type=click.Path(path_type=Path), required=True, help="TOML file.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Plan file.")
@under(
    "Model",
    input_option,
    weights_option,
    pixel_options,
    samples_option,
    click.option("--trust-import", is_flag=True,
                 help="Do not hold the imported network against the model first."),
)  # fmt: skip
@under(
    "What is wanted",
    click.option("--objective", type=ObjectiveChoice(get_args(Objective)), default="latency",
                 help="What the planner nptp minimises; energy needs the devices' watts (sending "
                 "is free without joules_per_byte)."),
    click.option("--latency-limit-ms", type=click.FloatRange(min=0, min_open=True),
                 callback=finite, help="Only plans of at most this latency.", show_default="none"),
    click.option("--pareto", metavar="A,B",
                 help="Plans between two objectives: OUTPUT.1.json, ..."),
    click.option("--points", type=click.IntRange(min=2), help="Most plans of --pareto.",
                 show_default=str(POINTS)),
    click.option("--transfer-dtype", type=click.Choice(get_args(TransferDtype)),
                 help="What feature maps are sent as.", show_default="the cluster file's"),
)  # fmt: skip
@under(
    "Search",
    click.option("--planner", default="nptp", shell_complete=names_of("planners"),
                 help="Planner or baseline."),
    click.option("--formulation", shell_complete=names_of("formulations"),
                 help="Formulation for the single layers.", show_default="the planner's"),
    limit_options("Seconds of search; a plan's bound is extra."),
    click.option("--no-bound", is_flag=True, help="Do not prove a bound on the latency."),
)  # fmt: skip
@gone_options
@json_flag
def solve(model: str, cluster: Path, output: Path, **options: Any) -> None:
    """Plan MODEL (a torchvision name, an .onnx file or module:callable) on a cluster."""
    from nptp_opt.api import hold_import, solve_with, with_samples
    from nptp_opt.cluster import load_cluster
    from nptp_opt.plan.document import numbered_paths, write_plan
    from nptp_opt.planner import check_planner
    from nptp_opt.planner.objective import check_objective
    from nptp_opt.planner.pareto import check_pareto, pareto_front, parse_pair
    from nptp_opt.plot.tables import solve_summary

    chosen = _plan_options(options)
    _refuse_unused(options)
    check_planner(chosen)
    pair = None if options["pareto"] is None else parse_pair(options["pareto"])
    devices = load_cluster(cluster).sending_as(options["transfer_dtype"])
    check_objective(devices, chosen.objective)
    points = options["points"] or POINTS
    reads = (cluster, model, *filter(None, (options["weights"],)))
    check_outputs(output, reads=reads)
    if pair is not None:
        check_pareto(devices, chosen, pair)
        check_outputs(*numbered_paths(output, points), reads=reads)
    shape = input_shape(options["shape"], model)
    pixels = pixels_from(options, shape)
    say(f"importing {model} at {spelled(shape)}")
    loaded = load(model, shape, options["seed"], options["weights"], pixels)
    if not options["trust_import"]:
        say(f"comparing with {loaded.witness.name}")
        hold_import(loaded, options["seed"])
    if options["samples"] is not None:
        say(f"counting zeros on {options['samples']}")
        loaded = with_samples(loaded, options["samples"])
    _warn_of_whole(loaded.network)
    count = len(devices.devices)
    say(f"planning {len(loaded.network.layers)} layers on {count} device{'s' * (count > 1)}")
    with stoppable() as stop, show_progress("planning") as line:
        chosen = replace(chosen, watch=line.fastest, tell=line.tell, stopped=stop.is_set)
        try:
            if pair is None:
                plan = solve_with(loaded, devices, chosen)
            else:
                front = pareto_front(loaded.ref, loaded.network, devices, chosen, pair, points)
        except InfeasibleError as error:
            raise InfeasibleError(f"{error}; {_how_to_ask(model, cluster, options)}") from None
    if pair is not None:
        _write_front(front, output, options["as_json"])
        return
    write_plan(plan, output)
    _say_who_is_idle(plan)
    summary = solve_summary(plan, output)
    print_json("solve", summary) if options["as_json"] else print_table(summary)
    if stop.is_set():
        raise click.exceptions.Exit(INTERRUPTED)


def _how_to_ask(model: str, cluster: Path, options: dict[str, Any]) -> str:
    """The command that says what would be enough."""
    limit_ms, shape = options["latency_limit_ms"], options["shape"]
    more = "" if shape is None else f" --input {shape}"
    more += "" if limit_ms is None else f" --latency-limit-ms {limit_ms:g}"
    return f"`nptp-opt explain {model} -c {cluster}{more}` plans what would be enough"


def _say_who_is_idle(plan: Plan) -> None:
    """One line where a search ended with one device alone, or left some out."""
    from nptp_opt.explanation.sentences import left_out

    if plan.provenance.planner == "single":  # that is what was asked for
        return
    if len(plan.computing) == 1 < len(plan.cluster.devices):
        name = plan.cluster.devices[plan.computing[0]].name
        say(
            f"not worth distributing: the best plan found computes on {name!r} alone; "
            "`nptp-opt explain` tells what faster links would change"
        )
        return
    for finding in left_out(plan):
        say(finding.text)


def _warn_of_whole(network: Network) -> None:
    """Say so where more than ``MOST_WHOLE`` of the work cannot be divided."""
    from nptp_opt.network.describe import whole_share

    share, _ = whole_share(network)
    if share > MOST_WHOLE:
        say(
            f"warning: {share:.0%} of the FLOP cannot be divided and run on one device at a time; "
            "`nptp-opt inspect` says which layers and why"
        )


def _write_front(front: Sequence[Plan], output: Path, as_json: bool) -> None:
    """Write the plans of a front; what is there beside them is not ours to delete, but is named."""
    from nptp_opt.plan.document import higher_numbered_paths, numbered_paths, write_plan
    from nptp_opt.plot.tables import solve_summary

    files = numbered_paths(output, len(front))
    for plan, path in zip(front, files, strict=True):
        write_plan(plan, path)
    for path in higher_numbered_paths(output, len(front)):
        say(f"{path}: is not of this front of {len(front)}; delete it if an earlier run left it")
    rows = [solve_summary(plan, path) for plan, path in zip(front, files, strict=True)]
    print_list("front", rows, as_json, FRONT_COLUMNS)


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
    given["bound"] = not options["no_bound"]
    if options["formulation"] is not None:
        given["formulation"] = options["formulation"]
    return PlanOptions(limits=limits_from(**options), **given)
