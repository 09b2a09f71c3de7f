"""Which plan a service runs: another one when devices are lost, are back, or have drifted.

A loss ends the session: the survivors are planned for at once. Everything else is planned for
beside the running plan, and taken between two inputs.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from nptp_opt.cluster import Cluster
from nptp_opt.deployment.drift import Drift
from nptp_opt.deployment.planning import Planning
from nptp_opt.deployment.probing import Prober
from nptp_opt.deployment.request import DeployRequest
from nptp_opt.evaluate.task_graph import task_seconds
from nptp_opt.evaluate.usage import values_of
from nptp_opt.network.load import LoadedModel
from nptp_opt.plan.model import Plan
from nptp_opt.runtime.launcher.command import replanner
from nptp_opt.runtime.launcher.losses import only, survive
from nptp_opt.runtime.launcher.pipeline import Done
from nptp_opt.runtime.launcher.pool import DeviceLostError, WorkerPool

MOST_RESTARTS = 3
"""How often in a row a worker of this machine is started anew without having answered anything."""


@dataclass
class Counts:
    """What has happened since the start."""

    answered: int = 0
    losses: list[str] = field(default_factory=list)
    replans: int = 0
    """Plans made and taken, but for those of before."""
    returns: list[str] = field(default_factory=list)
    """Devices that were lost and came back."""
    drifts: list[str] = field(default_factory=list)
    """What was found to have changed, in words."""


@dataclass(frozen=True)
class Next:
    """A plan that is made beside the running one, for devices that are back or for a drift."""

    planning: Planning
    names: tuple[str, ...]
    why: str


class Adaptation:
    """The running plan and the next; its methods are called in the service's thread."""

    def __init__(
        self,
        plan: Plan,
        model: LoadedModel,
        request: DeployRequest,
        progress: Callable[[str], None],
    ) -> None:
        self.first = self.plan = plan
        self.model, self.request, self.progress = model, request, progress
        self.counts = Counts()
        self.drift = Drift(plan.cluster, request.drift, speeds=request.follows_speeds)
        self.prober = Prober(self.drift)
        self._next: Next | None = None
        self._restarts: Counter[str] = Counter()

    def answered(self, done: Done) -> None:
        """An input is done."""
        for name in self._restarts.keys() & done.busy_s.keys():
            del self._restarts[name]
        if self.request.follows_links or self.request.follows_speeds:
            self.drift.note(done)

    def begin(self) -> None:
        """A session with the running plan begins."""
        self.drift.restart(_modelled_s(self.plan))

    def close(self) -> None:
        """End what is under way beside the plan."""
        if self._next is not None:
            self._next.planning.close()
        self._next = None

    # -- losses --------------------------------------------------------------------------------

    def go_on_without(self, pool: WorkerPool, error: DeviceLostError) -> None:
        """Plan for the survivors; raises ExecutionError where there is no plan for them."""
        self.close()
        replan = replanner(self.plan, self.model, self.progress)
        self.plan, lost = survive(pool, self.plan, error, replan, self.progress)
        for name in lost:
            self._restarts[name] += 1
            if pool.remote or self._restarts[name] <= MOST_RESTARTS:
                pool.recall(name)
        self.counts.losses += lost
        self.counts.replans += 1

    # -- returns and drift ---------------------------------------------------------------------

    def wants_switch(self, pool: WorkerPool) -> bool:
        """Whether a plan is there to be taken; begins one where devices are back or figures are
        others."""
        names = tuple(pool.returned)
        if set(names) != set(self._next.names if self._next else ()):
            self.close()
        if self._next is None:
            self._begin_next(pool, names)
        if self._next is None or not self._next.planning.made.done():
            return False
        return bool(self._next.names) or self._is_better(self._next)

    def _begin_next(self, pool: WorkerPool, names: tuple[str, ...]) -> None:
        why = self._drifted(pool)
        if names:
            why = f"{', '.join(names)} came back"
            self.progress(f"{why}: a plan with them is next")
        if why is not None:
            cluster = only(self.drift.believed, {*pool.members, *names})
            self._next = Next(self._plan_for(cluster, pool), names, why)

    def _drifted(self, pool: WorkerPool) -> str | None:
        """What is other than it was, if anything is; the running plan's values are for that."""
        if not (self.request.follows_links or self.request.follows_speeds):
            return None
        now_s = time.monotonic()
        if self.request.follows_links:
            self.prober.step(pool, now_s)
        why = self.drift.found(now_s)
        if why is not None:
            self.counts.drifts.append(why)
            here = [device.name for device in self.plan.cluster.devices]
            self.plan = revalued(self.plan, only(self.drift.believed, here))
            self.drift.restart(_modelled_s(self.plan))
        return why

    def _plan_for(self, cluster: Cluster, pool: WorkerPool) -> Planning:
        """From the running plan and the first one; that itself where all is as it was."""
        if cluster is self.first.cluster:
            return Planning.of(self.first)
        return Planning.begin((self.plan, self.first), cluster, pool.folder)

    def _is_better(self, found: Next) -> bool:
        """Whether it is worth taking for the drift; else the running one is kept, and it is said.

        The log has one line either way.
        """
        error = found.planning.made.exception()
        if error is not None:
            self.progress(f"{found.why}: the plan is kept, for no other was made: {error}")
            self._next = None
            return False
        new, now = found.planning.made.result(), self.plan
        before, after = _value(now), _value(new)
        better = after < before * (1 - self.request.drift.margin)
        verdict = "a new plan is taken" if better else "the plan is kept"
        self.progress(f"{found.why}: {verdict}, {_spelled(after, new)} against {before:.4g}")
        if not better:
            self._next = None
        return better

    def switch(self, pool: WorkerPool) -> None:
        """Between two sessions: take the next plan, if its devices are what they were."""
        found, self._next = self._next, None
        if found is None or not found.planning.made.done():
            return
        if set(found.names) != set(pool.returned):
            return
        pool.readmit(found.names)
        error = found.planning.made.exception()
        if error is not None:  # they stay idle until another loss
            self.progress(f"no plan with {', '.join(found.names)}: {error}")
            return
        self.plan = found.planning.made.result()
        self.counts.replans += not found.names
        self.counts.returns += found.names
        if found.names:
            self.progress(f"going on with {', '.join(found.names)}")


def revalued(plan: Plan, cluster: Cluster) -> Plan:
    """The same steps where devices and links are as in ``cluster``, which has the same devices."""
    values = values_of(plan.network, cluster, plan.steps)
    return replace(
        plan, cluster=cluster, latency_s=values.latency_s, period_s=values.period_s,
        energy_j=values.energy_j, bound_s=None,
    )  # fmt: skip


def _value(plan: Plan) -> float:
    """What the plan's objective makes of it."""
    return values_of(plan.network, plan.cluster, plan.steps).of(plan.provenance.objective)


def _spelled(value: float, plan: Plan) -> str:
    objective = plan.provenance.objective
    names: Mapping[str, str] = {"latency": "{} s predicted", "throughput": "{} s per input"}
    return names.get(objective, "{} of " + objective).format(f"{value:.4g}")


def _modelled_s(plan: Plan) -> dict[str, float]:
    """What each device's tasks take for an input."""
    names: Sequence[str] = [device.name for device in plan.cluster.devices]
    found: Counter[str] = Counter()
    for (_, device), seconds in task_seconds(plan.network, plan.cluster, plan.steps).items():
        found[names[device]] += seconds  # type: ignore[assignment]
    return dict(found)
