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
    """

    repeats: int = 10
    warmup: int = 2
    timeout_s: float = 30.0
    threads: int = 1
    seed: int = 0
    emulate: bool = False
    transport: str | None = None
    throttle: Throttle | None = None
    executor: str | None = None
    """What computes tile programs; None for the fastest that is right on each device."""
    stream: int | None = None
    elastic: bool = False
    trace: Path | None = None
    calibrate: Path | None = None
    hosts: str | None = None
    """HOST:PORT at which workers on other machines join."""
    secret_file: Path | None = None

    def __post_init__(self) -> None:
        if self.hosts is None and self.secret_file is not None:
            raise InputError("`secret_file` belongs to `hosts`")
        if self.hosts is not None:
            self._check_hosts()
        if self.executor is not None:
            self._check_executor(self.executor)
        if self.calibrate is not None and self.calibrate.suffix != ".json":
            raise InputError(f"{self.calibrate}: `calibrate` writes a cluster as .json")
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
        from nptp_opt.runtime.transport.control import check_address, read_secret

        check_address(self.hosts or "")
        read_secret(self.secret_file)

    @property
    def chosen_transport(self) -> str:
        """gloo on this machine; tcp between namespaces and machines: it needs no common disk."""
        return self.transport or ("tcp" if self.emulate or self.hosts else "gloo")

    @property
    def chosen_throttle(self) -> Throttle:
        """An emulated cluster has the plan's speeds, this machine its own."""
        return self.throttle or ("pad" if self.emulate else "none")


RUN = RunRequest()
"""The one place of the defaults."""
