"""What the commands share that deploy a plan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nptp_opt.commands.group import under
from nptp_opt.commands.speech import say
from nptp_opt.commands.support import (
    FILE,
    Command,
    executor_option,
    load_planned,
    planned_weights_options,
    together,
)
from nptp_opt.deployment.request import (
    DEPLOY,
    EMULATED,
    LOCAL,
    DeployRequest,
    DriftLimits,
)
from nptp_opt.errors import InputError

if TYPE_CHECKING:
    from nptp_opt.network.load import LoadedModel
    from nptp_opt.plan.model import Plan


_DEVICES = (
    click.option("--in-flight", type=click.IntRange(min=1), default=DEPLOY.in_flight,
                 help="Inputs on the devices at a time."),
    click.option("--emulate", is_flag=True,
                 help="One network namespace per device, at the plan's rates and speeds."),
    click.option("--hosts", metavar="ADDRESS:PORT",
                 help="Wait here for workers on other machines."),
    click.option("--cluster", type=FILE,
                 help="With --hosts: cluster file with the addresses.",
                 show_default="the plan's"),
    click.option("--secret-file", type=FILE, help="With --hosts: their secret."),
    click.option("--tls", type=FILE,
                 help="With --hosts: the launcher's certificate; everything goes over TLS."),
    click.option("--transport", type=click.Choice(["tcp", "gloo"]),
                 help="How tensors travel.", show_default="tcp"),
    click.option("--throttle", type=click.Choice(["none", "pad"]),
                 help="Compute at the plan's speeds, by waiting.",
                 show_default="none; pad with --emulate"),
        executor_option("What computes on the devices.", "the fastest that is right, on each"),
    click.option("--threads", type=click.IntRange(min=1), default=DEPLOY.threads,
                 help="Threads per device."),
    click.option("--timeout", "timeout_s", type=click.FloatRange(min=1),
                 default=DEPLOY.timeout_s, help="Seconds without a sign of life or progress."),
)  # fmt: skip

_ADAPTATION = (
    click.option("--fixed", is_flag=True, help="Keep the plan; end when a device is lost."),
    click.option("--drift-tolerance", type=click.FloatRange(min=0.01),
                 default=DEPLOY.drift.tolerance,
                 help="Share by which a speed or rate may differ from the plan's."),
    click.option("--drift-after", "drift_after_s", type=click.FloatRange(min=0),
                 default=DEPLOY.drift.after_s,
                 help="Seconds after which one that differs more is planned for."),
    click.option("--drift-margin", type=click.FloatRange(min=0), default=DEPLOY.drift.margin,
                 help="Share by which a plan must be better to be taken then."),
)  # fmt: skip


def deployment_options(command: Command) -> Command:
    """Where the workers run, and how."""
    return together(
        under("Model", planned_weights_options),
        under("Devices", *_DEVICES),
        under("Adaptation", *_ADAPTATION),
    )(command)


def deploy_request(options: dict[str, Any], **more: Any) -> DeployRequest:
    """The request that ``deployment_options`` spell; takes them out of ``options``."""
    emulate, hosts = options.pop("emulate"), options.pop("hosts")
    if emulate and hosts is not None:
        raise InputError("`hosts` runs on other machines, `emulate` on this one: choose one")
    names = (
        "in_flight secret_file tls cluster transport throttle executor threads timeout_s fixed"
    ).split()
    limits = {name: options.pop(f"drift_{name}") for name in ("tolerance", "after_s", "margin")}
    site = EMULATED if emulate else hosts or LOCAL
    given = {name: options.pop(name) for name in names} | more
    return DeployRequest(site=site, drift=DriftLimits(**limits), **given)


def load_deployed(plan: Path, options: dict[str, Any]) -> tuple[Plan, LoadedModel]:
    """A plan that is right, and its model with weights that it may have."""
    from nptp_opt.deployment.request import require_own_weights
    from nptp_opt.plan.document import load_plan
    from nptp_opt.verification.static import require_right

    weights, allow = options.pop("weights"), options.pop("allow_other_weights")
    loaded = load_plan(plan)
    say(f"importing {loaded.model.ref}")
    model = load_planned(loaded, plan, weights, allow)
    if not allow:
        require_own_weights(model.ref)
    require_right(loaded, model.network, str(plan))
    return loaded, model
