"""Devices, links and the cluster file (TOML or JSON, docs/cluster.md)."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, ValidationError, model_validator

from nptp_opt.cluster.profiles import LayerSpeed, Profile, load_profile
from nptp_opt.errors import InputError, unknown_name
from nptp_opt.files import Strict, explain, field_at, load_json, load_toml
from nptp_opt.notebook import html_table

Positive = Annotated[float, Field(ge=1e-9, le=1e15, allow_inf_nan=False)]
"""Speeds, rates and sizes; the range keeps every cost finite."""

NonNegative = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]

BYTES_PER_MBIT = 1e6 / 8
MIB = 2**20
ENCODE_MB_PER_S, DECODE_MB_PER_S = 1000.0, 500.0
HUFFMAN_ENCODE_MB_PER_S, HUFFMAN_DECODE_MB_PER_S = 60.0, 120.0
"""Of a device that states none: a fraction of what a core of a server does."""


class Device(Strict):
    """A compute node. Keys carry their unit; the properties are SI."""

    replaced_keys: ClassVar[tuple[str, ...]] = ("profile",)
    name: Annotated[str, Field(min_length=1)]
    gflops: Positive
    overhead_ms: NonNegative = 0.0
    layers: Annotated[tuple[LayerSpeed, ...] | None, Field(strict=False)] = None
    """Measured layer shapes, from a profile; other layers have ``gflops`` and ``overhead_ms``."""
    program_ms: NonNegative | None = None
    """Of every tile program, beside its layers' calls; None is 0, and absent from files."""
    executor: str | None = None
    """What the measured speeds were measured with."""
    memory_mib: Positive | None = None
    up_mbit_per_s: Positive | None = None
    down_mbit_per_s: Positive | None = None
    watts: NonNegative | None = None
    """Power while computing, beyond what the device draws when idle."""
    joules_per_byte: NonNegative | None = None
    """Energy of sending a byte; 0 where it is not given."""
    address: str | None = None
    encode_mb_per_s: Positive | None = None
    decode_mb_per_s: Positive | None = None
    """Rates of the bitmask codec in float32 elements; ``profile`` measures them."""
    huffman_encode_mb_per_s: Positive | None = None
    huffman_decode_mb_per_s: Positive | None = None
    """Rates of the Huffman codec in first bytes, likewise."""

    @property
    def flop_per_s(self) -> float:
        return self.gflops * 1e9

    @property
    def overhead_s(self) -> float:
        return self.overhead_ms * 1e-3

    @property
    def program_s(self) -> float:
        return (self.program_ms or 0.0) * 1e-3

    @cached_property
    def measured(self) -> dict[str, LayerSpeed]:
        """The measured layer shapes by key."""
        return {speed.layer: speed for speed in self.layers or ()}

    @property
    def encode_bytes_per_s(self) -> float:
        return (self.encode_mb_per_s or ENCODE_MB_PER_S) * 1e6

    @property
    def decode_bytes_per_s(self) -> float:
        return (self.decode_mb_per_s or DECODE_MB_PER_S) * 1e6

    @property
    def huffman_encode_bytes_per_s(self) -> float:
        return (self.huffman_encode_mb_per_s or HUFFMAN_ENCODE_MB_PER_S) * 1e6

    @property
    def huffman_decode_bytes_per_s(self) -> float:
        return (self.huffman_decode_mb_per_s or HUFFMAN_DECODE_MB_PER_S) * 1e6

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


TransferDtype = Literal["float32", "float16", "bfloat16", "int8"]
"""What elements of feature maps are sent as; int8 with a float32 scale per rectangle."""


class NetworkLink(Strict):
    """How the devices are connected: one link each (switched) or one medium for all (shared)."""

    kind: Literal["switched", "shared"]
    latency_ms: NonNegative = 0.0
    message_ms: NonNegative | None = None
    """What handing one message over takes of its sender's time; only predictions count it."""
    mbit_per_s: Positive | None = None
    source: str | None = None
    sink: str | None = None
    stand_ins: Annotated[tuple[str, ...] | None, Field(strict=False)] = None
    """Devices that become the source or the sink, the first that is there, where that is lost."""
    transfer_dtype: TransferDtype | None = None
    """None is float32: exact, and absent from files and hashes."""

    @property
    def latency_s(self) -> float:
        return self.latency_ms * 1e-3

    @property
    def message_s(self) -> float:
        """Seconds of its sender that a message takes, beside its latency; 0 when not given."""
        return (self.message_ms or 0.0) * 1e-3

    @property
    def bytes_per_s(self) -> float:
        """Rate of the shared medium in bytes/s."""
        assert self.mbit_per_s is not None
        return self.mbit_per_s * BYTES_PER_MBIT


