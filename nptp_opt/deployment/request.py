"""The options of a deployment and their defaults, for the library and the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nptp_opt.errors import InputError
from nptp_opt.runtime.launcher.request import RunRequest

if TYPE_CHECKING:
    from nptp_opt.network.ref import ModelRef
    from nptp_opt.runtime.launcher.report import RunOptions, Throttle


def require_own_weights(model: ModelRef) -> None:
    """Raise InputError for a torchvision name without a file of weights: random ones answer
    nothing."""
    if model.weights is None and not model.is_given and ":" not in model.ref:
        raise InputError(
            f"model {model.ref!r} has random weights: a deployment needs those of a file as "
            "`weights` (`allow_other_weights` takes random ones, too)"
        )


LOCAL, EMULATED = "local", "emulated"


@dataclass(frozen=True)
class DriftLimits:
    """When a plan is made for other figures of the cluster, and when it is taken.

    A figure (a device's speed, a link's rate) has drifted when it was measured more than the share
    ``tolerance`` off for ``after_s`` seconds. A new plan is taken when it is predicted to be better
    by the share ``margin``.
    """

    tolerance: float = 0.25
    after_s: float = 5.0
    margin: float = 0.05

    def __post_init__(self) -> None:
        for name, least in (("tolerance", 0.01), ("after_s", 0.0), ("margin", 0.0)):
            value = getattr(self, name)
            if not least <= value < float("inf"):
                raise InputError(f"drift_{name} = {value}: must be at least {least:g} and finite")


@dataclass(frozen=True)
class DeployRequest:
    """Where the workers run, and how many inputs may be under way. None: depends on the others.

    ``site`` is "local" (processes of this machine), "emulated" (so, at the plan's rates and
    speeds), or the ADDRESS:PORT at which workers of other machines join; their addresses are the
    plan's, or those of the file ``cluster``. ``in_flight`` inputs are on the devices at a time,
    ``queue`` more may wait.
    """

    site: str = LOCAL
    in_flight: int = 2
    queue: int = 64
    timeout_s: float = 30.0
    threads: int = 1
    transport: str | None = None
    throttle: Throttle | None = None
    executor: str | None = None
    fixed: bool = False
    """Keep the plan, whatever becomes of devices and links; end when a device is lost."""
    drift: DriftLimits = DriftLimits()
    secret_file: Path | None = None
    tls: Path | None = None
    """The launcher's certificate, for workers of other machines that have theirs."""
    cluster: Path | None = None

    def __post_init__(self) -> None:
        for name, least in (("in_flight", 1), ("queue", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name} = {getattr(self, name)}: must be at least {least}")
        if self.throttle == "cgroup":
            raise InputError("`throttle` cgroup is for measuring with `run`: use pad or none")
        self.run_options()

    def as_run(self) -> RunRequest:
        """The same as options of a run; raises InputError for what does not fit together."""
        here = self.site in (LOCAL, EMULATED)
        return RunRequest(
            timeout_s=self.timeout_s,
            threads=self.threads,
            emulate=self.site == EMULATED,
            transport=self.transport or "tcp",
            throttle=self.throttle,
            executor=self.executor,
            hosts=None if here else self.site,
            secret_file=self.secret_file,
            tls=self.tls,
            cluster=self.cluster,
        )

    @property
    def follows_links(self) -> bool:
        """True where links are the cluster's, and messages are timed: not on this machine's
        loopback, not over gloo."""
        run = self.as_run()
        return not self.fixed and self.site != LOCAL and run.chosen_transport == "tcp"

    @property
    def follows_speeds(self) -> bool:
        """True where devices compute as fast as they can, and as the cluster's do."""
        return not self.fixed and self.site != LOCAL and self.as_run().chosen_throttle == "none"

    def run_options(self) -> RunOptions:
        """What a session of the workers is told."""
        from nptp_opt.runtime.launcher.report import RunOptions

        run = self.as_run()
        return RunOptions(
            timeout_s=run.timeout_s,
            threads=run.threads,
            transport=run.chosen_transport,
            throttle=run.chosen_throttle,
            executor=run.executor,
            in_flight=self.in_flight,
        )


DEPLOY = DeployRequest()
"""The one place of the defaults."""
