"""A new plan when devices are lost: the old plan's partitions, mended, not a search from nothing.

Every partition of the old plan becomes several candidates: the tile of a lost device goes to a
device that had none, or is shared out among the tiles on one of its sides. With the families'
templates of the devices that are left they are what ``nptp``'s search starts from; no layer is
solved again and no baseline is planned.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from nptp_opt.cluster import Cluster
from nptp_opt.geometry import Tile
from nptp_opt.planner.candidates import distinct, family_templates, single_templates
from nptp_opt.planner.memory import overfull
from nptp_opt.planner.moves import Partition, first_idle
from nptp_opt.planner.nptp import Search
from nptp_opt.planner.options import PlanOptions
from nptp_opt.planner.planners import plan_network, plan_of
from nptp_opt.planner.templates import Template, from_tiles
from nptp_opt.steps import Plan

_AIMS = frozenset({"objective", "objective_bound", "latency_limit_s", "notes"})
"""What a plan's provenance says of its aim. A mended plan is made for the latency alone."""

LEAST_GAIN = 2e-3
"""Relative gain of a round below which the search ends: sooner than a first plan's."""


def replan_network(plan: Plan, cluster: Cluster, time_limit_s: float = math.inf) -> Plan:
    """A plan of the same network for ``cluster``, which has some of the old plan's devices.

    Falls back on ``plan_network`` where the mended plan does not fit into memory. Raises
    InfeasibleError where no plan does.
    """
    began = time.monotonic()
    network = plan.network
    surely = distinct([*_mended(plan, cluster), *single_templates(cluster)], network.spatial)
    pool = distinct([*surely, *family_templates(cluster)], network.spatial)
    overlap = any(step.overlap for step in plan.steps)
    deadline = began + time_limit_s
    search = Search(network, cluster, deadline, share=1 / 8, overlap=overlap, least_gain=LEAST_GAIN)
    if search.run(pool, surely) is not None:
        known = _bound_s(plan, cluster)
        choices = search.cheapest
        found = plan_of(plan.model, network, cluster, choices, overlap=overlap, bound_s=known)
        if not overfull(network, cluster, found.steps):
            spent = {"planner": "nptp", "replanned": True, "solve_s": time.monotonic() - began}
            kept = {k: v for k, v in plan.provenance.items() if k not in _AIMS}
            return replace(found, provenance=kept | spent)
    return plan_network(plan.model, network, cluster, PlanOptions(overlap=overlap))


def _bound_s(plan: Plan, cluster: Cluster) -> float | None:
    """The old bound where it holds: a plan of the devices left is one that leaves the others idle.

    None where input or result are elsewhere now.
    """
    old = plan.cluster
    ends = [(c.devices[c.source].name, c.devices[c.sink].name) for c in (old, cluster)]
    same = ends[0] == ends[1] and old.transfer_dtype == cluster.transfer_dtype
    return plan.bound_s if same else None


def _mended(plan: Plan, cluster: Cluster) -> Iterator[Template]:
    """The old plan's partitions on the devices that are left."""
    left = {device.name: i for i, device in enumerate(cluster.devices)}
    number = {i: left.get(d.name, -1 - i) for i, d in enumerate(plan.cluster.devices)}
    for step in plan.steps:
        if step.kind == "spatial":
            full = plan.layers_of(step)[-1].full
            tiles = {number[i]: tile for i, tile in step.tiles.items() if not tile.is_empty}
            for found in _without_lost(tiles, cluster.kinds):
                yield from_tiles(step.layers[-1], found, full.y1, full.x1)


def _without_lost(tiles: Partition, kinds: Sequence[int]) -> Iterator[Partition]:
    """Partitions without the lost devices, whose numbers are negative."""
    lost = min(tiles)
    if lost >= 0:
        yield tiles
        return
    for found in (*handed_over(tiles, lost, kinds), *absorbed(tiles, lost)):
        yield from _without_lost(found, kinds)


def handed_over(tiles: Partition, lost: int, kinds: Sequence[int]) -> Iterator[Partition]:
    """The lost tile on the first idle device of every kind."""
    rest = {i: tile for i, tile in tiles.items() if i != lost}
    for device in first_idle(tiles, kinds).values():
        yield rest | {device: tiles[lost]}


def absorbed(tiles: Mapping[int, Tile], lost: int) -> Iterator[Partition]:
    """The lost tile shared out among the tiles that together make up one of its sides."""
    gap = tiles[lost]
    rest = {i: tile for i, tile in tiles.items() if i != lost}
    rows = {i: t for i, t in rest.items() if gap.y0 <= t.y0 and t.y1 <= gap.y1}
    columns = {i: t for i, t in rest.items() if gap.x0 <= t.x0 and t.x1 <= gap.x1}
    sides = (
        {i: Tile(t.y0, gap.y1, t.x0, t.x1) for i, t in columns.items() if t.y1 == gap.y0},
        {i: Tile(gap.y0, t.y1, t.x0, t.x1) for i, t in columns.items() if t.y0 == gap.y1},
        {i: Tile(t.y0, t.y1, t.x0, gap.x1) for i, t in rows.items() if t.x1 == gap.x0},
        {i: Tile(t.y0, t.y1, gap.x0, t.x1) for i, t in rows.items() if t.x0 == gap.x1},
    )
    for grown in sides:
        if _gained(grown, rest) == gap.area:
            yield rest | grown


def _gained(grown: Mapping[int, Tile], before: Mapping[int, Tile]) -> int:
    return sum(tile.area - before[i].area for i, tile in grown.items())
