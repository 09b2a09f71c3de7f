"""Strips at exact costs: ``cover``'s model over all full-width and full-height strips.

A strip's cost may depend on where it lies (one-sided halos, kernels wider than a strip), so every
strip that a partition within the known makespan can use is a candidate of its own. Given the
tallest strip of every device, a strip must leave no more than the others can take.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nptp_opt.formulations.building import BuiltModel
from nptp_opt.formulations.exact_cover import Candidates, build_model, device_candidates, warm_start
from nptp_opt.formulations.scaled_costs import ScaledCosts
from nptp_opt.geometry import IntArray, Tile, Tiles

MOST_CANDIDATES = 60_000


def build(costs: ScaledCosts) -> BuiltModel | None:
    """The model, in the units of ``costs``; None where it has too many candidates."""
    problem = costs.problem
    candidates = [c for rows in (True, False) if len(c := _candidates(costs, rows=rows))]
    if not candidates or sum(map(len, candidates)) > MOST_CANDIDATES:
        return None
    c = Candidates.join(candidates)
    model = build_model(costs.cost, c, unit_s=costs.unit_s, bound_s=costs.lower_s)

    def extract(values: Mapping[str, float]) -> dict[int, Tile]:
        return c.tiles(problem, np.array([values[name] for name in model.column_names]))

    def start(tiles: Tiles) -> dict[str, float]:
        return warm_start(c, model, tiles, problem)

    return BuiltModel(model, extract, start)


def _candidates(costs: ScaledCosts, *, rows: bool) -> Candidates:
    """Strips of one orientation; the whole map counts as a row strip only."""
    problem, cost = costs.problem, costs.cost
    ny, nx = len(problem.cuts_y) - 1, len(problem.cuts_x) - 1
    low, high = np.triu_indices((ny if rows else nx) + 1, k=1)
    zero = np.zeros_like(low)
    shapes = (low, high, zero, zero + nx) if rows else (zero, zero + ny, low, high)
    table = np.stack(shapes, axis=1)
    if not rows:
        table = table[high - low < nx]
    parts = [device_candidates(cost, i, table, costs.upper_s) for i in costs.devices]
    c = Candidates.join(parts)
    return c.pick(_large_enough(c, float(problem.height * problem.width)))


def _large_enough(c: Candidates, area: float) -> IntArray:
    """Candidates that leave no more of the map than the other devices can take."""
    most = np.zeros(int(c.device.max(initial=0)) + 1)
    np.maximum.at(most, c.device, c.area)
    return np.flatnonzero(c.area >= area - (most.sum() - most[c.device]))
