"""What measured ways between all devices say of a network: its kind, its rates, its latencies.

Every pair of devices is measured while the others are silent. Then all send at once, each device to
the next: on a switched network every one of these ways keeps its rate, on a medium that n devices
share it keeps about the n-th part.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from nptp_opt.cluster.profiles import Link

UNLIKE = 1.5
"""Times by which a way may differ from what the cluster file says of it, and nothing is said."""


@dataclass(frozen=True)
class MeasuredLinks:
    """``pairs`` has the way of every two devices, the lower number's rate up first; ``together``
    the Mbit/s from every device to the next while all of them send."""

    names: Sequence[str]
    pairs: Mapping[tuple[int, int], Link]
    together: Sequence[float]

    def mbit_per_s(self, src: int, dst: int) -> float:
        """From one device to another, the others silent."""
        link = self.pairs[min(src, dst), max(src, dst)]
        return link.up_mbit_per_s if src < dst else link.down_mbit_per_s

    @property
    def kept(self) -> float:
        """Part of its rate that a way keeps while all send, in the median."""
        n = len(self.names)
        return statistics.median(
            rate / self.mbit_per_s(i, (i + 1) % n) for i, rate in enumerate(self.together)
        )

    @property
    def kind(self) -> Literal["switched", "shared"]:
        """What is nearer, by ratio: all of the rate, or the n-th part of it."""
        return "shared" if self.kept < 1 / math.sqrt(len(self.names)) else "switched"

    @property
    def medium_mbit_per_s(self) -> float:
        """Of a shared medium over which every two devices send each other as much."""
        return statistics.harmonic_mean([rate for _, _, rate in self.ways()])

    def link(self, device: int) -> Link:
        """A device's own link: as fast as the fastest way through it, late as in the median."""
        own = [link for pair, link in self.pairs.items() if device in pair]
        return Link(
            latency_ms=statistics.median(link.latency_ms for link in own),
            message_ms=statistics.median(link.message_ms for link in own),
            up_mbit_per_s=max(rate for src, _, rate in self.ways() if src == device),
            down_mbit_per_s=max(rate for _, dst, rate in self.ways() if dst == device),
        )

    def ways(self) -> Iterator[tuple[int, int, float]]:
        """Sender, receiver and Mbit/s of every way."""
        for low, high in self.pairs:
            yield low, high, self.mbit_per_s(low, high)
            yield high, low, self.mbit_per_s(high, low)

    def notes(self, kind: str) -> Iterator[str]:
        """What a cluster file of this kind cannot say, or says otherwise than it was measured."""
        n = len(self.names)
        yield (
            f"while all {n} devices send at once, a way keeps {self.kept:.0%} of its rate: "
            f"{self.kind}" + ("" if kind == self.kind else f", but {kind} was asked for")
        )
        links = [self.link(i) for i in range(n)]
        for src, dst, rate in self.ways():
            told = self.medium_mbit_per_s
            if kind == "switched":
                told = min(links[src].up_mbit_per_s, links[dst].down_mbit_per_s)
            if not told / UNLIKE <= rate <= told * UNLIKE:
                yield (
                    f"{self.names[src]} to {self.names[dst]}: {rate:.3g} Mbit/s were measured, the "
                    f"cluster file amounts to {told:.3g}"
                )

    def to_json(self) -> list[dict[str, Any]]:
        """One entry per pair of devices."""
        return [
            {
                "devices": [self.names[low], self.names[high]],
                "mbit_per_s": link.up_mbit_per_s,
                "back_mbit_per_s": link.down_mbit_per_s,
                "latency_ms": link.latency_ms,
            }
            for (low, high), link in self.pairs.items()
        ]
