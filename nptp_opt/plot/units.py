"""Numbers with their units beside them, from keys that carry the unit in their name.

A terminal reads ``latency 507.35 ms`` where files and ``--json`` have ``"latency_s": 0.507349...``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

DIGITS = 5
"""Significant digits of a number on a terminal."""

MOST_LISTED, FIRST_LISTED = 16, 8
"""Words up to which a list is whole on a terminal, and those that are named of a longer one; JSON
has all."""

Scale = tuple[tuple[float, str], ...]
"""Sizes of a unit's multiples in the key's unit, the largest first."""

PLAIN: Scale = ((1.0, ""),)
SECONDS: Scale = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"))
BYTES: Scale = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B"))
FLOP: Scale = ((1e9, "GFLOP"), (1e6, "MFLOP"), (1e3, "kFLOP"), (1.0, "FLOP"))
PERCENT: Scale = ((1e-2, "%"),)

WHOLE: Mapping[str, tuple[str, Scale]] = {
    "bound_s_seconds": ("bound found in", SECONDS),
    "gap": ("gap", PERCENT),
    "objective_gap": ("objective gap", PERCENT),
    "bytes": ("bytes", BYTES),
    "gflops": ("speed", ((1.0, "GFLOP/s"),)),
    "flop": ("flop", FLOP),
    "mbit_per_s": ("rate", ((1.0, "Mbit/s"),)),
    "rate": ("rate", ((1.0, "Mbit/s"),)),
    "residual": ("residual", PERCENT),
    "closed_at_root": ("closed at root", PERCENT),
}
"""Keys whose whole name says what they are, with their name on a terminal."""

SUFFIXES: Sequence[tuple[str, Scale]] = (
    ("_mbit_per_s", ((1.0, "Mbit/s"),)),
    ("_mb_per_s", ((1.0, "MB/s"),)),
    ("_per_s", ((1.0, "/s"),)),
    ("_s", SECONDS),
    ("_ms", ((1.0, "ms"),)),
    ("_mib", ((1.0, "MiB"),)),
    ("_j", ((1.0, "J"), (1e-3, "mJ"))),
    ("_bytes", BYTES),
    ("_flop_share", PERCENT),
    ("_bytes_share", PERCENT),
)
"""Ends of keys that say their unit, the longer before the shorter."""


@dataclass(frozen=True)
class Quantity:
    """What a key stands for: its name without the unit, and the unit's multiples."""

    name: str
    scale: Scale = PLAIN

    @property
    def is_plain(self) -> bool:
        return self.scale == PLAIN

    def multiple(self, values: Iterable[float]) -> tuple[float, str]:
        """The largest multiple that the largest value fills; the key's own unit without any."""
        largest = max((abs(v) for v in values if math.isfinite(v)), default=0.0)
        whole = next((each for each in self.scale if each[0] == 1.0), self.scale[0])
        if largest == 0:
            return whole
        return next((each for each in self.scale if largest >= each[0]), self.scale[-1])


OBJECTIVES: Mapping[str, str] = {"throughput": "_s", "latency": "_s", "energy": "_j",
                                 "bytes": "_bytes"}  # fmt: skip
"""What an objective is measured in, as the end of a key."""


def with_unit(key: str, content: Mapping[str, Any]) -> str:
    """The key, with the unit of the objective that it is about where that alone tells it."""
    if key == "objective_bound":
        return key + OBJECTIVES.get(str(content.get("objective")), "")
    return key


def quantity(key: str) -> Quantity:
    """What ``key`` stands for."""
    if key in WHOLE:
        return Quantity(*WHOLE[key])
    for suffix, scale in SUFFIXES:
        if key.endswith(suffix):
            kept = "_bytes" if suffix == "_bytes" else ""
            return Quantity(_words(key.removesuffix(suffix) + kept), scale)
    return Quantity(_words(key))


def _words(name: str) -> str:
    return name.replace("_", " ")


def number(value: float, size: float = 1.0) -> str:
    """A number in multiples of ``size``; a whole number that is counted stays whole."""
    if isinstance(value, int) and size == 1.0:
        return str(value)
    return f"{value / size:.{DIGITS}g}"


def is_number(value: Any) -> bool:
    """Whether it is counted or measured: a truth value is not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def beside(key: str, value: Any) -> str:
    """A value as text, its unit beside it."""
    found = quantity(key)
    if is_number(value) and not found.is_plain:
        size, unit = found.multiple([value])
        return f"{number(value, size)} {unit}"
    if isinstance(value, Mapping):
        return ", ".join(
            f"{quantity(name).name} {beside(key if quantity(name).is_plain else name, each)}"
            for name, each in value.items()
        )
    if isinstance(value, (list, tuple)):
        return listed([beside(key, each) for each in value]) or "none"
    return plain(value)


def listed(words: Sequence[str]) -> str:
    """Words with commas between them; of more than ``MOST_LISTED`` the first, and how many more."""
    if len(words) <= MOST_LISTED:
        return ", ".join(words)
    return f"{', '.join(words[:FIRST_LISTED])} and {len(words) - FIRST_LISTED} more"


def plain(value: Any) -> str:
    """A value without a unit: what is unknown is a dash."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number(value) if is_number(value) else str(value)


def column(key: str, values: Sequence[Any]) -> tuple[str, list[str]]:
    """A column's header, with the one unit of all its numbers, and its cells."""
    found = quantity(key)
    numbers = [value for value in values if is_number(value)]
    if found.is_plain or len(numbers) + values.count(None) < len(values):
        return found.name, [beside(key, value) for value in values]
    size, unit = found.multiple(numbers)
    name = "" if key in ("bytes", "flop") else found.name.removesuffix(" bytes")
    header = f"{name} {unit}".strip()
    return header, [plain(None) if value is None else number(value, size) for value in values]
