"""The options of ``run`` and their defaults, for the library and the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nptp_opt.errors import InputError

if TYPE_CHECKING:
    from nptp_opt.runtime.launcher.report import Throttle


@dataclass(frozen=True)
class RunRequest:
    """The options of ``run``. None where the default depends on the others.

    ``stream`` inputs go through one after the other, without a warm-up, instead of ``repeats``.
    ``dilate`` slows the emulated cluster's clock: rates and speeds are divided by it, latencies
    multiplied, and what is measured is divided again.
    """

    repeats: int = 10
    warmup: int = 2
    timeout_s: float = 30.0
    threads: int = 1
    seed: int = 0
    emulate: bool = False
    dilate: float = 1.0
    transport: str | None = None
    throttle: Throttle | None = None
    executor: str | None = None
    """What computes tile programs; None for the fastest that is right on each device."""
    stream: int | None = None
    in_flight: int = 1
    """Inputs on the devices at a time."""
    elastic: bool = False
    trace: Path | None = None
    calibrate: Path | None = None
    hosts: str | None = None
    """HOST:PORT at which workers on other machines join."""
    secret_file: Path | None = None
    tls: Path | None = None
    """With ``hosts``: the launcher's certificate; everything goes over TLS then."""
    cluster: Path | None = None
    """With ``hosts``: the cluster file that has the devices' addresses now."""

    def __post_init__(self) -> None:
        if self.hosts is None and self.secret_file is not None:
            raise InputError("`secret_file` belongs to `hosts`")
        if self.hosts is None and self.tls is not None:
            raise InputError("`tls` is for workers on other machines: it belongs to `hosts`")
        if self.hosts is None and self.cluster is not None:
            raise InputError("`cluster` gives addresses for `hosts`: use it there")
        if self.hosts is not None:
            self._check_hosts()
        if self.dilate != 1.0 and (not self.emulate or self.chosen_throttle == "none"):
            raise InputError(
                "`dilate` slows the clock of an emulated cluster: use it with `emulate`, and with "
                "`throttle` pad or cgroup"
            )
        if self.executor is not None:
            self._check_executor(self.executor)
        if self.calibrate is not None and self.calibrate.suffix != ".json":
            raise InputError(f"{self.calibrate}: `calibrate` writes a cluster as .json")
        if self.in_flight < 1:
            raise InputError(f"in_flight = {self.in_flight}: must be at least 1")
        if self.calibrate is not None and self.in_flight > 1:
            raise InputError("`calibrate` measures one input at a time: leave `in_flight` out")
        if self.calibrate is not None and self.chosen_throttle != "none":
            raise InputError("`calibrate` measures real speeds: use it with `throttle` none")

    def _check_executor(self, name: str) -> None:
        """It has to be here where the workers are; those on other machines say it themselves."""
        from nptp_opt.kernels.executors import find, require

        require(name) if self.hosts is None else find(name)

    def _check_hosts(self) -> None:
        if self.secret_file is None:
            raise InputError("`hosts` needs `secret_file`: the same file on every machine")
        if self.emulate or self.transport == "gloo":
            raise InputError("`hosts` runs over transport tcp, and not with `emulate`")
        from nptp_opt.runtime.transport.control import check_address
        from nptp_opt.runtime.transport.handshake import THE_LAUNCHER, read_keys

        check_address(self.hosts or "")
        read_keys(self.secret_file, self.tls, THE_LAUNCHER)

    @property
    def chosen_transport(self) -> str:
        """gloo on this machine; tcp between namespaces and machines, where it needs no common disk,
        and for several inputs in flight, which it keeps apart."""
        return self.transport or (
            "tcp" if self.emulate or self.hosts or self.in_flight > 1 else "gloo"
        )

    @property
    def chosen_throttle(self) -> Throttle:
        """An emulated cluster has the plan's speeds, this machine its own."""
        return self.throttle or ("pad" if self.emulate else "none")


RUN = RunRequest()
"""The one place of the defaults."""
