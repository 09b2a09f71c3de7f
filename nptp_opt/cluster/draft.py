"""A cluster file in the making: from what is typed, and from measurements, to TOML."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nptp_opt.cluster.links import MeasuredLinks
from nptp_opt.cluster.model import Cluster, Device, read_cluster
from nptp_opt.cluster.profiles import Profile, write_profile
from nptp_opt.errors import InputError
from nptp_opt.files import write_text

WORDS = frozenset(("name", "address", "profile", "executor"))
"""Keys of a device whose values are text; the others are numbers."""

HEAD = "# A cluster for nptp-opt: `nptp-opt solve MODEL -c THIS -o plan.json` plans on it.\n"
MEASURED = "# latency_ms and message_ms are those that the devices' profiles have measured\n"

Content = dict[str, Any]
"""A cluster file's content."""


def parse_device(text: str) -> Content:
    """A device's entry from ``name=pi-0,gflops=10``; the name may stand alone in front.

    Raises InputError that quotes what is wrong.
    """
    entry: Content = {}
    for number, part in enumerate(text.split(",")):
        key, equals, value = part.strip().partition("=")
        if not equals and number == 0:
            key, value = "name", key
        if not value or key in entry:
            raise InputError(
                f"`devices` {text!r}: {part!r} must be KEY=VALUE, each key once, as in "
                "name=pi-0,gflops=10"
            )
        entry[key] = value if key in WORDS else _number(key, value, text)
    if "name" not in entry:
        raise InputError(f"`devices` {text!r}: needs a name: name=pi-0")
    return entry


def _number(key: str, value: str, text: str) -> float | int:
    try:
        number = float(value)
    except ValueError:
        raise InputError(f"`devices` {text!r}: {key} must be a number, got {value!r}") from None
    return int(number) if number.is_integer() else number


def draft(
    devices: Iterable[Content],
    *,
    name: str,
    kind: str,
    mbit_per_s: float | None = None,
    latency_ms: float | None = None,
) -> Content:
    """A file's content; ``mbit_per_s`` is the medium's, or of every link that has no rates."""
    network: Content = {"kind": kind}
    if latency_ms is not None:
        network["latency_ms"] = latency_ms
    entries = [dict(entry) for entry in devices]
    if mbit_per_s is not None and kind == "shared":
        network["mbit_per_s"] = mbit_per_s
    elif mbit_per_s is not None:
        rates = {"up_mbit_per_s": mbit_per_s, "down_mbit_per_s": mbit_per_s}
        entries = [entry | {k: v for k, v in rates.items() if k not in entry} for entry in entries]
    return {"name": name, "network": network, "device": entries}


def with_profiles(
    content: Content, profiles: Mapping[str, Profile], links: MeasuredLinks | None
) -> Content:
    """The content with every device's profile named, which has its link's rates; a shared medium
    gets the rate that was measured between any two devices, in the mean."""
    entries = [
        {k: v for k, v in entry.items() if k != "gflops"} | {"profile": profile_file(entry["name"])}
        for entry in content["device"]
    ]
    network = dict(content["network"])
    if links is not None and network["kind"] == "shared":
        network.setdefault("mbit_per_s", float(f"{links.medium_mbit_per_s:.4g}"))
    return content | {"network": network, "device": entries}


def profile_file(name: str) -> str:
    """Where a device's profile is written, beside the cluster file."""
    safe = re.sub(r"[^\w.-]", "-", name)
    return f"{safe}.profile.json"


def require_new(paths: Iterable[Path], *, force: bool) -> None:
    """Raise InputError for a file that is there, unless it may be overwritten."""
    there = [path for path in paths if path.exists()]
    if there and not force:
        raise InputError(f"{there[0]}: is there already; name another file, or add --force")


def write_draft(content: Content, path: Path, profiles: Mapping[str, Profile]) -> Cluster:
    """Write profiles and cluster file, each whole; returns the cluster that they make.

    Raises InputError naming the field for content that makes none: then nothing is written.
    """
    measured = {profile_file(name): profile for name, profile in profiles.items()}
    cluster = read_cluster(content, path, measured)
    for name, profile in measured.items():
        write_profile(profile, path.parent / name)
    write_text(path, to_toml(content, measured=bool(measured)))
    return cluster


def to_toml(content: Content, *, measured: bool = False) -> str:
    """The content as TOML, in the order of a file that people write."""
    blocks = [HEAD + f"name = {_value(content['name'])}\n"]
    silent = measured and "latency_ms" not in content["network"]
    blocks.append("[network]\n" + (MEASURED if silent else "") + _lines(content["network"]))
    known = ["name", "profile", *Device.model_fields]
    for entry in content["device"]:
        ordered = {key: entry[key] for key in sorted(entry, key=known.index)}
        blocks.append("[[device]]\n" + _lines(ordered))
    return "\n".join(blocks)


def _lines(table: Mapping[str, Any]) -> str:
    return "".join(f"{key} = {_value(value)}\n" for key, value in table.items())


def _value(value: Any) -> str:
    """Text and numbers of JSON are those of TOML."""
    return json.dumps(value, ensure_ascii=False)
