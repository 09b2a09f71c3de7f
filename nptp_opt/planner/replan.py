"""A new plan when devices are lost or their figures change: the old plan's partitions, mended, not
a search from nothing.

Every partition of the old plan becomes several candidates: the tile of a lost device goes to a
device that had none, or is shared out among the tiles on one of its sides. The search on the clock
starts from the old plan mended, and from the shortest path over these candidates and the families'
templates of the devices that are left; no layer is solved again and no baseline is planned.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from nptp_opt.cluster import Cluster
from nptp_opt.cost import Rims
from nptp_opt.evaluate.assemble import Choice
from nptp_opt.evaluate.clock import Clock
from nptp_opt.evaluate.memory import require_fit
from nptp_opt.plan.model import Plan
from nptp_opt.plan.steps import GlobalStep, SpatialStep
from nptp_opt.planner.candidates.catalogue import distinct, family_templates, single_templates
from nptp_opt.planner.candidates.templates import Template, from_tiles
from nptp_opt.planner.local_search.anneal import searched
from nptp_opt.planner.local_search.moves import Partition, absorbed, first_idle
from nptp_opt.planner.nptp import no_garbage, nptp, paths
from nptp_opt.planner.options import PlanOptions
from nptp_opt.planner.path.discounted import FEW_DISCOUNTS
from nptp_opt.planner.planners import plan_of

_AIMS = frozenset({"objective", "objective_bound", "latency_limit_s", "notes"})
"""What a plan's provenance says of its aim. A mended plan is made for the latency alone."""

EFFORT = 0.4
"""Part of a first plan's search that is gone through again."""

ENDS = ("source", "sink", "stand_ins")
"""What a network says of devices, not of links."""

MOST_MENDED = 12
"""Mended plans that the search may start from; the loss of one device has hardly more."""


def replan_network(
    plan: Plan, cluster: Cluster, others: Sequence[Plan] = (), *, effort: float = EFFORT
) -> Plan:
    """A plan of the same network for ``cluster``, which has some of the old plan's devices.

    The search starts from ``others``, too; it is ``effort`` of a first plan's. It searches from
    nothing where the mended partitions do not fit into memory. Raises InfeasibleError where no plan
    does.
    """
    began = time.monotonic()
    network, ways = plan.network, [_ways(old, cluster) for old in (plan, *others)]
    some = [template for mended in ways for template in _templates(mended)]
    some += [*single_templates(cluster), *family_templates(cluster)]
    templates = distinct(some, network.spatial)
    clock = Clock(network, cluster)
    starts = [
        start for mended in ways for start in itertools.islice(_mend_uniformly(mended), MOST_MENDED)
    ]
    starts += paths(network, cluster, templates, discounts=FEW_DISCOUNTS)
    if not any(clock.fits(start) for start in starts):
        starts.append(nptp(network, cluster, PlanOptions()))
    with no_garbage():
        choices = searched(clock, starts, templates, effort=effort)
    known = _bound_s(plan, cluster)
    new_plan = plan_of(plan.model, network, cluster, choices, bound_s=known)
    require_fit(network, cluster, new_plan.steps, "nptp")
    spent = {"planner": "nptp", "replanned": True, "solve_s": time.monotonic() - began}
    return replace(new_plan, provenance=plan.provenance.without(_AIMS).model_copy(update=spent))


def _bound_s(plan: Plan, cluster: Cluster) -> float | None:
    """The old bound where it holds: a plan of the devices left is one that leaves the others idle.

    None where input or result are elsewhere now, or any figure is another.
    """
    old = plan.cluster
    known = {device.name: device for device in old.devices}
    if any(known.get(device.name) != device for device in cluster.devices):
        return None
    ends = [(c.devices[c.source].name, c.devices[c.sink].name) for c in (old, cluster)]
    links = [c.network.model_copy(update=dict.fromkeys(ENDS)) for c in (old, cluster)]
    return plan.bound_s if ends[0] == ends[1] and links[0] == links[1] else None


def _ways(plan: Plan, cluster: Cluster) -> list[list[Choice]]:
    """Every segment of the old plan, each with its partition mended in all ways."""
    left = {device.name: i for i, device in enumerate(cluster.devices)}
    number = {i: left.get(d.name, -1 - i) for i, d in enumerate(plan.cluster.devices)}
    ways: list[list[Choice]] = []
    for step in plan.steps:
        layers = plan.layers_of(step)
        if isinstance(step, GlobalStep):
            ways.append([Choice(layers)])
        if isinstance(step, SpatialStep):
            tiles = {number[i]: tile for i, tile in step.tiles.items() if not tile.is_empty}
            mended = _without_lost(tiles, cluster.kinds)
            rims: Rims = "both" if step.pieces else "none"
            ways.append([Choice(layers, partition, rims) for partition in mended])
    return ways


def _templates(ways: Sequence[Sequence[Choice]]) -> Iterator[Template]:
    """The mended partitions of all segments."""
    for choice in itertools.chain.from_iterable(ways):
        if not choice.is_global:
            last = choice.layers[-1]
            yield from_tiles(last.name, choice.tiles, last.height, last.width)


def _mend_uniformly(ways: Sequence[Sequence[Choice]]) -> Iterator[list[Choice]]:
    """The old plan, all its segments mended in the same way; none where one cannot be mended, or
    where there are none: whole nodes alone."""
    if ways and all(ways):
        for k in range(max(map(len, ways))):
            yield [mended[min(k, len(mended) - 1)] for mended in ways]


def _without_lost(tiles: Partition, kinds: Sequence[int]) -> Iterator[Partition]:
    """Partitions without the lost devices, whose numbers are negative."""
    lost = min(tiles)
    if lost >= 0:
        yield tiles
        return
    for partition in (*hand_over(tiles, lost, kinds), *absorbed(tiles, lost)):
        yield from _without_lost(partition, kinds)


def hand_over(tiles: Partition, lost: int, kinds: Sequence[int]) -> Iterator[Partition]:
    """The lost tile on the first idle device of every kind."""
    rest = {i: tile for i, tile in tiles.items() if i != lost}
    for device in first_idle(tiles, kinds).values():
        yield rest | {device: tiles[lost]}