class Cluster(Strict):
    """All devices and their network. Device numbers are positions in ``devices``.

    ``Cluster.from_file("c.toml")``, or ``Cluster(network={...}, devices=[{...}, ...])`` with the
    keys of the file, in the units that their names carry. Raises ValueError naming the field.
    """

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    name: str = "cluster"
    network: NetworkLink
    devices: Annotated[tuple[Device, ...], Field(alias="device", strict=False)] = ()

    @classmethod
    def from_file(cls, path: str | Path) -> Cluster:
        """Read a cluster file (.toml, or .json); raises InputError naming file and field."""
        return load_cluster(Path(path))

    def __repr__(self) -> str:
        names = ", ".join(device.name for device in self.devices)
        return f"<Cluster {self.name!r}: {self.network.kind}, {names}>"

    __str__ = __repr__

    def _repr_html_(self) -> str:
        rows = {device.name: f"{device.gflops:.4g} GFLOP/s" for device in self.devices}
        return html_table(f"{self.name} ({self.network.kind})", rows)

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

    @cached_property
    def kinds(self) -> tuple[int, ...]:
        """A number per device: equal for devices that differ in name alone.

        Source and sink are of kinds of their own.
        """
        seen: dict[object, int] = {}
        keys = [
            (i == self.source, i == self.sink, repr(device.model_copy(update={"name": ""})))
            for i, device in enumerate(self.devices)
        ]
        return tuple(seen.setdefault(key, len(seen)) for key in keys)

    @property
    def unlike(self) -> tuple[int, ...]:
        """The first device of every kind."""
        kinds = self.kinds
        return tuple(i for i, kind in enumerate(kinds) if kind not in kinds[:i])

    @property
    def transfer_dtype(self) -> TransferDtype:
        """What elements of feature maps are sent as."""
        return self.network.transfer_dtype or "float32"

    def sending_as(self, dtype: TransferDtype | None) -> Cluster:
        """This cluster with another transfer type; None leaves it as it is."""
        if dtype is None or dtype == self.transfer_dtype:
            return self
        link = self.network.model_copy(update={"transfer_dtype": dtype})
        return self.model_copy(update={"network": link})

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
                raise ValueError(f"network.{key}: {unknown_name('device', value, names)}")
        for name in self.network.stand_ins or ():
            if name not in names:
                raise ValueError(f"network.stand_ins: {name!r} is no device; known: {names}")
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
    if isinstance(data, dict) and "schema" in data:
        raise InputError(f"{where}: is a {data['schema']!r} document, not a cluster")
    if isinstance(data, dict) and "devices" in data:  # how Python calls them, no key of a file
        known = [field.alias or name for name, field in Cluster.model_fields.items()]
        raise InputError(f"{where}: {unknown_name('key', 'devices', known)}")
    try:
        return Cluster.model_validate(data)
    except ValidationError as error:
        raise _explain_device(error, where, data) from None


def _explain_device(error: ValidationError, where: str, data: Any) -> InputError:
    """As ``explain``; a device without a speed can have it from a profile, which is no field."""
    first = error.errors()[0]
    if first["type"] == "missing" and first["loc"][-1] == "gflops" and len(first["loc"]) == 3:
        entry = field_at(first["loc"][:-1], data)
        return InputError(
            f'{where}: {entry}: needs gflops, or profile = "FILE" as `nptp-opt profile` writes it'
        )
    return explain(error, where, data)


def load_cluster(path: Path) -> Cluster:
    """Read a cluster file (.toml, or .json with the same content).

    A device's ``profile`` names a profile file, relative to the cluster file. It brings the rates
    of the link, too, where the network is switched, the link was measured and the entry has none;
    and the network's ``latency_ms`` and ``message_ms`` where the file has none.
    """
    data = load_json(path) if path.suffix == ".json" else load_toml(path)
    return read_cluster(data, path)


def read_cluster(data: Any, path: Path, known: Mapping[str, Profile] | None = None) -> Cluster:
    """As ``load_cluster``, of content that is there already; ``known`` are profiles by their files'
    names that need not be there."""
    return cluster_from_json(_with_profiles(data, path, known or {}), str(path))


def _with_profiles(data: Any, path: Path, known: Mapping[str, Profile]) -> Any:
    """The content with every ``profile`` replaced by what the profile says."""
    entries = data.get("device") if isinstance(data, dict) else None
    if not isinstance(entries, list):
        return data
    profiles = [_profile_of(entry, k, path, known) for k, entry in enumerate(entries)]
    network = data.get("network")
    own_link = isinstance(network, dict) and network.get("kind") == "switched"
    filled = [
        entry if profile is None else _filled(entry, profile, own_link=own_link)
        for entry, profile in zip(entries, profiles, strict=True)
    ]
    if isinstance(network, dict):
        network = measured_network([each for each in profiles if each is not None]) | network
    return data | {"network": network, "device": filled}


def measured_network(profiles: Sequence[Profile]) -> dict[str, float]:
    """What measured links say of the network: latency and seconds of a message, the medians."""
    links = [profile.link for profile in profiles if profile.link is not None]
    if not links:
        return {}
    keys = ("latency_ms", "message_ms")
    return {key: statistics.median(getattr(link, key) for link in links) for key in keys}


def _filled(entry: dict[str, Any], profile: Profile, *, own_link: bool) -> dict[str, Any]:
    """A device's entry with what its profile says in place of the profile's name."""
    rest = {key: value for key, value in entry.items() if key != "profile"}
    return profile.device_fields(own_link=own_link) | rest


def _profile_of(
    entry: Any, number: int, path: Path, known: Mapping[str, Profile]
) -> Profile | None:
    if not isinstance(entry, dict) or "profile" not in entry:
        return None
    where = f"{path}: device.{number}"
    named = entry["profile"]
    if not isinstance(named, str):
        raise InputError(f"{where}.profile: must be the path of a profile file")
    if "gflops" in entry:
        raise InputError(f"{where}: has a profile and gflops: leave one of them out")
    return known[named] if named in known else load_profile(path.parent / named)
