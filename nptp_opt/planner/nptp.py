"""``nptp``: segments, devices and partitions of a whole network together.

Candidates come from the families' templates and from the solved problems of single layers. The
shortest path over (cut, partition) states picks segments and partitions; then the cuts of all
segments are moved together (the same path over the neighbours of what it uses), then one by one.
Polished partitions are candidates of the next path, until a round gains nothing; then partitions
on a coarse grid are candidates, too, and at last several cuts of a partition move at once. Anytime:
the best plan so far, at worst a baseline, is returned at the limit.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from nptp_opt.cluster import Cluster
from nptp_opt.evaluate.assemble import Assembler, Choice
from nptp_opt.evaluate.latencies import Evaluator
from nptp_opt.evaluate.memory import overfull_devices
from nptp_opt.network.ir import Network
from nptp_opt.planner.baselines.pooled import from_solved
from nptp_opt.planner.baselines.quick import QUICK, single_on
from nptp_opt.planner.candidates.catalogue import (
    aligned_templates,
    distinct,
    single_templates,
    used_templates,
    without,
)
from nptp_opt.planner.candidates.coarse import coarse_templates
from nptp_opt.planner.candidates.handing import handing_templates
from nptp_opt.planner.candidates.pool import (
    Solved,
    near_plan,
    solved_layers,
    with_families,
)
from nptp_opt.planner.candidates.templates import Template
from nptp_opt.planner.local_search.loosen import loosened, overlapped_latency_s
from nptp_opt.planner.local_search.moves import most_neighbours
from nptp_opt.planner.local_search.polish import polish
from nptp_opt.planner.local_search.settle import caught_up, settled
from nptp_opt.planner.objective import ObjectiveSearch, begun, by_objective
from nptp_opt.planner.options import PlanOptions, Watch, ignore
from nptp_opt.planner.path.shortest_path import ShortestPath, spans_of

SETTLING_S = 60.0
"""Seconds for the search on the simulation where no time limit is given."""

CATCHING_S = 5.0
"""Seconds to catch up with a baseline that is faster without barriers."""

LEAST_ALIGNED = 4
"""Templates that are tried, on average, for every one that they are aligned with."""

LITTLE = 3e-3
"""Relative loss without barriers that the last templates may cost, for what they gain with them."""

LEAST_GAIN = 1e-4
"""Relative gain of a round below which the search ends."""


def nptp(network: Network, cluster: Cluster, options: PlanOptions) -> list[Choice]:
    """The best plan found that fits into memory, the cheap baselines included.

    While the best one does not, the first overfull device is given up.
    """
    if not network.spatial:  # nothing to choose: there is one plan
        return single_on(network, cluster.source)
    if options.objective != "latency":
        return by_objective(network, cluster, options, _best_latency)
    return _settled(network, cluster, options)


def objective_search(
    network: Network, cluster: Cluster, options: PlanOptions
) -> tuple[ObjectiveSearch, list[Template]]:
    """A search that has seen the fastest plan and the baselines, and all candidates."""
    return begun(network, cluster, options, _best_latency)


def _settled(network: Network, cluster: Cluster, options: PlanOptions) -> list[Choice]:
    """Several plans, moved until their simulation gets no faster; the best of them."""
    began, limit_s = time.monotonic(), options.limits.time_limit_s
    part = replace(options, limits=replace(options.limits, time_limit_s=limit_s / 2))
    solved = solved_layers(network, cluster, part)
    fastest = _best_latency(network, cluster, part, solved)
    templates = with_families(network, cluster, solved)
    deadline = min(began + limit_s, time.monotonic() + SETTLING_S)
    halfway = (time.monotonic() + deadline) / 2
    starts = _by_one_template(network, cluster, templates, halfway)
    return settled(
        Evaluator(network, cluster, overlap=False),
        [fastest, *starts],
        deadline=deadline,
        latency_limit_s=options.latency_limit_s,
    )


def _by_one_template(
    network: Network, cluster: Cluster, templates: Sequence[Template], deadline: float
) -> Iterator[list[Choice]]:
    """For every template the best plan that uses it and single devices alone."""
    for template in templates:
        few = distinct([template, *single_templates(cluster)], network.spatial)
        found = ShortestPath(network, cluster, few, fuse=True).choices_by(deadline)
        if found is None:
            return
        yield found


def _best_latency(
    network: Network,
    cluster: Cluster,
    options: PlanOptions,
    solved: Solved | None = None,
) -> list[Choice]:
    """The least sum of makespans; no baseline's plan is faster without barriers if it can be
    helped, and what the last templates gain is not lost without barriers."""
    deadline = time.monotonic() + options.limits.time_limit_s
    rivals = [plan(network, cluster) for plan in QUICK.values()]
    evaluate = Evaluator(network, cluster, overlap=False)
    options.watch(min(evaluate(rival).sum_s for rival in rivals))
    solved = solved or solved_layers(network, cluster, options)
    plans, earlier = _searched(network, cluster, options, solved, deadline)
    plans += rivals
    fitting = [plan for plan in plans if not overfull_devices(network, cluster, plan)]
    best = min(fitting or plans, key=lambda choices: evaluate(choices).sum_s)
    if time.monotonic() > deadline or not fitting:
        return best
    rivals += from_solved(network, cluster, solved)

    def caught(plan: list[Choice], others: list[list[Choice]]) -> list[Choice]:
        until = min(deadline, time.monotonic() + CATCHING_S)
        return caught_up(evaluate, plan, others, until, options.latency_limit_s)

    found = caught(best, rivals + earlier)
    for plan in earlier:
        other = caught(plan, rivals)
        slower = evaluate(found).predicted_s > evaluate(other).predicted_s * (1 + LITTLE)
        if slower and evaluate(other).sum_s <= options.latency_limit_s:
            found = other
    return found


def _searched(
    network: Network, cluster: Cluster, options: PlanOptions, solved: Solved, deadline: float
) -> tuple[list[list[Choice]], list[list[Choice]]]:
    """Plans that searches find, and what they had before the last templates made it better. While
    the best one does not fit into memory, the first overfull device is given up and the others are
    searched again."""
    templates = with_families(network, cluster, solved)
    later, last = coarse_templates(network, cluster), handing_templates(network, cluster)
    plans: list[list[Choice]] = []
    earlier: list[list[Choice]] = []
    while templates:
        devices = frozenset(device for template in templates for device in template.boxes)
        search = Search(
            network,
            cluster,
            deadline,
            watch=options.watch,
            overlap=False,
            devices=devices,
        )
        some = [[t for t in batch if t.boxes.keys() <= devices] for batch in (later, last)]
        found = search.run(templates, later=some[0], last=some[1])
        if found is None:
            break
        plans += [found, search.cheapest, search.fitting or found]
        earlier += [search.earlier] if search.earlier else []
        templates = without(templates, overfull_devices(network, cluster, found))
    return plans, earlier


class Search:
    """Path and polish in turn, on one network and cluster, until a deadline.

    ``share`` of the templates that can be priced together are tried with other devices' places. A
    round that gains less than ``least_gain`` of the price is the last.
    The search itself prices steps without overlap; with ``overlap``, ``cheapest`` is the plan that
    is best with it among all that were visited, its segments taken apart where that pays
    (without, the best plan). ``fitting`` is the best of the visited that fit into memory;
    ``earlier`` what was found before the last templates came, where these made it better.
    """

    def __init__(
        self,
        network: Network,
        cluster: Cluster,
        deadline: float,
        share: float = 1 / 3,
        watch: Watch = ignore,
        *,
        overlap: bool = False,
        least_gain: float = LEAST_GAIN,
        devices: frozenset[int] | None = None,
    ) -> None:
        """Plans use ``devices`` alone, by default all."""
        self.network, self.cluster, self.deadline = network, cluster, deadline
        every = frozenset(range(len(cluster.devices)))
        self.devices = every if devices is None else devices
        self.fitting: list[Choice] = []
        self.earlier: list[Choice] = []
        self._fitting_s = math.inf
        self.least_gain = least_gain
        self.share, self.watch, self.overlap = share, watch, overlap
        self.cheapest: list[Choice] = []
        self._least_s = math.inf
        self._assembler = Assembler(network, cluster)
        self.wide = False
        self.random = random.Random(0)

    def run(
        self,
        templates: Sequence[Template],
        surely: Sequence[Template] = (),
        later: Sequence[Template] = (),
        last: Sequence[Template] = (),
    ) -> list[Choice] | None:
        """The best plan found; None when the deadline came before the first path.

        The first path is over all templates, or, where some are ``surely`` among them, over these
        and as many others as can be priced together. When nothing is gained any more, the search
        goes on with ``later``, then with wide moves: from the beginning they would lead it
        elsewhere, for the worse at times. Then come the ``last`` templates.
        """
        self.templates = templates
        pool = [*surely, *self._some(list(templates))] if surely else templates
        first = self._path(distinct(pool, self.network.spatial))
        if first is None:
            return None
        found = self._until_no_gain(first, self._round, self.least_gain)
        if later:
            found = self._widened(self._further(found, later))
        if last:
            earlier, found = found, self._further(found, last)
            self.earlier = [] if found is earlier else earlier
        if self.overlap:
            self.cheapest = loosened(self.network, self.cluster, self.cheapest, self.deadline)
        return found

    def _further(self, found: list[Choice], later: Sequence[Template]) -> list[Choice]:
        """Rounds with ``later`` templates, if a path over them is better than what is found."""
        self.templates = later
        best = self._repartitioned(found)
        return found if best is found else self._until_no_gain(best, self._round, self.least_gain)

    def _widened(self, found: list[Choice]) -> list[Choice]:
        """Rounds that move several cuts at once, if that makes what is found better."""
        self.wide = True
        best = self._polished(found)
        if self._price(best) >= self._price(found) * (1 - self.least_gain):
            return best
        return self._until_no_gain(best, self._round, self.least_gain)

    def _round(self, best: list[Choice]) -> list[Choice]:
        best = self._until_no_gain(best, self._recut)
        return self._repartitioned(self._polished(best))

    def _polished(self, best: list[Choice]) -> list[Choice]:
        network, cluster = self.network, self.cluster
        return polish(network, cluster, best, self.deadline, wide=self.wide, devices=self.devices)

    def _repartitioned(self, best: list[Choice]) -> list[Choice]:
        """The best path over the partitions in use and templates aligned with them."""
        used = distinct(used_templates(best), self.network.spatial)
        few = self._some(distinct(self._aligned(used), self.network.spatial), self.share)
        pool = [*used, *single_templates(self.cluster), *few]
        return self._better(best, self._path(distinct(pool, self.network.spatial)))

    def _aligned(self, used: list[Template]) -> Iterator[Template]:
        """All templates aligned with those in use; with some of these where few are tried."""
        most = max(1, self._most(self.share) // LEAST_ALIGNED)
        anchors = used if len(used) <= most else self.random.sample(used, most)
        for anchor in anchors:
            yield from aligned_templates(self.cluster, self.templates, anchor)

    def _recut(self, best: list[Choice]) -> list[Choice]:
        """The same segments, with the best of their partitions and all neighbours of these."""
        most = most_neighbours(len(self.cluster.devices))
        pool = near_plan(self.network, self.cluster, best, most, self.random)
        return self._better(best, self._path(pool, best))

    def _some(self, templates: list[Template], share: float = 1.0) -> list[Template]:
        """All templates, or a sample of as many as can be priced together."""
        most = self._most(share)
        return templates if len(templates) <= most else self.random.sample(templates, most)

    def _most(self, share: float) -> int:
        return int(share * most_neighbours(len(self.cluster.devices)))

    def _path(
        self, templates: Sequence[Template], within: Sequence[Choice] | None = None
    ) -> list[Choice] | None:
        spans = None if within is None else spans_of(self.network, within)
        allowed = [t for t in templates if t.boxes.keys() <= self.devices]
        if not allowed:  # a plan of reductions alone uses no partition
            return None
        path = ShortestPath(self.network, self.cluster, allowed, fuse=True, spans=spans)
        return path.choices_by(self.deadline)

    def _until_no_gain(
        self,
        best: list[Choice],
        improve: Callable[[list[Choice]], list[Choice]],
        least_gain: float = LEAST_GAIN,
    ) -> list[Choice]:
        value = math.inf
        while self._price(best) < value * (1 - least_gain) and time.monotonic() < self.deadline:
            value = self._price(best)
            self.watch(self._least_s)
            best = improve(best)
        return best

    def _better(self, best: list[Choice], other: list[Choice] | None) -> list[Choice]:
        return best if other is None or self._price(best) <= self._price(other) else other

    def _price(self, choices: Sequence[Choice]) -> float:
        plain_s = sum(step.makespan_s for step in self._assembler.steps(choices))
        final_s = plain_s
        if self.overlap:
            final_s = overlapped_latency_s(self.network, self.cluster, choices)
        if final_s < self._least_s:
            self._least_s, self.cheapest = final_s, list(choices)
        if final_s < self._fitting_s and not overfull_devices(self.network, self.cluster, choices):
            self._fitting_s, self.fitting = final_s, list(choices)
        return plain_s
