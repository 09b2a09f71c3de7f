"""Where workers run: how a device's process is started, and which interface it may bind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Site(Protocol):
    """A place with room for every device of a plan."""

    def prefix(self, device: str) -> Sequence[str]:
        """What stands before the worker's command line."""
        ...

    def interface(self, device: str) -> str:
        """Name of the only network interface that the device's worker binds."""
        ...

    @property
    def delay_s(self) -> float:
        """Latency that the transport has to add, because the place itself cannot."""
        ...


class _Local:
    """All devices on this machine, on the loopback interface."""

    def prefix(self, device: str) -> Sequence[str]:
        return ()

    def interface(self, device: str) -> str:
        return "lo"

    @property
    def delay_s(self) -> float:
        return 0.0


LOCAL: Site = _Local()
