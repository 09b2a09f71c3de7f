"""Grids: r rows times c columns of common cuts, each cell on a device of its own.

Sets      shapes s = (r, c) with r, c >= 2 and r c <= devices; cells (p, q); devices i; widths w
          (differences of allowed cuts). Shapes with r = 1 or c = 1 are the strips of ``strip``.
Variables u[s] = 1 if the shape is chosen; g[s,q,w] = 1 if column q has width w; a[s,p,q,i] = 1 if
          device i takes cell (p, q); l[s,p,q,i,w] = a g and e[s,p,q,i,w] = height * l; n[s,p] the
          height of row p in cut steps (integer).
Objective the makespan; a cell's cost is linear in l and e, for its width is fixed in each.
Rows      exactly one shape; sum_w g[s,q,w] = u[s]; the widths sum to the map's width; sum_i
          l[s,p,q,i,w] = g[s,q,w]; sum_w l[s,p,q,i,w] = a[s,p,q,i]; the cells of a row have one
          height; the heights of a column of cells sum to the map's height (for each width); least
          l <= e <= most l; each device in at most one cell; equal devices by falling area.

All products are products with binaries and so exact. The family of DeepThings' fused tiles: the
strongest partition whose cuts all go through.
"""

from __future__ import annotations

import itertools
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
    order_equal_devices,
    total,
)
from nptp_opt.formulations.scaled_costs import ScaledCosts, sizes
from nptp_opt.formulations.strip import StripBlock, start_blocks, strip_blocks
from nptp_opt.geometry import BOTTOM, LEFT, RIGHT, TOP, Tile, Tiles

Cell = tuple[int, int]


