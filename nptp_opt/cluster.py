"""Devices, links and the cluster file (TOML, or the same content as JSON). Design §7."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from nptp_opt.errors import InputError
from nptp_opt.files import Strict, explain, load_json, read_text

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]

BYTES_PER_MBIT = 1e6 / 8
MIB = 2**20


class Device(Strict):
    """A compute node. Keys carry their unit; the properties are SI."""

    name: Annotated[str, Field(min_length=1)]
    gflops: Positive
    overhead_ms: NonNegative = 0.0
    memory_mib: Positive | None = None
    up_mbit_per_s: Positive | None = None
    down_mbit_per_s: Positive | None = None
    address: str | None = None

    @property
    def flop_per_s(self) -> float:
        return self.gflops * 1e9

    @property
    def overhead_s(self) -> float:
        return self.overhead_ms * 1e-3

    @property
    def memory_bytes(self) -> float:
        """Memory limit in bytes; infinite when the file gives none."""
        return float("inf") if self.memory_mib is None else self.memory_mib * MIB

    @property
    def up_bytes_per_s(self) -> float:
        assert self.up_mbit_per_s is not None
        return self.up_mbit_per_s * BYTES_PER_MBIT

    @property
    def down_bytes_per_s(self) -> float:
        assert self.down_mbit_per_s is not None
        return self.down_mbit_per_s * BYTES_PER_MBIT


class NetworkLink(Strict):
    """How the devices are connected: one link each (switched) or one medium for all (shared)."""

    kind: Literal["switched", "shared"]
    latency_ms: NonNegative = 0.0
    mbit_per_s: Positive | None = None
    source: str | None = None
    sink: str | None = None

    @property
    def latency_s(self) -> float:
        return self.latency_ms * 1e-3

    @property
    def bytes_per_s(self) -> float:
        """Rate of the shared medium in bytes/s."""
        assert self.mbit_per_s is not None
        return self.mbit_per_s * BYTES_PER_MBIT


class Cluster(Strict):
    """All devices and their network. Device numbers are positions in ``devices``."""

    name: str = "cluster"
    network: NetworkLink
    devices: Annotated[tuple[Device, ...], Field(alias="device", strict=False)]

    @property
    def shared(self) -> bool:
        return self.network.kind == "shared"

    @property
    def source(self) -> int:
        """Number of the device that holds the input."""
        return self._index(self.network.source)

    @property
    def sink(self) -> int:
        """Number of the device that wants the result."""
        return self._index(self.network.sink)

    def _index(self, name: str | None) -> int:
        return 0 if name is None else [d.name for d in self.devices].index(name)

    @model_validator(mode="after")
    def _consistent(self) -> Cluster:
        names = [device.name for device in self.devices]
        if not names:
            raise ValueError("no devices: add at least one [[device]] entry")
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two devices are named {name!r}: give each its own name")
        for key in ("source", "sink"):
            value = getattr(self.network, key)
            if value is not None and value not in names:
                raise ValueError(f"network.{key} = {value!r} is no device; known: {names}")
        return self._rates_fit_the_network(self)

    @staticmethod
    def _rates_fit_the_network(cluster: Cluster) -> Cluster:
        if cluster.shared:
            if cluster.network.mbit_per_s is None:
                raise ValueError("a shared network needs network.mbit_per_s")
            return cluster
        if cluster.network.mbit_per_s is not None:
            raise ValueError(
                "network.mbit_per_s is for shared networks; give each device its rates"
            )
        for device in cluster.devices:
            if device.up_mbit_per_s is None or device.down_mbit_per_s is None:
                raise ValueError(
                    f"device {device.name!r} needs up_mbit_per_s and down_mbit_per_s "
                    "on a switched network"
                )
        return cluster

    def to_json(self) -> dict[str, Any]:
        """The TOML's content as JSON; ``cluster_from_json`` reads it back unchanged."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def cluster_from_json(data: Any, where: str = "cluster") -> Cluster:
    """Read a cluster from parsed TOML or JSON; raises InputError naming ``where`` and the field."""
    try:
        return Cluster.model_validate(data)
    except ValidationError as error:
        raise explain(error, where) from None


def load_cluster(path: Path) -> Cluster:
    """Read a cluster file (.toml, or .json with the same content)."""
    if path.suffix == ".json":
        return cluster_from_json(load_json(path), str(path))
    try:
        data = tomllib.loads(read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: not valid TOML: {error}") from None
    return cluster_from_json(data, str(path))
