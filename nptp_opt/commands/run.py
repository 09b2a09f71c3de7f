"""``run``: a plan, executed and measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nptp_opt.commands.outputs import check_outputs
from nptp_opt.commands.support import (
    FILE,
    executor_option,
    json_flag,
    load,
    print_json,
    say,
)
from nptp_opt.errors import VerificationError
from nptp_opt.runtime.launcher.request import RUN, RunRequest

if TYPE_CHECKING:
    pass


@click.command()
@click.argument("plan", type=FILE)
@click.option("--repeats", type=click.IntRange(min=1), default=RUN.repeats, help="Measured runs.")
@click.option("--warmup", type=click.IntRange(min=0), default=RUN.warmup, help="Runs before these.")
@click.option("--stream", type=click.IntRange(min=1), help="So many inputs, without a warm-up.")
@click.option("--timeout", "timeout_s", type=click.FloatRange(min=1), default=RUN.timeout_s,
              help="Seconds without a sign of life or progress.")  # fmt: skip
@click.option(
    "--threads", type=click.IntRange(min=1), default=RUN.threads, help="Threads per device."
)
@click.option("--seed", type=int, default=RUN.seed, help="Seed of the inputs.")
@click.option("--emulate", is_flag=True, help="One network namespace per device, at its rates.")
@click.option("--transport", type=click.Choice(["gloo", "tcp"]),
              help="How tensors travel.", show_default="gloo; tcp with --emulate")  # fmt: skip
@click.option("--throttle", type=click.Choice(["none", "pad", "cgroup"]),
              help="Compute at the plan's speeds: by waiting (pad) or by CPU quotas.",
              show_default="none; pad with --emulate")  # fmt: skip
@executor_option("What computes on the devices.", "the fastest that is right, on each")
@click.option("--elastic", is_flag=True, help="Plan again without a device that is lost.")
@click.option("--trace", type=FILE, help="Write a Chrome trace (Perfetto).")
@click.option("--calibrate", type=FILE, help="Write the cluster (.json) with measured speeds.")
@click.option("--hosts", metavar="ADDRESS:PORT", help="Wait here for workers on other machines.")
@click.option("--secret-file", type=FILE, help="With --hosts: their secret.")
@json_flag
def run(plan: Path, as_json: bool, **options: Any) -> None:
    """Execute PLAN with one process per device and measure the latency.

    The processes run on this machine, with --emulate in an emulated network; with --hosts on
    others, where `nptp-opt worker` was started (the cluster file gives each an address).
    """
    from nptp_opt.plan.document import load_plan
    from nptp_opt.plot.tables import print_run, run_summary
    from nptp_opt.runtime.launcher.command import execute
    from nptp_opt.verification.static import require_right

    request = RunRequest(**options)
    check_outputs(request.trace, request.calibrate, reads=(plan,))
    loaded = load_plan(plan)
    say(f"importing {loaded.model.ref}")
    model = load(loaded.model.ref, loaded.model.input, loaded.model.seed)
    require_right(loaded, model.network, str(plan))
    report = execute(loaded, model, request, say)
    content = run_summary(report)
    print_json(content) if as_json else print_run(content)
    if not report.ok:
        raise VerificationError(f"{plan}: the executed output differs from the model's")
