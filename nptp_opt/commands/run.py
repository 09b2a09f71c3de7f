"""``run``: a plan, executed and measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nptp_opt.commands.following import VOID, Following, run_line
from nptp_opt.commands.group import command, under
from nptp_opt.commands.interrupts import stoppable
from nptp_opt.commands.outputs import check_outputs
from nptp_opt.commands.progress import show_progress
from nptp_opt.commands.speech import say
from nptp_opt.commands.support import (
    FILE,
    executor_option,
    json_flag,
    load_planned,
    planned_weights_options,
    print_json,
)
from nptp_opt.errors import INTERRUPTED, ExecutionError, VerificationError
from nptp_opt.runtime.launcher.request import RUN, RunRequest

if TYPE_CHECKING:
    from nptp_opt.runtime.launcher.report import Run

SLOWER = f"{VOID}: `--dilate N` slows the emulated clock"


@command(example="run plan.json --emulate --repeats 20")
@click.argument("plan", type=FILE)
@under("Model", planned_weights_options)
@under(
    "Runs",
    click.option("--repeats", type=click.IntRange(min=1), default=RUN.repeats,
                 help="Measured runs."),
    click.option("--warmup", type=click.IntRange(min=0), default=RUN.warmup,
                 help="Runs before these."),
    click.option("--stream", type=click.IntRange(min=1),
                 help="So many inputs, without a warm-up."),
    click.option("--in-flight", type=click.IntRange(min=1), default=RUN.in_flight,
                 help="Inputs on the devices at a time."),
    click.option("--seed", type=int, default=RUN.seed, help="Seed of the inputs."),
)  # fmt: skip
@under(
    "Devices",
    click.option("--emulate", is_flag=True, help="One network namespace per device, at its rates."),
    click.option("--dilate", type=click.FloatRange(min=1), default=RUN.dilate,
                 help="With --emulate: have the cluster's clock so many times slower."),
    click.option("--hosts", metavar="ADDRESS:PORT",
                 help="Wait here for workers on other machines."),
    click.option("--cluster", type=FILE, show_default="the plan's",
                 help="With --hosts: cluster file with the addresses."),
    click.option("--secret-file", type=FILE, help="With --hosts: their secret."),
    click.option("--tls", type=FILE,
                 help="With --hosts: the launcher's certificate; everything goes over TLS."),
    click.option("--transport", type=click.Choice(["gloo", "tcp"]), help="How tensors travel.",
                 show_default="gloo; tcp with --emulate or --in-flight"),
    click.option("--throttle", type=click.Choice(["none", "pad", "cgroup"]),
                 help="Compute at the plan's speeds: by waiting (pad) or by CPU quotas.",
                 show_default="none; pad with --emulate"),
    executor_option("What computes on the devices.", "the fastest that is right, on each"),
    click.option("--threads", type=click.IntRange(min=1), default=RUN.threads,
                 help="Threads per device."),
    click.option("--elastic", is_flag=True, help="Plan again without a device that is lost."),
    click.option("--timeout", "timeout_s", type=click.FloatRange(min=1), default=RUN.timeout_s,
                 help="Seconds without a sign of life or progress."),
)  # fmt: skip
@under(
    "Output",
    click.option("--ndjson", type=FILE, help="Write a line of JSON per input, as it is done."),
    click.option("--trace", type=FILE, help="Write a Chrome trace (Perfetto)."),
    click.option("--calibrate", type=FILE,
                 help="Write the cluster (.json) with measured speeds."),
)  # fmt: skip
@json_flag
def run(
    plan: Path,
    weights: Path | None,
    allow_other_weights: bool,
    ndjson: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Execute PLAN with one process per device and measure the latency.

    The processes run on this machine, with --emulate in an emulated network; with --hosts on
    others, where `nptp-opt worker` was started (the cluster file gives each an address). Ctrl-C
    ends with the inputs so far. An emulated run on a machine too slow for it is VOID and ends
    with status 6.
    """
    from nptp_opt.plan.document import load_plan
    from nptp_opt.plot.tables import print_run, run_summary
    from nptp_opt.runtime.launcher.command import execute, write_files
    from nptp_opt.verification.static import require_right

    request = RunRequest(**options)
    check_outputs(request.trace, request.calibrate, ndjson, reads=(plan,))
    loaded = load_plan(plan)
    say(f"importing {loaded.model.ref}")
    model = load_planned(loaded, plan, weights, allow_other_weights)
    require_right(loaded, model.network, str(plan))
    with (
        stoppable("run") as stop,
        show_progress("running") as line,
        Following(ndjson, line.note) as follow,
    ):
        count = len(loaded.cluster.devices)

        def done(number: int, run: Run) -> None:
            follow.note(run_line(number, run), count - len(run.plan.cluster.devices))

        report = execute(loaded, model, request, line.say, done, stop.is_set)
    content = run_summary(report)
    void = request.emulate and report.is_void
    if void and not as_json:
        click.echo(SLOWER)
    print_json("run", content) if as_json else print_run(content)
    write_files(report, request)  # after what was measured is told: the disk may be full
    if not report.ok:
        raise VerificationError(f"{plan}: the executed output differs from the model's")
    if void:
        raise ExecutionError(f"{plan}: {SLOWER}")
    if stop.is_set():
        raise click.exceptions.Exit(INTERRUPTED)
