"""Columns: vertical cuts go through, horizontal cuts stop at them; or the transpose.

Sets      orientations o (columns, rows; rows are columns of the transposed layer); slots q: left,
          right and the inner ones; devices i; ends t in {none, top, bottom, both}; widths w
          (differences of allowed cuts). Partitions with one tile per column, or with one column,
          are the strips of ``strip``.
Variables u[o] = 1 if the orientation is chosen; g[q,w] = 1 if slot q has width w (an inner slot
          may have none); a[i,q,t] = 1 if device i has a tile with ends t in slot q; l[i,q,t,w] =
          a g and e[i,q,t,w] = height * l; n[i] the device's height in cut steps (integer).
Objective the makespan; a tile's cost is linear in l and e, for its width is fixed in each.
Rows      left and right slot are used with the orientation; the widths sum to the map's width;
          per slot and width: one tile at the top, one at the bottom, heights sum to the map's
          height (all times g); sum_t l[i,q,t,w] <= g[q,w]; sum_w l = a; least l <= e <= most l;
          at most one tile per device; inner slots by falling width; equal devices by falling
          area.

All products are products with binaries and so exact, and the rows per width make the relaxation
the convex hull of each slot's widths. The smallest non-penetrative family: every cut ends at a
T-junction or at the border.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nptp_opt.formulations.building import (
    Builder,
    BuiltModel,
    Piece,
    add_makespan,
    add_one_tile_each,
    add_order,
    area_of,
    chosen,
    new_piece,
    on_cuts,
    order_equal_devices,
    times,
    total,
)
from nptp_opt.formulations.scaled_costs import ScaledCosts, sizes
from nptp_opt.formulations.strip import (
    StripBlock,
    add_stack,
    stack_tiles,
    start_blocks,
    strip_blocks,
)
from nptp_opt.geometry import BOTTOM, LEFT, RIGHT, TOP, Tile, Tiles

ENDS = (0, TOP, BOTTOM, TOP | BOTTOM)


class Slot:
    """A column of one of several widths, with a stack of tiles."""

    def __init__(self, b: Builder, view: ScaledCosts, sides: int, *, key: str) -> None:
        self.view, self.key = view, key
        widths = sizes(view.problem.cuts_x, sides & LEFT, sides & RIGHT)
        self.widths = {w: b.binary(f"width_{key}_{w}") for w in widths}
        self.owner: dict[tuple[int, int], Any] = {}
        self.pieces: list[Piece] = []
        for i in view.devices:
            for ends in ENDS:
                self._add_device(b, i, sides | ends)
        for width, use in self.widths.items():
            self._add_width(b, width, use)

    def _add_device(self, b: Builder, device: int, contacts: int) -> None:
        """A device's tile in this slot has one width."""
        configs = [c for c in self.view.configs(device, contacts) if c.width in self.widths]
        own = [new_piece(b, self.view, device, config, key=self.key) for config in configs]
        owner = self.owner[device, contacts] = b.binary(f"own_{self.key}_{device}_{contacts}")
        name = f"own_{self.key}_{device}_{contacts}"
        b.row(name, [*total(p.select for p in own), (-1.0, owner)], "==")
        self.pieces += own

    def _add_width(self, b: Builder, width: int, use: Any) -> None:
        """The tiles of that width fill the slot if it has the width, else there are none."""
        fitting = [p for p in self.pieces if p.width == width]
        key = f"{self.key}_{width}"
        add_stack(b, self.view, fitting, use, key=key)
        for i in self.view.devices:
            own = total(p.select for p in fitting if p.device == i)
            b.row(f"only_{key}_{i}", [*own, (-1.0, use)], "<=")

    @property
    def span(self) -> list[tuple[float, Any]]:
        """The slot's width."""
        return [(float(w), use) for w, use in self.widths.items()]

    def start(self, column: Tiles) -> dict[str, float]:
        """Values of the binaries for the tiles of one column, given in the view."""
        problem = self.view.problem
        taken = {(i, t.contacts(problem.height, problem.width)) for i, t in column.items()}
        widths = {tile.width for tile in column.values()}
        values = {g.name: float(w in widths) for w, g in self.widths.items()}
        return values | {a.name: float(key in taken) for key, a in self.owner.items()}


