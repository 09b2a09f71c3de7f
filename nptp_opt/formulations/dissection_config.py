"""Any rectangles, one configuration per device: the tight model.

Sets      devices i; contacts k (sets of sides at the border, 16); widths w that k allows.
Variables c[i,k] = 1 if device i's tile has contacts k (none: no tile); g[i,w] = 1 if it has width
          w; l[i,k,w] = c g; e[i,k,w] = height * l; n[i] height in cut steps (integer); x[i], y[i]
          position; d[i,j,axis] = 1 if i lies before j along the axis.
Objective the makespan; the cost of (k, w) is linear in l and e, with no big M.
Rows      sum_w l = c; sum_k l = g; least l <= e <= most l, where "most" obeys the memory limit
          and the known makespan; the areas w e sum to H W; the widths at the top sum to W (bottom
          too), the heights at the left to H (right too); each corner is in one tile; positions
          agree with contacts; d[i,j,.] + d[j,i,.] >= 1 for two used devices and x[i] + width[i]
          <= x[j] + W (1 - d[i,j,x]); equal devices by falling area.

With c and g binary, l is their product in every solution (both sums are unit vectors), so only
c, g, n and d are integer. The rows without d are the configuration bound (docs/bounds.md), which is
within a few percent of the optimum; the disjunctions only have to realise it.
"""

from __future__ import annotations

from collections.abc import Mapping

from nptp_opt.formulations.boxes import add_disjunctions, read_tiles, start_before
from nptp_opt.formulations.building import Builder, BuiltModel, order_equal_devices
from nptp_opt.formulations.configured import add_boxes, start_boxes
from nptp_opt.formulations.scaled_costs import ScaledCosts
from nptp_opt.geometry import Tile, Tiles


def build(costs: ScaledCosts) -> BuiltModel:
    """The configuration model."""
    b = Builder("dissection-config")
    configured = add_boxes(b, costs)
    boxes = [c.box for c in configured]
    before = add_disjunctions(b, costs, boxes)

    def extract(values: Mapping[str, float]) -> dict[int, Tile]:
        return read_tiles(costs, boxes, values)

    def start(tiles: Tiles) -> dict[str, float]:
        renamed = order_equal_devices(costs.problem, tiles)
        return start_boxes(costs, configured, renamed) | start_before(before, renamed)

    return BuiltModel(b.model(), extract, start)
