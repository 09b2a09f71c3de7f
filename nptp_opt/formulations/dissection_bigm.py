"""Any rectangles, the textbook model: pairwise disjunctions and big-M costs.

Sets      devices i; sides b in {top, bottom, left, right}; contacts k (sets of sides); widths w
          (differences of allowed cuts).
Variables x[i], y[i] position; h[i] height; g[i,w] = 1 if device i's tile has width w (none: no
          tile); e[i,w] = h[i] g[i,w]; n[i] height in cut steps (integer); t[i,b] = 1 if the tile
          touches side b; d[i,j,axis] = 1 if i lies before j along the axis.
Objective the makespan. For every k: cost_k(i) <= time[i] + M_k * (sides on which t[i] and k
          differ), so that the costs of the true contacts alone bind; on a shared medium the same
          for bytes.
Rows      0 <= x, x + width <= W, touching exactly as t says (so for y); d[i,j,.] + d[j,i,.] >= 1
          for two used devices; x[i] + width[i] <= x[j] + W (1 - d[i,j,x]); the areas sum to H W;
          memory with a big M; equal devices by falling area.

Its relaxation is weak by construction. It is kept as the reference that the others are measured
against, and as a model whose correctness is easy to see.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulp

from nptp_opt.cost import Form, messages_of
from nptp_opt.formulations.boxes import (
    SIDES,
    Box,
    add_cover,
    add_disjunctions,
    add_positions,
    read_tiles,
    start_before,
)
from nptp_opt.formulations.building import (
    Builder,
    BuiltModel,
    Terms,
    add_order,
    order_equal_devices,
    times,
    total,
)
from nptp_opt.formulations.scaled_costs import ScaledCosts, sizes
from nptp_opt.geometry import BOTTOM, Tile, Tiles


@dataclass(frozen=True)
class SizedBox:
    """A box with the variables that only this model has."""

    box: Box
    widths: Mapping[int, Any]
    touch: Mapping[int, Any]
    area: Terms


def _all_widths(costs: ScaledCosts) -> list[int]:
    cuts = costs.problem.cuts_x
    return sorted({w for low in (0, 1) for high in (0, 1) for w in sizes(cuts, low, high)})


def _new_box(b: Builder, costs: ScaledCosts, i: int) -> SizedBox:
    """Width one-hot, height once per width, so that the area is exact."""
    tall, wide = costs.problem.height, costs.problem.width
    widths = {w: b.binary(f"width_{i}_{w}") for w in _all_widths(costs)}
    heights = {w: b.real(f"height_{i}_{w}", 0.0, tall) for w in widths}
    touch = {side: b.binary(f"touch_{i}_{side}") for side in SIDES}
    box = Box(
        device=i,
        x0=b.real(f"x_{i}", 0.0, wide),
        y0=b.real(f"y_{i}", 0.0, tall),
        width=[(float(w), g) for w, g in widths.items()],
        height=total(heights.values()),
        used=total(widths.values()),
        touches={side: [(1.0, t)] for side, t in touch.items()},
    )
    b.row(f"one_{i}", box.used, "<=", 1)
    for w, g in widths.items():
        b.row(f"hmax_{i}_{w}", [(1.0, heights[w]), (-float(tall), g)], "<=")
        b.row(f"hmin_{i}_{w}", [(1.0, heights[w]), (-1.0, g)], ">=")
    for side, t in touch.items():
        b.row(f"idle_{i}_{side}", [(1.0, t), *times(-1.0, box.used)], "<=")
    area = [(float(w), height) for w, height in heights.items()]
    return SizedBox(box, widths, touch, area)


def _add_steps(b: Builder, costs: ScaledCosts, sized: SizedBox) -> None:
    """Heights are whole cut steps, the map's remainder at the bottom."""
    cuts, step = costs.problem.cuts_y, costs.problem.cut_step
    steps = len(cuts) - 1
    i = sized.box.device
    rest = (float(step * steps - cuts[-1]), sized.touch[BOTTOM])
    count = b.integer(f"steps_{i}", 0, steps)
    b.row(f"steps_{i}", [*sized.box.height, rest, (-float(step), count)], "==")


def _cost_terms(sized: SizedBox, form: Form) -> Terms:
    box = sized.box
    return [
        *times(form.wh, sized.area),
        *times(form.h, box.height),
        *times(form.w, box.width),
        *times(form.const, box.used),
    ]


