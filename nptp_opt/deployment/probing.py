"""Probes: links that were found slow, and that the plan therefore leaves alone, are timed now and
then, so that they are used again when they are as they were."""

from __future__ import annotations

from dataclasses import dataclass

from nptp_opt.cluster import Cluster
from nptp_opt.deployment.drift import Drift
from nptp_opt.deployment.figures import Figure, rate_of
from nptp_opt.runtime.launcher.pipeline import Carried
from nptp_opt.runtime.launcher.pool import WorkerPool
from nptp_opt.runtime.transport.control import Message

EVERY_S = 2.0
BUSY_SHARE = 0.05
"""Most of a link's time that probes may take."""
GIVE_UP_S = 30.0
"""A probe that says nothing for so long is none any more."""


@dataclass
class Probe:
    """Two devices that time their way to each other."""

    number: int
    caller: str
    answering: str
    began_s: float
    heard: int = 0


class Prober:
    """Has one pair of devices probe at a time, and tells ``drift`` what they found."""

    def __init__(self, drift: Drift) -> None:
        self.drift = drift
        self.probe: Probe | None = None
        self._number = 0
        self._next_s = 0.0
        self._last: dict[str, int] = {}

    def step(self, pool: WorkerPool, now_s: float) -> None:
        """Go on with what is under way, or begin; raises DeviceLostError."""
        while pool.asides:
            self._hear(pool, *pool.asides.popleft(), now_s)
        if self.probe is not None and now_s - self.probe.began_s > GIVE_UP_S:
            self.probe = None
        if self.probe is None and now_s >= self._next_s:
            self._next_s = now_s + EVERY_S
            self._begin(pool, now_s)

    def _begin(self, pool: WorkerPool, now_s: float) -> None:
        unseen = [f for f in self.drift.unseen(now_s, EVERY_S) if f.kind != "speed"]
        pair = _pair(unseen, self.drift.believed, self._last, pool)
        if pair is None:
            return
        self._number += 1
        self.probe = Probe(self._number, *pair, now_s)
        self._last[pair[0]] = self._number
        self._ask(pool, pair[1])

    def _ask(self, pool: WorkerPool, name: str, address: str | None = None) -> None:
        """Have a device call the other one, or wait for its call."""
        assert self.probe is not None
        pair = {self.probe.caller, self.probe.answering}
        pool.send(name, "probe", number=self.probe.number, interface=pool.site.interface(name),
                  address=address, peer=(pair - {name}).pop())  # fmt: skip

    def _hear(self, pool: WorkerPool, name: str, message: Message, now_s: float) -> None:
        probe = self.probe
        if probe is None or message["number"] != probe.number:
            return
        if message.kind == "probing":
            self._ask(pool, probe.caller, address=str(message["address"]))
            return
        if message["arrival"]:
            size, *ends = message["arrival"]
            seconds = (ends[1] - ends[0]) / 1e9
            other = probe.caller if name == probe.answering else probe.answering
            self.drift.note_messages((Carried(other, name, size, now_s - seconds, now_s),))
            self._next_s = max(self._next_s, now_s + seconds / BUSY_SHARE)
        probe.heard += 1
        if probe.heard == 2 or not message["arrival"]:
            self.probe = None


def _pair(
    unseen: list[Figure], cluster: Cluster, last: dict[str, int], pool: WorkerPool
) -> tuple[str, str] | None:
    """Whose link was probed longest ago, and the device of those left whose link is best."""
    names = [device.name for device in cluster.devices if device.name in pool.members]
    wanted = names[1:] if cluster.shared and unseen else [f.device for f in unseen]
    wanted = [name for name in wanted if name in names]
    if len(names) < 2 or not wanted:
        return None
    caller = min(wanted, key=lambda name: last.get(name, 0))
    others = [name for name in names if name != caller]
    if cluster.shared:
        return caller, others[0]

    def both_ways(name: str) -> float:
        return min(rate_of(cluster, Figure(kind, name)) for kind in ("up", "down"))

    return caller, max(others, key=both_ways)
