"""``verify``: does a plan compute what the model computes?"""

from __future__ import annotations

from pathlib import Path

import click

from nptp_opt.commands.group import command
from nptp_opt.commands.progress import show_progress
from nptp_opt.commands.speech import say
from nptp_opt.commands.support import (
    executor_option,
    json_flag,
    load_planned,
    planned_weights_options,
    print_json,
    print_table,
)
from nptp_opt.errors import VerificationError


@command(example="verify plan.json")
@click.argument("plan", type=click.Path(path_type=Path))
@click.option("--seed", type=int, default=0, help="Seed of the input.")
@click.option("--bound", is_flag=True, help="Compute the plan's bound again, too.")
@planned_weights_options
@executor_option("Whose tile programs are verified, beside torch.", "the one that run would take")
@json_flag
def verify(
    plan: Path,
    seed: int,
    bound: bool,
    weights: Path | None,
    allow_other_weights: bool,
    executor: str | None,
    as_json: bool,
) -> None:
    """Prove that PLAN computes the same tensors as the unpartitioned model.

    In torch, layer by layer, in float32 and float64; then every tile program by the executor.
    """
    from nptp_opt.api import verify_executed
    from nptp_opt.kernels.executors import require
    from nptp_opt.plan.document import read_plan

    if executor is not None:
        require(executor)
    read, stale = read_plan(plan)
    say(f"verifying {read.model.ref} on {len(read.cluster.devices)} devices")
    model = load_planned(read, plan, weights, allow_other_weights)
    with show_progress("comparing with the model"):
        report = verify_executed(read, model, executor, stale=stale, seed=seed, bound=bound)
    for note in report.executed.notes if report.executed else ():
        say(note)
    content = report.to_json()
    table = {key: value for key, value in content.items() if key != "layer_max_rel_error"}
    print_json("verify", content) if as_json else print_table(table)
    if not report.ok:
        raise VerificationError(f"{plan}: {report.faults[0]}")
