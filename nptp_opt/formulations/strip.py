"""Strips: all cuts parallel, each through the whole map.

Sets      orientations o (rows, columns; columns are rows of the transposed layer); devices i;
          contacts k in {none, top, bottom, both} beside left and right, which every strip touches.
Variables u[o] = 1 if the orientation is chosen; s[o,i,k] = 1 if device i has a strip with contacts
          k; h[o,i,k] its height (0 if not chosen); n[o,i] its height in cut steps (integer).
Objective the makespan: the largest cost of a device (switched), or the time of all bytes plus the
          largest wait plus the largest compute time (shared). Costs are linear in h.
Rows      sum_o u[o] = 1; sum_{o,k} s[o,i,k] <= 1; the heights sum to the map's height; one strip is
          at the top and one at the bottom of the chosen orientation; least s <= h <= most s, where
          "most" obeys the memory limit and the known makespan; equal devices by falling area.

The cost of a strip depends on its height and its contacts alone, so the order of the inner strips
is free and no position appears: the model has 8 binaries per device, whatever the map. Where a
strip's exact cost depends on its position too, ``strip_exact`` proves or improves the answer. It
is the penetrative baseline that every non-penetrative plan is compared with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nptp_opt.formulations import strip_exact
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
    total,
)
from nptp_opt.formulations.scaled_costs import ScaledCosts
from nptp_opt.geometry import BOTTOM, LEFT, RIGHT, TOP, Tile, Tiles

STACKS = tuple(LEFT | RIGHT | ends for ends in (0, TOP, BOTTOM, TOP | BOTTOM))


class StripBlock:
    """Strips of one orientation, active when ``use`` is 1; also a part of grids and columns."""

    def __init__(self, b: Builder, view: ScaledCosts, *, key: str) -> None:
        self.view = view
        self.use = b.binary(f"use_{key}")
        self.pieces: list[Piece] = []
        for i in view.devices:
            self.pieces += self._device(b, i, key)
        add_stack(b, view, self.pieces, self.use, key=key)

    def _device(self, b: Builder, device: int, key: str) -> list[Piece]:
        configs = [c for k in STACKS for c in self.view.configs(device, k)]
        own = [new_piece(b, self.view, device, config, key=key) for config in configs]
        for piece in own:
            piece.select.cat = "Integer"
        on_cuts(b, self.view, own, BOTTOM, key=f"{key}_{device}")
        return own

    def tiles(self, values: Mapping[str, float]) -> dict[int, Tile]:
        """The strips in order: top, inner ones, bottom."""
        return stack_tiles(
            self.view, chosen(self.pieces, values), values, 0, self.view.problem.width
        )

    def start(self, tiles: Tiles) -> dict[str, float]:
        """Values of the binaries; the block is off unless ``tiles`` are its strips."""
        seen = {i: self.view.see(tile) for i, tile in tiles.items()}
        full = self.view.problem.width
        fits = all(tile.width == full for tile in seen.values())
        return {self.use.name: float(fits), **select_values(self.pieces, seen if fits else {})}


def add_stack(
    b: Builder, view: ScaledCosts, pieces: Sequence[Piece], use: Any, *, key: str
) -> None:
    """The pieces fill a full-height stack: heights sum to the map's, one top and one bottom."""
    height = view.problem.height
    b.row(f"fill_{key}", [*total(p.height for p in pieces), (-height, use)], "==")
    for end in (TOP, BOTTOM):
        ends = total(p.select for p in pieces if p.contacts & end)
        b.row(f"end{end}_{key}", [*ends, (-1.0, use)], "==")


def stack_tiles(
    view: ScaledCosts, pieces: Sequence[Piece], values: Mapping[str, float], x0: int, x1: int
) -> dict[int, Tile]:
    """Tiles of the pieces of one stack in columns ``[x0, x1)`` of the view, top first."""
    at = 0.0
    tiles = {}
    for piece in sorted(pieces, key=lambda p: (not p.contacts & TOP, p.contacts & BOTTOM)):
        height = values[piece.height.name]
        tiles[piece.device] = view.tile(at, at + height, x0, x1)
        at = round(at + height)
    return tiles


def select_values(pieces: Sequence[Piece], seen: Tiles) -> dict[str, float]:
    """Selection of the pieces that match the tiles, which are given as the pieces' view sees them.

    Tiles of full width or of a known stack only: contacts and width identify the piece.
    """
    if not pieces:
        return {}
    problem = pieces[0].view.problem
    wanted = {
        (i, tile.contacts(problem.height, problem.width), tile.width) for i, tile in seen.items()
    }
    return {p.select.name: float((p.device, p.contacts, p.width) in wanted) for p in pieces}


def strip_blocks(b: Builder, costs: ScaledCosts) -> list[StripBlock]:
    """Row strips and column strips."""
    return [
        StripBlock(b, costs, key="rows"),
        StripBlock(b, costs.transposed, key="cols"),
    ]


def build(costs: ScaledCosts) -> BuiltModel:
    """The strip model; at exact costs where they have to prove a bound."""
    if costs.below and (exact := strip_exact.build(costs)) is not None:
        return exact
    b = Builder("strip")
    blocks = strip_blocks(b, costs)
    pieces = [piece for block in blocks for piece in block.pieces]
    b.row("orientation", total(block.use for block in blocks), "==", 1)
    add_one_tile_each(b, costs, pieces)
    add_order(b, costs.problem, area_of(pieces))
    add_makespan(b, costs, pieces)

    def extract(values: Mapping[str, float]) -> dict[int, Tile]:
        block = next(block for block in blocks if values[block.use.name] > 0.5)
        return block.tiles(values)

    def start(tiles: Tiles) -> dict[str, float]:
        return start_blocks(blocks, order_equal_devices(costs.problem, tiles))

    return BuiltModel(b.model(), extract, start)


def start_blocks(blocks: Sequence[StripBlock], tiles: Tiles) -> dict[str, float]:
    """Binaries of the blocks with at most one block in use (a lone full tile fits both)."""
    values: dict[str, float] = {}
    for block in blocks:
        taken = any(values.get(other.use.name) == 1.0 for other in blocks)
        values.update(block.start({} if taken else tiles))
        if taken:
            values[block.use.name] = 0.0
    return values
