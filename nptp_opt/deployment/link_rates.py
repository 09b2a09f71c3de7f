"""What messages say of links: rates, and which end of a slow way is the slow one.

A message from A to B takes A's way up and B's way down, and no one sees which of the two held it
up. What is known: an end is at least as fast as its fastest message; messages that shared an end
at the same time had a part of it each, so an end's seconds are those in which any of its messages
was coming in. A way is slow where its messages were, and neither end was busy at its full rate with
others meanwhile. An end is cleared of it by a faster message elsewhere; of two that are not, the
one with more slow ways is blamed, then the one that was thought the slower; else both.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nptp_opt.cluster import Cluster
from nptp_opt.deployment.figures import MEDIUM, Figure, rate_of
from nptp_opt.runtime.launcher.pipeline import Carried

LEAST_S = 5e-4
"""A message that took, and should have taken, less than this says more of threads than of links."""

Way = tuple[Figure, Figure]
"""The two ends that messages of one sender to one receiver take."""


def link_ratios(
    messages: Sequence[Carried], cluster: Cluster, tolerance: float
) -> dict[Figure, float]:
    """How many times as fast as the cluster has them links were seen to be, or the medium.

    1 where nothing is outside of the tolerance; absent where nothing can be said.
    """
    if cluster.shared:
        rate = cluster.network.bytes_per_s
        telling = [m for m in messages if max(m.bytes / rate, m.end_s - m.start_s) >= LEAST_S]
        return {MEDIUM: _rate(telling) / rate} if telling else {}
    return _Ends(messages, cluster, tolerance).ratios()


def _rate(messages: Iterable[Carried]) -> float:
    """Bytes per second of the time in which any of the messages was coming in."""
    every = sorted(messages, key=lambda message: message.start_s)
    seconds, until = 0.0, float("-inf")
    for message in every:
        seconds += max(0.0, message.end_s - max(message.start_s, until))
        until = max(until, message.end_s)
    return sum(message.bytes for message in every) / max(seconds, 1e-9)


@dataclass
class _Ends:
    """Ways and ends of the messages of some seconds, on a switched network."""

    messages: Sequence[Carried]
    cluster: Cluster
    tolerance: float

    def __post_init__(self) -> None:
        self.ways: dict[Way, list[Carried]] = defaultdict(list)
        self.ends: dict[Figure, list[Way]] = defaultdict(list)
        for message in self.messages:
            way = Figure("up", message.src), Figure("down", message.dst)
            if max(message.bytes / self._believed(way), message.end_s - message.start_s) >= LEAST_S:
                self.ways[way].append(message)
        for way in self.ways:
            for end in way:
                self.ends[end].append(way)
        self.rates = {way: _rate(messages) for way, messages in self.ways.items()}
        self.slow = {way for way in self.ways if self._is_slow(way)}

    def ratios(self) -> dict[Figure, float]:
        blamed = self._blamed()
        found = {}
        for end, ways in self.ends.items():
            believed, best = rate_of(self.cluster, end), max(self.rates[way] for way in ways)
            if best > believed * (1 + self.tolerance):
                found[end] = best / believed
            elif end in blamed:
                slow = [m for way in ways if way in self.slow for m in self.ways[way]]
                found[end] = max(_rate(slow), best) / believed
            elif best * (1 + self.tolerance) > believed or not self.slow.intersection(ways):
                found[end] = 1.0
        return found

    def _believed(self, way: Way) -> float:
        return min(rate_of(self.cluster, end) for end in way)

    def _is_slow(self, way: Way) -> bool:
        share = max(self.rates[way] / self._believed(way), *map(self._busy_share, way))
        return share < 1 / (1 + self.tolerance)

    def _busy_share(self, end: Figure) -> float:
        """Seconds that an end's messages should have taken, of those that they took in all."""
        messages = [message for way in self.ends[end] for message in self.ways[way]]
        expected_s = sum(
            message.bytes / self._believed(way) for way in self.ends[end]
            for message in self.ways[way]
        )  # fmt: skip
        return expected_s * _rate(messages) / sum(message.bytes for message in messages)

    def _blamed(self) -> set[Figure]:
        suspects = {way: [end for end in way if not self._is_cleared(end, way)]
                    for way in self.slow}  # fmt: skip
        count: dict[Figure, int] = defaultdict(int)
        for ends in suspects.values():
            for end in ends:
                count[end] += 1

        def guilt(end: Figure) -> tuple[int, float]:
            return count[end], -rate_of(self.cluster, end)

        return {
            end for ends in suspects.values() for end in ends
            if guilt(end) == max(map(guilt, ends))
        }  # fmt: skip

    def _is_cleared(self, end: Figure, way: Way) -> bool:
        shown = (self.rates[other] for other in self.ends[end] if other not in self.slow)
        return max(shown, default=0.0) > self.rates[way] * (1 + self.tolerance)
