"""Boxes by configuration: per device one choice of contacts and width, everything else linear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nptp_opt.formulations.boxes import SIDES, Box, add_cover, add_positions
from nptp_opt.formulations.building import (
    Builder,
    Piece,
    add_makespan,
    add_one_tile_each,
    add_order,
    area_of,
    new_piece,
    on_cuts,
    total,
)
from nptp_opt.formulations.scaled_costs import ScaledCosts
from nptp_opt.geometry import BOTTOM, LEFT, RIGHT, TOP, Tile, Tiles


@dataclass(frozen=True)
class ConfiguredBox:
    """A device's box, its pieces, and the binaries that choose contacts and width."""

    box: Box
    pieces: Sequence[Piece]
    contacts: Mapping[int, Any]
    widths: Mapping[int, Any]


def _new_box(b: Builder, costs: ScaledCosts, i: int) -> ConfiguredBox:
    """Contacts and width are chosen by binaries; their product selects the piece."""
    configs = [c for contacts in range(16) for c in costs.configs(i, contacts)]
    pieces = [new_piece(b, costs, i, config, key="c") for config in configs]
    contacts = {k: b.binary(f"contacts_{i}_{k}") for k in sorted({p.contacts for p in pieces})}
    widths = {w: b.binary(f"width_{i}_{w}") for w in sorted({p.width for p in pieces})}
    for k, choice in contacts.items():
        own = total(p.select for p in pieces if p.contacts == k)
        b.row(f"contacts_{i}_{k}", [*own, (-1.0, choice)], "==")
    for w, choice in widths.items():
        own = total(p.select for p in pieces if p.width == w)
        b.row(f"width_{i}_{w}", [*own, (-1.0, choice)], "==")
    on_cuts(b, costs, pieces, BOTTOM, key=str(i))
    box = Box(
        device=i,
        x0=b.real(f"x_{i}", 0.0, float(costs.problem.width)),
        y0=b.real(f"y_{i}", 0.0, float(costs.problem.height)),
        width=[(float(w), choice) for w, choice in widths.items()],
        height=total(p.height for p in pieces),
        used=total(contacts.values()),
        touches={
            side: total(choice for k, choice in contacts.items() if k & side) for side in SIDES
        },
    )
    return ConfiguredBox(box, pieces, contacts, widths)


def _add_borders(b: Builder, costs: ScaledCosts, pieces: Sequence[Piece]) -> None:
    """The tiles at each border span it, and every corner belongs to exactly one tile."""
    tall, wide = float(costs.problem.height), float(costs.problem.width)
    for side in (TOP, BOTTOM):
        at = [(float(p.width), p.select) for p in pieces if p.contacts & side]
        b.row(f"border_{side}", at, "==", wide)
        for end in (LEFT, RIGHT):
            corner = total(p.select for p in pieces if p.contacts & side and p.contacts & end)
            b.row(f"corner_{side}_{end}", corner, "==", 1)
    for side in (LEFT, RIGHT):
        at = [(1.0, p.height) for p in pieces if p.contacts & side]
        b.row(f"border_{side}", at, "==", tall)


def add_boxes(b: Builder, costs: ScaledCosts) -> list[ConfiguredBox]:
    """Boxes of all devices with costs, positions, cover and borders; overlap is still allowed."""
    boxes = [_new_box(b, costs, i) for i in costs.devices]
    pieces = [piece for c in boxes for piece in c.pieces]
    add_one_tile_each(b, costs, pieces)
    add_positions(b, costs, [c.box for c in boxes])
    add_cover(b, costs, [(float(p.width), p.height) for p in pieces])
    _add_borders(b, costs, pieces)
    add_order(b, costs.problem, area_of(pieces))
    add_makespan(b, costs, pieces)
    return boxes


def start_boxes(
    costs: ScaledCosts, boxes: Sequence[ConfiguredBox], tiles: Tiles
) -> dict[str, float]:
    """Values of the contact and width binaries for a partition."""
    values = {}
    tall, wide = costs.problem.height, costs.problem.width
    for c in boxes:
        tile = tiles.get(c.box.device, Tile(0, 0, 0, 0))
        contacts = None if tile.is_empty else tile.contacts(tall, wide)
        values.update({v.name: float(k == contacts) for k, v in c.contacts.items()})
        values.update({v.name: float(w == tile.width) for w, v in c.widths.items()})
    return values
