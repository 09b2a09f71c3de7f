"""Drift: what devices and links are measured to do, beside what the plan has of them.

Every second or so the measured seconds of tasks and messages become one ratio per figure. A figure
has drifted when its ratios were outside of the tolerance on the same side for long enough; a single
one within it begins the count anew. What is kept is a few numbers per figure.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nptp_opt.cluster import Cluster
from nptp_opt.deployment.figures import (
    Figure,
    changed,
    in_words,
    ratio_of,
    scaled,
    settled,
)
from nptp_opt.deployment.link_rates import link_ratios
from nptp_opt.deployment.request import DriftLimits
from nptp_opt.runtime.launcher.pipeline import Carried, Done

PERIOD_S = 1.0
"""Of measuring, until it becomes a ratio."""
LEAST_COUNT = 3
"""Ratios that make a drift, however far apart inputs come."""
MOST_KEPT = 32
FORGET_S = 60.0
"""How long a device that no plan uses is believed to be slow, at first; twice as long each time."""


@dataclass
class Trend:
    """The latest ratios of a figure, all outside of the tolerance on the same side."""

    ratios: deque[float] = field(default_factory=lambda: deque(maxlen=MOST_KEPT))
    since_s: float = 0.0

    def note(self, now_s: float, ratio: float, tolerance: float) -> None:
        outside = not 1 / (1 + tolerance) < ratio < 1 + tolerance
        if not outside or (self.ratios and (ratio > 1) != (self.ratios[-1] > 1)):
            self.ratios.clear()
        if outside:
            self.since_s = self.since_s if self.ratios else now_s
            self.ratios.append(ratio)

    def lasts(self, now_s: float, after_s: float) -> bool:
        return len(self.ratios) >= LEAST_COUNT and now_s - self.since_s >= after_s

    @property
    def ratio(self) -> float:
        """The figure now: the median of the later half, as it may have changed by and by."""
        return statistics.median(list(self.ratios)[len(self.ratios) // 2 :])


class Drift:
    """Follows the inputs of one plan after the other; ``believed`` are the cluster's figures.

    ``speeds`` False leaves out those of devices, where these compute by waiting.
    """

    def __init__(self, first: Cluster, limits: DriftLimits, *, speeds: bool) -> None:
        self.first, self.believed, self.limits, self.speeds = first, first, limits, speeds
        self.seen_s: dict[Figure, float] = {}
        """When a figure was last measured."""
        self._forget_s: dict[Figure, float] = {}
        self.restart({})

    def restart(self, modelled_s: Mapping[str, float]) -> None:
        """Another plan runs, or other figures are believed: what each device's tasks should take
        for an input."""
        self.modelled_s = modelled_s
        self.trends: dict[Figure, Trend] = {}
        self._begin_period(None)

    def _begin_period(self, now_s: float | None) -> None:
        self._since_s = now_s
        self._messages: list[Carried] = []
        self._busy_s: dict[str, tuple[float, int]] = {}

    def note(self, done: Done) -> None:
        """An input is done."""
        if self._since_s is None:
            self._since_s = done.ended_s
        self.note_messages(done.messages())
        for device, seconds in done.busy_s.items() if self.speeds else ():
            before, count = self._busy_s.get(device, (0.0, 0))
            self._busy_s[device] = before + seconds, count + 1

    def note_messages(self, messages: Sequence[Carried]) -> None:
        """Messages came in, of inputs or others."""
        if self._since_s is None and messages:
            self._since_s = messages[0].start_s
        self._messages += messages

    def found(self, now_s: float) -> str | None:
        """What has drifted, in words: ``believed`` has it now; None where nothing has."""
        if self._since_s is not None and now_s - self._since_s >= PERIOD_S:
            self._end_period(now_s)
        ratios = self._lasting(now_s) or self._forgotten(now_s)
        if not ratios:
            return None
        before = self.believed
        self.believed = settled(scaled(before, ratios), self.first, self.limits.tolerance)
        self.restart({})
        return ", ".join(in_words(figure, self.believed, self.first) for figure in ratios)

    def _end_period(self, now_s: float) -> None:
        tolerance = self.limits.tolerance
        ratios = link_ratios(self._messages, self.believed, tolerance) | self._speed_ratios()
        for figure, ratio in ratios.items():
            self.trends.setdefault(figure, Trend()).note(now_s, ratio, tolerance)
            self.seen_s[figure] = now_s
        self._begin_period(now_s)

    def _speed_ratios(self) -> dict[Figure, float]:
        return {
            Figure("speed", device): self.modelled_s[device] * count / seconds
            for device, (seconds, count) in self._busy_s.items()
            if seconds > 0 and self.modelled_s.get(device, 0.0) > 0
        }

    def _lasting(self, now_s: float) -> dict[Figure, float]:
        """With a figure that has drifted long enough go those that have for half as long: both
        ways of a link change at once."""
        after_s = self.limits.after_s
        if not any(trend.lasts(now_s, after_s) for trend in self.trends.values()):
            return {}
        half = {f: trend for f, trend in self.trends.items() if trend.lasts(now_s, after_s / 2)}
        return {figure: trend.ratio for figure, trend in half.items()}

    def _forgotten(self, now_s: float) -> dict[Figure, float]:
        """Devices that no plan has used for long, and that may be as fast as ever."""
        found = {}
        for figure in self.unseen(now_s):
            wait_s = self._forget_s.get(figure, FORGET_S)
            if figure.kind == "speed" and now_s - self.seen_s[figure] > wait_s:
                self._forget_s[figure] = 2 * wait_s
                found[figure] = 1 / ratio_of(self.believed, self.first, figure)
        return found

    def unseen(self, now_s: float, for_s: float = 0.0) -> list[Figure]:
        """Figures believed to be others than the first plan's that nothing has measured for so
        long."""
        return [
            figure for figure in changed(self.believed, self.first)
            if now_s - self.seen_s[figure] > for_s
        ]  # fmt: skip
