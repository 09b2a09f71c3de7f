"""Where workers run: how a device's process is started, and which interface it may bind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from nptp_opt.cluster import Cluster
from nptp_opt.errors import InputError


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


class Hosts:
    """Every device on a machine of its own, at the address that the cluster file gives.

    Workers are started there, by hand or by a service. Raises InputError for a device without an
    address.
    """

    delay_s = 0.0

    def __init__(self, cluster: Cluster, now: Cluster | None = None) -> None:
        """``now`` has the addresses where they are others than when the plan was made."""
        known = {device.name: device.address or "" for device in (now or cluster).devices}
        names = [device.name for device in cluster.devices]
        self.addresses = {name: known.get(name, "") for name in names}
        for name, address in self.addresses.items():
            if not address:
                where = "" if now is None else " in the file given as `cluster`"
                raise InputError(
                    f"device {name!r} has no address{where}: `hosts` needs one for each"
                )

    def prefix(self, device: str) -> Sequence[str]:
        return ()

    def interface(self, device: str) -> str:
        """The address that the device's worker binds."""
        return self.addresses[device]


LOCAL: Site = _Local()
