"""Operators: random small changes of a plan, each of one kind, for the search on the clock.

Cuts are moved on one segment alone or on a *span*, neighbouring segments on the same devices, all
of which get the moved partition; a partition spreads to its neighbours; segments are cut in two,
joined, or hand layers over; a segment's rims are computed apart or no longer are; messages go to
some receivers first; devices change places, leave their tile to its neighbours, or take part of
another's.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence

from nptp_opt.cost import RIMS
from nptp_opt.evaluate.assemble import Choice
from nptp_opt.evaluate.clock import Clock
from nptp_opt.geometry import Tile
from nptp_opt.network.ir import Layer
from nptp_opt.planner.candidates.templates import Template, rescaled, snaps
from nptp_opt.planner.local_search.moves import Partition, absorbed, random_move
from nptp_opt.planner.path.units import is_segment

FINEST = 56
"""Cut positions per axis on which the cuts of several segments move together."""

SHARES = {
    "shift": 6.0,
    "shift_span": 4.0,
    "spread": 1.0,
    "take_template": 0.5,
    "split": 1.0,
    "join": 1.0,
    "slide": 1.0,
    "rims": 1.5,
    "first": 0.5,
    "swap": 1.0,
    "relocate": 1.0,
}
"""How often each operator is tried, relative to the others."""

Plan = list[Choice]


class Operators:
    """Draws changes of plans; ``templates`` are partitions that any span may take."""

    def __init__(self, clock: Clock, templates: Sequence[Template], rng: random.Random) -> None:
        self.network, self.kinds, self.rng = clock.network, clock.cluster.kinds, rng
        self.templates = templates
        self._shares = [*SHARES], [*itertools.accumulate(SHARES.values())]
        self._snaps = snaps(self.network)
        self._segments: dict[tuple[str, ...], tuple[Layer, ...] | None] = {}

    def draw(self, plan: Plan) -> Plan | None:
        """A changed plan; None where the operator that was drawn has nothing to do."""
        places = [k for k, choice in enumerate(plan) if choice.tiles]
        names, shares = self._shares
        (name,) = self.rng.choices(names, cum_weights=shares)
        return getattr(self, f"_{name}")(plan, self.rng.choice(places)) if places else None

    # -- partitions ----------------------------------------------------------------------------

    def _shift(self, plan: Plan, k: int) -> Plan | None:
        last = plan[k].layers[-1]
        moved = random_move(plan[k].tiles, max(last.height, last.width) // 8, self.rng)
        return None if moved is None else _with(plan, k, k, lambda _: moved)

    def _shift_span(self, plan: Plan, k: int) -> Plan | None:
        last = plan[k].layers[-1]
        grid = min(last.height, FINEST), min(last.width, FINEST)
        tiles = rescaled(plan[k].tiles, (last.height, last.width), grid)
        moved = random_move(tiles, max(grid) // 8, self.rng)
        return None if moved is None else self._on_span(plan, k, moved, grid)

    def _spread(self, plan: Plan, k: int) -> Plan | None:
        """The partition of a neighbour."""
        near = [j for j in (k - 1, k + 1) if 0 <= j < len(plan) and plan[j].tiles]
        if not near:
            return None
        other = plan[self.rng.choice(near)]
        last = other.layers[-1]
        return self._on_span(plan, k, dict(other.tiles), (last.height, last.width))

    def _take_template(self, plan: Plan, k: int) -> Plan | None:
        if not self.templates:
            return None
        template, last = self.rng.choice(self.templates), plan[k].layers[-1]
        tiles = template.at(last.height, last.width)
        return self._on_span(plan, k, tiles, (last.height, last.width))

    def _relocate(self, plan: Plan, k: int) -> Plan | None:
        """A device leaves its tile to neighbours, or takes part of another's, or one after the
        other."""
        tiles, device = dict(plan[k].tiles), self.rng.randrange(len(self.kinds))
        had = device in tiles
        if had:
            ways = [*absorbed(tiles, device)]
            if not ways:
                return None
            tiles = self.rng.choice(ways)
        if not had or self.rng.random() < 0.5:
            owner = self.rng.choice([*tiles])
            parts = _parted(tiles[owner], self.rng)
            if any(part.is_empty for part in parts):
                return None
            tiles |= {owner: parts[0], device: parts[1]}
        last = plan[k].layers[-1]
        return self._on_span(plan, k, tiles, (last.height, last.width))

    def _swap(self, plan: Plan, k: int) -> Plan | None:
        """Two devices change places on a span, or from its first segment to the end."""
        start, end = self._span(plan, k)
        one = self.rng.choice([*plan[k].tiles])
        other = self.rng.randrange(len(self.kinds))
        if one == other:
            return None
        places = {one: other, other: one}
        if self.rng.random() < 0.5:
            end = len(plan) - 1
        return _with(
            plan, start, end, lambda c: {places.get(d, d): tile for d, tile in c.tiles.items()}
        )

    def _on_span(self, plan: Plan, k: int, tiles: Partition, size: tuple[int, int]) -> Plan | None:
        """A partition of a map of ``size`` on a span around segment ``k``."""
        start, end = self._span(plan, k)
        snapped = self.rng.random() < 0.5
        placed: dict[object, Partition] = {}  # by what it depends on: most layers of a span agree

        def place(choice: Choice) -> Partition:
            last = choice.layers[-1]
            key = last.height, last.width, self._snap(last, snapped=snapped)
            if key not in placed:
                placed[key] = self._placed(tiles, size, last, snapped=snapped)
            return placed[key]

        return _with(plan, start, end, place)

    def _span(self, plan: Plan, k: int) -> tuple[int, int]:
        start = end = k
        devices = plan[k].tiles.keys()
        while start > 0 and plan[start - 1].tiles.keys() == devices:
            start -= 1
        while end + 1 < len(plan) and plan[end + 1].tiles.keys() == devices:
            end += 1
        return self.rng.randint(start, k), self.rng.randint(k, end)

    def _placed(
        self, tiles: Partition, size: tuple[int, int], layer: Layer, *, snapped: bool
    ) -> Partition:
        other = layer.height, layer.width
        return rescaled(tiles, size, other, self._snap(layer, snapped=snapped))

    def _snap(self, layer: Layer, *, snapped: bool) -> tuple[int, int]:
        return self._snaps[layer.name] if snapped or layer.is_whole else (1, 1)

    # -- segments ------------------------------------------------------------------------------

    def _rims(self, plan: Plan, k: int) -> Plan:
        """Other rims of a segment are computed apart from its interior."""
        choice = plan[k]
        other = self.rng.choice([rims for rims in RIMS if rims != choice.rims])
        changed = Choice(choice.layers, choice.tiles, other, choice.first)
        return [*plan[:k], changed, *plan[k + 1 :]]

    def _first(self, plan: Plan, k: int) -> Plan | None:
        """One receiver gets its messages before all others, or no longer does."""
        choice = plan[k]
        device = self.rng.choice([*choice.tiles])
        others = tuple(other for other in choice.first if other != device)
        ahead = choice.first[:1] != (device,)
        first = (device, *others) if ahead else others
        changed = Choice(choice.layers, choice.tiles, choice.rims, first)
        return [*plan[:k], changed, *plan[k + 1 :]]

    def _split(self, plan: Plan, k: int) -> Plan | None:
        """Two segments of one, the first on the partition of the whole."""
        if len(plan[k].layers) < 2:
            return None
        at = self.rng.randrange(1, len(plan[k].layers))
        return self._cut(plan, k, k, at, plan[k])

    def _slide(self, plan: Plan, k: int) -> Plan | None:
        """A few layers from one segment to its neighbour."""
        if k + 1 == len(plan):
            return None
        at = len(plan[k].layers) + self.rng.choice((-2, -1, 1, 2))
        return self._cut(plan, k, k + 1, at, plan[k])

    def _cut(self, plan: Plan, k: int, end: int, at: int, like: Choice) -> Plan | None:
        """The layers of segments ``k`` to ``end`` in two, the first partitioned ``like`` one."""
        layers = tuple(layer for choice in plan[k : end + 1] for layer in choice.layers)
        first, second = self._segment(layers[:at]), self._segment(layers[at:])
        if not first or not second:
            return None
        last = like.layers[-1]
        snapped = self.rng.random() < 0.5
        tiles = self._placed(
            dict(like.tiles), (last.height, last.width), first[-1], snapped=snapped
        )
        ends = plan[end]
        parts = (
            Choice(first, tiles, like.rims, like.first),
            Choice(second, ends.tiles, ends.rims, ends.first),
        )
        return [*plan[:k], *parts, *plan[end + 1 :]]

    def _join(self, plan: Plan, k: int) -> Plan | None:
        if k + 1 == len(plan):
            return None
        after = plan[k + 1]
        layers = self._segment((*plan[k].layers, *after.layers))
        if not layers:
            return None
        joined = Choice(layers, after.tiles, after.rims, after.first)
        return [*plan[:k], joined, *plan[k + 2 :]]

    def _segment(self, layers: tuple[Layer, ...]) -> tuple[Layer, ...] | None:
        """The layers where they can be one segment, always the same tuple; else None."""
        names = tuple(layer.name for layer in layers)
        if names not in self._segments:
            fine = bool(layers) and is_segment(self.network, layers)
            self._segments[names] = layers if fine else None
        return self._segments[names]


def _parted(tile: Tile, rng: random.Random) -> tuple[Tile, Tile]:
    """A tile in two parts in random order; one may be empty."""
    share = rng.uniform(0.2, 0.8)
    if rng.random() < 0.5:
        at = tile.y0 + round(share * tile.height)
        parts = tile.rows(tile.y0, at), tile.rows(at, tile.y1)
    else:
        at = tile.x0 + round(share * tile.width)
        parts = tile.columns(tile.x0, at), tile.columns(at, tile.x1)
    return parts if rng.random() < 0.5 else (parts[1], parts[0])


def _with(plan: Plan, start: int, end: int, tiles: Callable[[Choice], Partition]) -> Plan | None:
    """The plan with other partitions of its segments ``start`` to ``end``; None where all tiles of
    one are empty."""
    changed = [
        Choice(choice.layers, tiles(choice), choice.rims, choice.first) if choice.tiles else choice
        for choice in plan[start : end + 1]
    ]
    if any(not choice.tiles and not choice.is_global for choice in changed):
        return None
    return [*plan[:start], *changed, *plan[end + 1 :]]
