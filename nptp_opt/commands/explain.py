"""``explain``: why a plan takes as long as it does, or a request has no plan; and what helps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from nptp_opt.cluster import TransferDtype
from nptp_opt.commands.completion import names_of
from nptp_opt.commands.group import command
from nptp_opt.commands.progress import show_progress
from nptp_opt.commands.speech import say
from nptp_opt.commands.support import (
    FILE,
    finite,
    input_option,
    input_shape,
    json_flag,
    load,
    pixel_options,
    pixels_from,
    print_json,
)

if TYPE_CHECKING:
    from nptp_opt.explanation.sentences import Finding

OF_REQUESTS = (
    "shape", "latency_limit_ms", "transfer_dtype", "scale", "mean", "std", "input_dtype"
)  # fmt: skip


@command(example="explain plan.json")
@click.argument("what", metavar="PLAN|MODEL",
                shell_complete=names_of("models", or_files=True))  # fmt: skip
@click.option("--no-what-if", is_flag=True, help="Of a plan: plan no other cluster.")
@click.option("-c", "--cluster", type=FILE, help="What is given is a model: explain the request.")
@input_option
@click.option("--latency-limit-ms", type=click.FloatRange(min=0, min_open=True), callback=finite,
              help="Of a request: its plans may take so long.", show_default="none")  # fmt: skip
@click.option("--transfer-dtype", type=click.Choice(get_args(TransferDtype)),
              help="What feature maps are sent as.", show_default="the cluster file's")  # fmt: skip
@pixel_options
@json_flag
def explain(what: str, no_what_if: bool, cluster: Path | None, **options: Any) -> None:
    """Say in sentences what PLAN's time goes to, what waits for what, and what would help.

    What would help is planned, not guessed: faster links, faster devices, one more device, int8
    transfers. With --cluster, say of a request of `solve` whether MODEL has a plan there, and if
    not, the smallest change that is found to be enough: more memory, a later limit, faster links
    or devices, more devices.
    """
    as_json = options.pop("as_json")
    if cluster is None:
        _refuse(options)
        about = {"plan": what, "model": None, "cluster": None}
        found = _of_plan(Path(what), no_what_if)
    else:
        if no_what_if:
            raise click.UsageError("--no-what-if is for a plan, --cluster for a request: choose")
        about = {"plan": None, "model": what, "cluster": str(cluster)}
        found = _of_request(what, cluster, options)
    told = _tell(found, as_json)
    if as_json:
        print_json("explain", {**about, "findings": [finding.to_json() for finding in told]})


def _refuse(options: dict[str, Any]) -> None:
    """Raise UsageError for options that would have no effect."""
    given = [name for name in OF_REQUESTS if options[name] not in (None, ())]
    if given:
        name = "--input" if given[0] == "shape" else f"--{given[0].replace('_', '-')}"
        raise click.UsageError(f"{name} is for a request: give MODEL and --cluster FILE")


def _tell(found: Iterable[Finding], as_json: bool) -> list[Finding]:
    """Each as soon as it is known."""
    from nptp_opt.plot.terminal import print_text

    told = []
    for finding in found:
        told.append(finding)
        if not as_json:
            print_text(finding.text)
    return told


def _of_plan(path: Path, no_what_if: bool) -> Iterator[Finding]:
    from nptp_opt.explanation.sentences import answered, findings
    from nptp_opt.explanation.what_if import answers, questions
    from nptp_opt.plan.document import load_plan

    plan = load_plan(path)
    yield from findings(plan)
    if not no_what_if:
        say(f"planning {len(questions(plan))} other clusters, to say what would help")
        with show_progress("planning") as line:
            for answer in answers(plan, line.note):
                yield answered(plan, answer)


def _of_request(ref: str, cluster: Path, options: dict[str, Any]) -> Iterator[Finding]:
    from nptp_opt.cluster import load_cluster
    from nptp_opt.explanation.request import request_findings

    devices = load_cluster(cluster).sending_as(options["transfer_dtype"])
    say(f"importing {ref}")
    shape = input_shape(options["shape"], ref)
    model = load(ref, shape, pixels=pixels_from(options, shape))
    limit_ms = options["latency_limit_ms"]
    limit_s = math.inf if limit_ms is None else limit_ms * 1e-3
    with show_progress("planning the request, then others"):
        yield from request_findings(model.ref, model.network, devices, limit_s)
