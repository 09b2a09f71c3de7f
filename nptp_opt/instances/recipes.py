"""Clusters of the library by recipe: how many devices, which speeds, which network."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from nptp_opt.cluster import Cluster, cluster_from_json
from nptp_opt.files import Strict

GFLOPS_EQUAL = 10.0
GFLOPS_UNEQUAL = (4.0, 5.7, 7.4, 9.1, 10.8, 12.5, 14.2, 15.9)
"""Speeds of unequal devices; more than eight repeat them."""

OVERHEAD_MS = 0.1
LATENCY_MS = 0.5


Speeds = Literal["equal", "unequal"]
Network = Literal["switched", "shared"]
SPEEDS: tuple[Speeds, ...] = ("equal", "unequal")
NETWORKS: tuple[Network, ...] = ("switched", "shared")


class ClusterRecipe(Strict):
    """A cluster in four words; rates are those of every link, or of the one shared medium."""

    devices: Annotated[int, Field(ge=1)]
    speeds: Speeds
    network: Network
    mbit_per_s: Annotated[int, Field(ge=1)]

    @property
    def label(self) -> str:
        """As in names of instances: ``n4-equal-shared-100``."""
        return f"n{self.devices}-{self.speeds}-{self.network}-{self.mbit_per_s}"

    @property
    def tags(self) -> tuple[str, ...]:
        return f"n{self.devices}", self.speeds, self.network, f"{self.mbit_per_s}mbit"

    def cluster(self) -> Cluster:
        """The cluster, spelled out."""
        devices = [self._device(number) for number in range(self.devices)]
        network: dict[str, Any] = {"kind": self.network, "latency_ms": LATENCY_MS}
        if self.network == "shared":
            network["mbit_per_s"] = float(self.mbit_per_s)
        return cluster_from_json({"name": self.label, "network": network, "device": devices})

    def _device(self, number: int) -> dict[str, Any]:
        unequal = GFLOPS_UNEQUAL[number % len(GFLOPS_UNEQUAL)]
        device: dict[str, Any] = {
            "name": f"d{number}",
            "gflops": GFLOPS_EQUAL if self.speeds == "equal" else unequal,
            "overhead_ms": OVERHEAD_MS,
        }
        if self.network == "switched":
            rate = float(self.mbit_per_s)
            device |= {"up_mbit_per_s": rate, "down_mbit_per_s": rate}
        return device