class ColumnBlock:
    """Column partitions with at least two columns, active when ``use`` is 1."""

    def __init__(self, b: Builder, view: ScaledCosts, *, key: str) -> None:
        self.view = view
        self.use = b.binary(f"use_{key}")
        inner = max(0, len(view.devices) - 3)
        sides = [LEFT, RIGHT, *[0] * inner]
        self.slots = [Slot(b, view, s, key=f"{key}{q}") for q, s in enumerate(sides)]
        self._add_slots(b, key)
        for i in view.devices:
            own = [p for p in self.pieces if p.device == i]
            on_cuts(b, view, own, BOTTOM, key=f"{key}_{i}")

    @property
    def pieces(self) -> list[Piece]:
        return [piece for slot in self.slots for piece in slot.pieces]

    def _add_slots(self, b: Builder, key: str) -> None:
        """Left and right slots are used, inner ones may be, by falling width; they span the map."""
        for q, slot in enumerate(self.slots):
            sense = "==" if q < 2 else "<="
            b.row(f"slot_{key}_{q}", [*total(slot.widths.values()), (-1.0, self.use)], sense)
        span = [term for slot in self.slots for term in slot.span]
        b.row(f"span_{key}", [*span, (-float(self.view.problem.width), self.use)], "==")
        for q in range(2, len(self.slots) - 1):
            one, two = self.slots[q].span, self.slots[q + 1].span
            b.row(f"falling_{key}_{q}", [*one, *times(-1.0, two)], ">=")

    def tiles(self, values: Mapping[str, float]) -> dict[int, Tile]:
        """Left column, inner ones, right column."""
        left, right, *inner = self.slots
        tiles, x0 = {}, 0
        for slot in (left, *inner, right):
            pieces = chosen(slot.pieces, values)
            if pieces:
                x1 = x0 + pieces[0].width
                tiles.update(stack_tiles(self.view, pieces, values, x0, x1))
                x0 = x1
        return tiles

    def start(self, tiles: Tiles) -> dict[str, float]:
        """Values of the binaries; the block is off unless ``tiles`` are columns of its view."""
        columns = _columns({i: self.view.see(tile) for i, tile in tiles.items()})
        fits = sum(w for w, _ in columns) == self.view.problem.width and len(columns) > 1
        filling = [columns[0], columns[-1], *sorted(columns[1:-1], key=lambda c: -c[0])]
        fits = fits and len(filling) <= len(self.slots)
        values = {self.use.name: float(fits)}
        for q, slot in enumerate(self.slots):
            values |= slot.start(filling[q][1] if fits and q < len(filling) else {})
        return values


def _columns(tiles: Tiles) -> list[tuple[int, dict[int, Tile]]]:
    """Width and tiles of every horizontal range that occurs, from the left."""
    ranges = sorted({(t.x0, t.x1) for t in tiles.values()})
    return [
        (x1 - x0, {i: t for i, t in tiles.items() if (t.x0, t.x1) == (x0, x1)}) for x0, x1 in ranges
    ]


def _blocks(b: Builder, costs: ScaledCosts) -> list[ColumnBlock]:
    views = {"c": costs, "r": costs.transposed} if len(costs.devices) > 2 else {}
    return [ColumnBlock(b, view, key=key) for key, view in views.items()]


def build(costs: ScaledCosts) -> BuiltModel:
    """The column model."""
    b = Builder("column")
    strips, columns = strip_blocks(b, costs), _blocks(b, costs)
    blocks: Sequence[StripBlock | ColumnBlock] = [*strips, *columns]
    pieces = [piece for block in blocks for piece in block.pieces]
    b.row("orientation", total(block.use for block in blocks), "==", 1)
    add_one_tile_each(b, costs, pieces)
    add_order(b, costs.problem, area_of(pieces))
    add_makespan(b, costs, pieces)

    def extract(values: Mapping[str, float]) -> dict[int, Tile]:
        return next(block for block in blocks if values[block.use.name] > 0.5).tiles(values)

    def start(tiles: Tiles) -> dict[str, float]:
        return _start(strips, columns, order_equal_devices(costs.problem, tiles))

    return BuiltModel(b.model(), extract, start)


def _start(
    strips: Sequence[StripBlock], columns: Sequence[ColumnBlock], tiles: Tiles
) -> dict[str, float]:
    """Binaries with exactly one block in use: a partition may fit several."""
    values = start_blocks(strips, tiles)
    blocks: Sequence[StripBlock | ColumnBlock] = [*strips, *columns]
    for block in columns:
        taken = any(values.get(other.use.name) == 1.0 for other in blocks)
        fitting = {} if taken else tiles
        values |= block.start(fitting) if fitting else block_off(block)
    return values


def block_off(block: ColumnBlock) -> dict[str, float]:
    """All binaries of an unused block."""
    values = {block.use.name: 0.0}
    for slot in block.slots:
        values |= slot.start({})
    return values