class ShapeBlock:
    """All grids of one shape, active when ``use`` is 1."""

    def __init__(self, b: Builder, view: ScaledCosts, shape: Cell) -> None:
        self.view, self.shape = view, shape
        self.key = f"g{shape[0]}x{shape[1]}"
        self.use = b.binary(f"use_{self.key}")
        self.cells = list(itertools.product(range(shape[0]), range(shape[1])))
        self.columns = self._columns(b)
        self.at: dict[Cell, list[Piece]] = {}
        self.owner: dict[tuple[Cell, int], Any] = {}
        for cell in self.cells:
            self._add_cell(b, cell)
        self._add_rows(b)

    @property
    def pieces(self) -> list[Piece]:
        return [piece for cell in self.cells for piece in self.at[cell]]

    def contacts(self, cell: Cell) -> int:
        (p, q), (r, c) = cell, self.shape
        return TOP * (p == 0) | BOTTOM * (p == r - 1) | LEFT * (q == 0) | RIGHT * (q == c - 1)

    def _columns(self, b: Builder) -> list[dict[int, Any]]:
        """Every column has one width; together they span the map."""
        columns, cuts = [], self.view.problem.cuts_x
        for q in range(self.shape[1]):
            ends = self.contacts((0, q))
            widths = sizes(cuts, ends & LEFT, ends & RIGHT)
            columns.append({w: b.binary(f"col_{self.key}_{q}_{w}") for w in widths})
            b.row(f"width_{self.key}_{q}", [*total(columns[q].values()), (-1.0, self.use)], "==")
        span = [(float(w), g) for column in columns for w, g in column.items()]
        b.row(f"span_{self.key}", [*span, (-float(cuts[-1]), self.use)], "==")
        return columns

    def _add_cell(self, b: Builder, cell: Cell) -> None:
        """One device per cell, with the width of its column."""
        key = f"{self.key}_{cell[0]}_{cell[1]}"
        pieces = self.at[cell] = []
        for i in self.view.devices:
            configs = list(self.view.configs(i, self.contacts(cell)))
            own = [new_piece(b, self.view, i, config, key=key) for config in configs]
            owner = self.owner[cell, i] = b.binary(f"own_{key}_{i}")
            b.row(f"own_{key}_{i}", [*total(p.select for p in own), (-1.0, owner)], "==")
            pieces += own
        for width, column in self.columns[cell[1]].items():
            fitting = total(p.select for p in pieces if p.width == width)
            b.row(f"cell_{key}_{width}", [*fitting, (-1.0, column)], "==")

    def _add_rows(self, b: Builder) -> None:
        """The cells of a row have one height, in whole cut steps; the heights span the map."""
        cuts = self.view.problem.cuts_y
        step, steps = self.view.problem.cut_step, len(cuts) - 1
        for cell in self.cells:
            p, last = cell[0], cell[0] == self.shape[0] - 1
            if cell[1] == 0:
                count = b.integer(f"steps_{self.key}_{p}", 0, steps)
            rest = [(float(step * steps - cuts[-1]), self.use)] if last else []
            heights = total(piece.height for piece in self.at[cell])
            b.row(f"high_{self.key}_{p}_{cell[1]}", [*heights, (-float(step), count), *rest], "==")
        for q, column in enumerate(self.columns):
            stack = [piece for cell in self.cells if cell[1] == q for piece in self.at[cell]]
            for width, g in column.items():
                heights = total(piece.height for piece in stack if piece.width == width)
                b.row(f"full_{self.key}_{q}_{width}", [*heights, (-float(cuts[-1]), g)], "==")

    def tiles(self, values: Mapping[str, float]) -> dict[int, Tile]:
        """The cells' tiles."""
        pieces = {cell: chosen(self.at[cell], values)[0] for cell in self.cells}
        tiles = {}
        for (p, q), piece in pieces.items():
            y0 = sum(values[pieces[above, q].height.name] for above in range(p))
            x0 = sum(pieces[p, before].width for before in range(q))
            y1 = y0 + values[piece.height.name]
            tiles[piece.device] = self.view.tile(y0, y1, x0, x0 + piece.width)
        return tiles

    def start(self, tiles: Tiles) -> dict[str, float]:
        """Values of the binaries; the block is off unless ``tiles`` are a grid of its shape."""
        rows = sorted({t.y0 for t in tiles.values()})
        columns = sorted({t.x0 for t in tiles.values()})
        fits = (len(rows), len(columns)) == self.shape
        seen = tiles if fits else {}
        at = {i: (rows.index(t.y0), columns.index(t.x0)) for i, t in seen.items()}
        values = {self.use.name: float(fits)}
        for (cell, i), owner in self.owner.items():
            values[owner.name] = float(at.get(i) == cell)
        widths = {(at[i][1], tile.width) for i, tile in seen.items()}
        for q, column in enumerate(self.columns):
            values.update({g.name: float((q, w) in widths) for w, g in column.items()})
        return values


def _shapes(costs: ScaledCosts) -> list[Cell]:
    n = len(costs.devices)
    rows, columns = len(costs.problem.cuts_y) - 1, len(costs.problem.cuts_x) - 1
    return [
        (r, c)
        for r, c in itertools.product(range(2, min(n, rows) + 1), range(2, min(n, columns) + 1))
        if r * c <= n
    ]


def build(costs: ScaledCosts) -> BuiltModel:
    """The grid model."""
    b = Builder("grid")
    strips = strip_blocks(b, costs)
    shapes = [ShapeBlock(b, costs, shape) for shape in _shapes(costs)]
    blocks: Sequence[StripBlock | ShapeBlock] = [*strips, *shapes]
    pieces = [piece for block in blocks for piece in block.pieces]
    b.row("shape", total(block.use for block in blocks), "==", 1)
    add_one_tile_each(b, costs, pieces)
    add_order(b, costs.problem, area_of(pieces))
    add_makespan(b, costs, pieces)

    def extract(values: Mapping[str, float]) -> dict[int, Tile]:
        return next(block for block in blocks if values[block.use.name] > 0.5).tiles(values)

    def start(tiles: Tiles) -> dict[str, float]:
        renamed = order_equal_devices(costs.problem, tiles)
        values = start_blocks(strips, renamed)
        for block in shapes:
            values.update(block.start(renamed))
        return values

    return BuiltModel(b.model(), extract, start)
