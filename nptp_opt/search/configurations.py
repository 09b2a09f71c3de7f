"""Configuration LP: a device picks (contacts, width, height) under side constraints.

A configuration (class i, contacts f, width u) has the tallest height that a target allows. Over
every partition of any family, the areas sum to H*W, the widths along the top and the bottom to W,
the heights along the left and the right to H, and every corner belongs to one tile. For any
multipliers y of these nine sums, relaxing them gives the Lagrangian bound

    L(y) = sum(y) + sum over devices of min(0, min over configurations of (cost - y . a)),

valid whatever y is: rounding in the LP that proposes y cannot make it wrong. Switched networks:
cost 0, the target bounds comm + compute, and L(y) > 0 proves that no partition reaches the target.
Shared networks: cost is seconds on the medium, the target bounds compute, and L(y) bounds the
seconds that any partition within the target spends sending.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from nptp_opt.cost import FloatArray
from nptp_opt.geometry import BOTTOM, LEFT, RIGHT, TOP, IntArray
from nptp_opt.search.lp import ColumnLP
from nptp_opt.search.unit_costs import CONTACTS, UnitCosts

CORNERS = (TOP | LEFT, TOP | RIGHT, BOTTOM | LEFT, BOTTOM | RIGHT)
N_SUMS = 9
SAFETY = 1e-10
"""Relative margin by which sums of floats must exceed what they prove."""

_TOUCH = np.array(
    [[bool(f & side) for side in (TOP, BOTTOM, LEFT, RIGHT)] for f in CONTACTS], float
)
_CORNER = np.array([[f & corner == corner for corner in CORNERS] for f in CONTACTS], float)


@dataclass
class ConfigurationLP:
    """The LP for one set of lower costs; ``byte_s`` is 0 on a switched network.

    Columns found for one target are kept for the next. Arrays are [class, contacts, units].
    """

    costs: UnitCosts
    byte_s: float = 0.0
    most_messages: int = 4
    penalty: float = 1.0
    _known: set[tuple[int, int, int, int]] = field(default_factory=set)

    def __post_init__(self) -> None:
        p = self.costs
        self._width = np.nan_to_num(p.widths)
        self._one = np.nan_to_num(p.heights[:, 1]) + np.nan_to_num(
            p.heights[:, -1] * np.array([f & 3 == 3 for f in CONTACTS])
        )
        self._map = float(np.nanmax(p.heights)), float(np.nanmax(p.widths))
        self._cached: tuple[float, FloatArray] | None = None

    def real_heights(self, target_s: float) -> FloatArray:
        """Tallest real height within the target; 0 where there is none."""
        if self._cached is None or self._cached[0] != target_s:
            units = self.costs.tallest(target_s, self.most_messages)
            table = np.nan_to_num(self.costs.heights)
            heights = np.take_along_axis(table[None].repeat(len(units), 0), units, axis=2)
            self._cached = (target_s, heights)
        return self._cached[1]

    def slopes(self, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Reduced cost of a tile as (per unit of real height, constant), both [contacts, units].

        Reduced cost is cost - y . a; sums are scaled so that each right-hand side is 1.
        """
        height, width = self._map
        recv = self.costs.recv * self.byte_s
        left_right = (_TOUCH[:, 2:] @ y[3:5]) / height
        top_bottom = (_TOUCH[:, :2] @ y[1:3]) / width
        slope = (recv[:, 0] - left_right)[:, None] - y[0] / (height * width) * self._width
        const = (recv[:, 1] - top_bottom)[:, None] * self._width
        return slope, const + (recv[:, 2] - _CORNER @ y[5:])[:, None]

    def _least(self, y: FloatArray, target_s: float) -> tuple[FloatArray, FloatArray]:
        """Least reduced cost over the height: at its largest value, and at one unit."""
        tall = self.real_heights(target_s)
        slope, const = self.slopes(y)
        at_tall = np.where(tall > 0, slope * tall + const, np.inf)
        if self.byte_s == 0.0:
            return at_tall, at_tall
        low = slope * self._one[:, None] + const
        return at_tall, np.where(tall > 0, low, np.inf)

    def base(self, y: FloatArray, target_s: float) -> FloatArray:
        """Per class min(0, least reduced cost of any tile within the target)."""
        least = np.minimum(*self._least(y, target_s))
        base: FloatArray = np.minimum(0.0, least.min(axis=(1, 2)))
        return base

    def bound(self, y: FloatArray, target_s: float) -> float:
        """L(y) at this target, less the safety margin."""
        base = self.costs.counts * self.base(y, target_s)
        margin = SAFETY * float(np.abs(y).sum() + np.abs(base).sum())
        return float(y.sum() + base.sum()) - margin

    def multipliers(self, target_s: float, rounds: int = 60) -> FloatArray:
        """Multipliers that (nearly) maximise L at this target, by column generation."""
        lp = ColumnLP(
            n_equal=N_SUMS,
            limits=self.costs.counts.astype(float),
            penalty=self.penalty,
            at_least=(0, 3, 4) if self.byte_s == 0.0 else (),
        )
        self._add(lp, sorted(self._known), target_s)
        for _ in range(rounds):
            duals = lp.duals()
            new = self._entering(duals, target_s)
            if not new:
                break
            self._add(lp, new, target_s)
            self._known.update(new)
        y = duals[:N_SUMS].copy()
        if self.byte_s == 0.0:
            # Only with these signs is the tallest tile the best one, which ``base`` relies on.
            y[[0, 3, 4]] = np.maximum(y[[0, 3, 4]], 0.0)
        return y

    def _entering(self, duals: FloatArray, target_s: float) -> list[tuple[int, int, int, int]]:
        """The best configuration of every class and contact set with negative reduced cost."""
        entering = []
        for tall, least in enumerate(self._least(duals[:N_SUMS], target_s)):
            value = least - duals[N_SUMS:, None, None]
            units = value.argmin(axis=2)
            best = np.take_along_axis(value, units[..., None], axis=2)[..., 0]
            for cls, f in zip(*np.nonzero(best < -1e-9 * self.penalty), strict=True):
                entering.append((int(cls), int(f), int(units[cls, f]), 1 - tall))
        return [c for c in dict.fromkeys(entering) if c not in self._known]

    def _add(self, lp: ColumnLP, columns: list[tuple[int, int, int, int]], target_s: float) -> None:
        if not columns:
            return
        cls, f, u, tall = np.array(columns).T
        full = self.real_heights(target_s)[cls, f, u]
        height = np.where(tall == 1, full, np.minimum(full, self._one[f]))
        width = self._width[f, u]
        keep = height > 0
        recv = self.costs.recv[f] * self.byte_s
        cost = recv[:, 0] * height + recv[:, 1] * width + recv[:, 2]
        rows = self._rows(f, width, height)
        lp.add(cost[keep], rows[keep], cls[keep])

    def _rows(self, f: IntArray, width: FloatArray, height: FloatArray) -> FloatArray:
        total_h, total_w = self._map
        along = np.stack([width, width, height, height], axis=1) / np.array(
            [total_w, total_w, total_h, total_h]
        )
        area = (width * height / (total_h * total_w))[:, None]
        return np.hstack([area, along * _TOUCH[f], _CORNER[f]])
