"""Commands of the runtime: run, worker, profile, emulate."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

import click

from nptp_opt.commands.outputs import check_outputs
from nptp_opt.commands.support import input_option, input_shape, json_flag, load, print_json, say
from nptp_opt.errors import VerificationError

FILE = click.Path(path_type=Path)


@click.command()
@click.argument("plan", type=FILE)
@click.option("--repeats", type=click.IntRange(min=1), default=10, help="Measured runs.")
@click.option("--warmup", type=click.IntRange(min=0), default=2, help="Runs before these.")
@click.option("--stream", type=click.IntRange(min=1), help="So many inputs, without a warm-up.")
@click.option("--timeout", "timeout_s", type=click.FloatRange(min=1), default=30.0,
              help="Seconds without a sign of life or progress.")  # fmt: skip
@click.option("--threads", type=click.IntRange(min=1), default=1, help="Threads per device.")
@click.option("--seed", type=int, default=0, help="Seed of the inputs.")
@click.option("--emulate", is_flag=True, help="One network namespace per device, at its rates.")
@click.option("--transport", type=click.Choice(["gloo", "tcp"]),
              help="How tensors travel.", show_default="gloo; tcp with --emulate")  # fmt: skip
@click.option("--throttle", type=click.Choice(["none", "pad", "cgroup"]),
              help="Compute at the plan's speeds: by waiting (pad) or by CPU quotas.",
              show_default="none; pad with --emulate")  # fmt: skip
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
    from nptp_opt.runtime.launcher.command import RunRequest, execute
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


@click.command()
@click.option("--connect", required=True, metavar="ADDRESS:PORT", help="As given to run --hosts.")
@click.option("--name", required=True, help="The device's name in the cluster file.")
@click.option("--secret-file", type=FILE, required=True, help="The same file as run's.")
@click.option("--interface", default="", help="The only address to bind.",
              show_default="the cluster file's")  # fmt: skip
def worker(connect: str, name: str, secret_file: Path, interface: str) -> None:
    """Be one device of a run on several machines, until that run ends."""
    from nptp_opt.runtime.worker.start import become_worker

    become_worker(connect, name, secret_file, interface)


@click.command()
@click.argument("model")
@click.option("-o", "--output", type=FILE, required=True, help="Profile file (JSON).")
@input_option
@click.option("--threads", type=click.IntRange(min=1), default=1, help="As runs will have.")
@click.option("--repeats", type=click.IntRange(min=1), default=5, help="Measurements of a tile.")
@click.option("--serve", metavar="ADDRESS:PORT", help="Also answer a peer that measures the link.")
@click.option("--peer", metavar="ADDRESS:PORT", help="Also measure the link to a peer that serves.")
@click.option("--secret-file", type=FILE, help="With --serve and --peer: what both know.")
@json_flag
def profile(model: str, output: Path, shape: str | None, as_json: bool, **options: Any) -> None:
    """Measure how fast this device computes MODEL's layers, and its link to a peer.

    A cluster file names the result instead of gflops: profile = "pi-0.profile.json". On a switched
    network it stands for the link's rates, too, if they were measured.
    """
    from nptp_opt.cluster.profiles import write_profile
    from nptp_opt.plot.tables import print_rows
    from nptp_opt.runtime.profiling.profile import ProfileRequest, make_profile

    check_outputs(output, reads=(model,))
    request = ProfileRequest(input_shape(shape, model), **options)
    with contextlib.redirect_stdout(sys.stderr):  # as for ``load``
        found = make_profile(model, request, say)
    write_profile(found, output)
    content = found.to_json()
    print_json(content) if as_json else print_rows(content["layers"])


@click.command()
@click.option("--clean", is_flag=True, required=True, help="Remove leftovers of killed runs.")
@json_flag
def emulate(clean: bool, as_json: bool) -> None:
    """Remove what a run that was killed with kill -9 has left on this machine.

    Emulated networks end with their processes; a run's folder in the temporary folder can stay.
    """
    from nptp_opt.plot.tables import print_pairs
    from nptp_opt.runtime.launcher.leftovers import clean_leftovers

    content = clean_leftovers().to_json()
    print_json(content) if as_json else print_pairs(content)