def _add_big_m(
    b: Builder,
    name: str,
    costs: ScaledCosts,
    sized: SizedBox,
    contacts_form: tuple[int, Form],
    limit: tuple[Terms, float],
) -> None:
    """The cost under contacts k is at most the limit, if the tile's contacts are k."""
    contacts, form = contacts_form
    most = form(costs.problem.width, costs.problem.height)
    big = max(most, form.const, 0.0) - min(0.0, form.const)
    differ: Terms = []
    for side, t in sized.touch.items():
        differ.append((big if contacts & side else -big, t))
    terms, constant = limit
    rhs = constant + big * contacts.bit_count()
    b.row(name, [*_cost_terms(sized, form), *times(-1.0, terms), *differ], "<=", rhs)


def _add_memory(b: Builder, costs: ScaledCosts, sized: SizedBox) -> None:
    """Weights, need and output of a tile fit its device."""
    i = sized.box.device
    for contacts in range(16):
        form, limit = costs.memory(i, contacts)
        if limit < float("inf"):
            name = f"memory_{i}_{contacts}"
            _add_big_m(b, name, costs, sized, (contacts, form), ([], limit))


def _add_makespan(b: Builder, costs: ScaledCosts, boxes: list[SizedBox]) -> None:
    upper = costs.upper if costs.upper < float("inf") else None
    makespan = b.real("makespan", costs.lower, upper)
    b.problem.setObjective(pulp.LpAffineExpression(makespan))
    if costs.cost.cluster.shared:
        _add_shared(b, costs, boxes, makespan)
        return
    for sized in boxes:
        i = sized.box.device
        for contacts in range(16):
            contacts_form = (contacts, costs.time(i, contacts))
            name = f"time_{i}_{contacts}"
            _add_big_m(b, name, costs, sized, contacts_form, ([(1.0, makespan)], 0.0))


def _add_shared(b: Builder, costs: ScaledCosts, boxes: list[SizedBox], makespan: Any) -> None:
    """All bytes, then the largest wait, then the largest compute time."""
    compute, wait = b.real("compute"), b.real("wait")
    sent = [b.real(f"sent_{sized.box.device}") for sized in boxes]
    b.row("phases", [*total([*sent, wait, compute]), (-1.0, makespan)], "<=")
    for sized, own in zip(boxes, sent, strict=True):
        i, used = sized.box.device, sized.box.used
        b.row(f"compute_{i}", [*_cost_terms(sized, costs.compute(i)), (-1.0, compute)], "<=")
        sides = times(messages_of(0) * costs.message, used)
        waits = [*sides, *total(sized.touch.values(), -costs.message), (-1.0, wait)]
        b.row(f"wait_{i}", waits, "<=")
        for contacts in range(16):
            contacts_form = (contacts, costs.recv(contacts))
            name = f"sent_{i}_{contacts}"
            _add_big_m(b, name, costs, sized, contacts_form, ([(1.0, own)], 0.0))


def build(costs: ScaledCosts) -> BuiltModel:
    """The big-M model."""
    b = Builder("dissection-bigm")
    sized = [_new_box(b, costs, i) for i in costs.devices]
    boxes = [s.box for s in sized]
    for one in sized:
        _add_steps(b, costs, one)
        _add_memory(b, costs, one)
    add_positions(b, costs, boxes)
    before = add_disjunctions(b, costs, boxes)
    add_cover(b, costs, [term for s in sized for term in s.area])
    add_order(b, costs.problem, lambda i: sized[i].area)
    _add_makespan(b, costs, sized)

    def extract(values: Mapping[str, float]) -> dict[int, Tile]:
        return read_tiles(costs, boxes, values)

    def start(tiles: Tiles) -> dict[str, float]:
        renamed = order_equal_devices(costs.problem, tiles)
        values = start_before(before, renamed)
        for s in sized:
            values |= _start_box(costs, s, renamed)
        return values

    return BuiltModel(b.model(), extract, start)


def _start_box(costs: ScaledCosts, sized: SizedBox, tiles: Tiles) -> dict[str, float]:
    tile = tiles.get(sized.box.device, Tile(0, 0, 0, 0))
    touched = tile.contacts(costs.problem.height, costs.problem.width)
    contacts = 0 if tile.is_empty else touched
    values = {g.name: float(w == tile.width) for w, g in sized.widths.items()}
    return values | {t.name: float(bool(contacts & side)) for side, t in sized.touch.items()}
