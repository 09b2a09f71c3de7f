"""Form costs of ``LayerCost`` on the grid of allowed cuts, as arrays for the searches.

Sizes are counted in cut steps ("units"); contacts fix the real size, because only a tile that
touches the far border holds the map's last, possibly shorter, step. Every search works on
*classes* of interchangeable devices.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from nptp_opt.cost import FloatArray, Form, LayerCost, messages_of
from nptp_opt.geometry import BOTTOM, LEFT, RIGHT, TOP, IntArray, Tile
from nptp_opt.layer.problem import LayerProblem

BoolArray = npt.NDArray[np.bool_]

CONTACTS = range(16)
TOLERANCE = 1e-12
"""Relative amount by which a target is exceeded, so that rounding never loses a row."""

UnitRect = tuple[int, int, int, int]
"""y0, y1, x0, x1 as positions in the lists of allowed cuts."""


@dataclass(frozen=True)
class UnitAxis:
    """One axis of the cut grid: ``units`` steps of ``step``, the last one shorter by ``short``."""

    units: int
    step: int
    short: int

    @classmethod
    def of(cls, size: int, step: int) -> UnitAxis:
        units = -(-size // step)
        return cls(units, step, units * step - size)

    def most(self, ends: int) -> int:
        """Largest size in units of a range that touches ``ends`` of the axis' two ends."""
        return self.units - 2 + ends

    def sizes(self, touches_far_end: bool) -> FloatArray:
        """Real size of 0, 1, ... units."""
        real = np.arange(self.units + 1, dtype=float) * self.step
        return np.maximum(real - self.short, 0.0) if touches_far_end else real


def _ends(contacts: int, low: int, high: int) -> int:
    return bool(contacts & low) + bool(contacts & high)


def _swap(contacts: int) -> int:
    return (contacts >> 2) | ((contacts & 3) << 2)


_SWAP = np.array([_swap(f) for f in CONTACTS])


@dataclass(frozen=True)
class UnitCosts:
    """All form costs of a problem. Arrays are indexed [class], [contacts] or [class, contacts].

    ``pixel_s`` and ``overhead_s`` are compute; ``recv`` holds the bytes' coefficients of h, w and
    1; ``memory`` those of w*h, h, w and 1. On a shared network ``byte_s`` is 0 per class: the
    medium is evaluated by the searches themselves.
    """

    rows: UnitAxis
    cols: UnitAxis
    members: tuple[tuple[int, ...], ...]
    pixel_s: FloatArray
    overhead_s: FloatArray
    byte_s: FloatArray
    wait_s: FloatArray
    recv: FloatArray
    memory: FloatArray
    memory_limit: FloatArray
    messages: IntArray

    @property
    def counts(self) -> IntArray:
        """Devices per class."""
        return np.array([len(group) for group in self.members])

    @cached_property
    def exists(self) -> BoolArray:
        """Which contacts some tile of the cut grid has."""
        some = [
            self.rows.most(_ends(f, TOP, BOTTOM)) > 0 and self.cols.most(_ends(f, LEFT, RIGHT)) > 0
            for f in CONTACTS
        ]
        return np.array(some)

    @cached_property
    def widths(self) -> FloatArray:
        """Real width for [contacts, units]; NaN where no such tile exists."""
        return _real_sizes(self.cols, LEFT, RIGHT)

    @cached_property
    def heights(self) -> FloatArray:
        """Real height for [contacts, units]; NaN where no such tile exists."""
        return _real_sizes(self.rows, TOP, BOTTOM)

    def tallest(self, target_s: float, most_messages: int = 4) -> IntArray:
        """Largest height in units for [class, contacts, width in units] within ``target_s``.

        0 where not even one unit fits, or where a tile needs more than ``most_messages``.
        """
        target = target_s * (1 + TOLERANCE)
        width = self.widths[None]
        used = self._linear(self.recv[:, 1])[..., None] * width
        used = used + (self._linear(self.recv[:, 2]) + self._fixed_s())[..., None]
        slope = self.pixel_s[:, None, None] * width + self._linear(self.recv[:, 0])[..., None]
        height = np.minimum(_divide(target - used, slope), self._memory_height())
        height[:, self.messages > most_messages] = -np.inf
        return self._in_units(height)

    def _linear(self, bytes_: FloatArray) -> FloatArray:
        linear: FloatArray = self.byte_s[:, None] * bytes_[None, :]
        return linear

    def _fixed_s(self) -> FloatArray:
        fixed: FloatArray = self.overhead_s[:, None] + self.wait_s[None, :]
        return fixed

    def _memory_height(self) -> FloatArray:
        m = self.memory[None]
        width = self.widths[None]
        spare = self.memory_limit[:, None, None] - m[..., 2, None] * width - m[..., 3, None]
        return _divide(spare, m[..., 0, None] * width + m[..., 1, None])

    def _in_units(self, height: FloatArray) -> IntArray:
        short = np.array([self.rows.short * bool(f & BOTTOM) for f in CONTACTS])
        units = np.floor((np.nan_to_num(height, nan=-1.0) + short[:, None]) / self.rows.step)
        most = np.array([self.rows.most(_ends(f, TOP, BOTTOM)) for f in CONTACTS])[:, None]
        units = np.clip(units, 0, np.maximum(most, 0))
        units[(height <= 0) | np.isnan(height)] = 0
        # A tile that touches both ends is as tall as the map or does not exist.
        both = np.array([f & 3 == 3 for f in CONTACTS])
        units[:, both] = np.where(units[:, both] == self.rows.units, units[:, both], 0)
        whole: IntArray = units.astype(np.int64)
        return whole

    def seconds(self, cls: int, contacts: int, width: float, height: float) -> float:
        """Form cost of a tile: comm + compute (switched) or compute alone (shared)."""
        h, w, const = self.recv[contacts]
        bytes_ = h * height + w * width + const
        fixed = self.overhead_s[cls] + self.wait_s[contacts]
        return float(self.pixel_s[cls] * width * height + self.byte_s[cls] * bytes_ + fixed)

    def transposed(self) -> UnitCosts:
        """The same costs with rows and columns exchanged."""
        recv = self.recv[_SWAP][:, [1, 0, 2]]
        memory = self.memory[_SWAP][:, [0, 2, 1, 3]]
        return replace(
            self,
            rows=self.cols,
            cols=self.rows,
            recv=recv,
            memory=memory,
            wait_s=self.wait_s[_SWAP],
            messages=self.messages[_SWAP],
        )


def _real_sizes(axis: UnitAxis, low: int, high: int) -> FloatArray:
    table = np.full((16, axis.units + 1), np.nan)
    for f in CONTACTS:
        ends = _ends(f, low, high)
        first = axis.units if ends == 2 else 1
        span = slice(first, max(first, axis.most(ends) + 1))
        table[f, span] = axis.sizes(bool(f & high))[span]
    return table


def _divide(spare: FloatArray, slope: FloatArray) -> FloatArray:
    """Largest h with slope * h <= spare; infinite where h does not matter."""
    spare, slope = np.broadcast_arrays(spare, slope)
    with np.errstate(divide="ignore", invalid="ignore"):
        height = spare / slope
    flat = slope <= 0
    height[flat] = np.where(spare[flat] >= 0, np.inf, -np.inf)
    height[spare < 0] = -np.inf
    return height


def unit_costs(cost: LayerCost, *, lower: bool = False) -> UnitCosts:
    """Form costs on the cut grid: never too low, or (``lower``) never too high.

    They are made monotone in the contacts (a tile that touches more of the border never costs
    more), which the searches need when a piece vanishes and its neighbour takes its place.
    """
    problem = cost.problem
    shared = problem.cluster.shared
    first = [group[0] for group in problem.device_classes]
    devices = [problem.devices[i] for i in first]
    messages = np.array([messages_of(f) for f in CONTACTS])
    latency = 0.0 if shared else problem.cluster.network.latency_s
    raw = UnitCosts(
        rows=UnitAxis.of(problem.height, problem.cut_step),
        cols=UnitAxis.of(problem.width, problem.cut_step),
        members=problem.device_classes,
        pixel_s=np.array([cost.seconds_per_pixel(i) for i in first]),
        overhead_s=np.array([d.overhead_s for d in devices]),
        byte_s=np.array([0.0 if shared else 1.0 / d.down_bytes_per_s for d in devices]),
        wait_s=latency * messages,
        recv=_table([cost.recv_form(f, lower=lower) for f in CONTACTS])[:, 1:],
        memory=_table([cost.memory_form(f, lower=lower) for f in CONTACTS]),
        memory_limit=np.array([d.memory_bytes for d in devices]),
        messages=messages,
    )
    return replace(
        raw,
        recv=_make_monotone(raw.recv, raw.exists, lower),
        memory=_make_monotone(raw.memory, raw.exists, lower),
    )


def agree(upper: UnitCosts, lower: UnitCosts) -> bool:
    """True when both are the exact cost of every tile."""
    return bool((upper.recv == lower.recv).all() and (upper.memory == lower.memory).all())


def _table(forms: list[Form]) -> FloatArray:
    return np.array([[form.wh, form.h, form.w, form.const] for form in forms])


def _make_monotone(table: FloatArray, exists: BoolArray, lower: bool) -> FloatArray:
    result = table.copy()
    for f in CONTACTS:
        related = [g for g in CONTACTS if exists[g] and (g & f == (g if lower else f))]
        if exists[f]:
            result[f] = table[related].min(axis=0) if lower else table[related].max(axis=0)
    return result


def to_tiles(
    problem: LayerProblem, rects: Mapping[int, UnitRect], *, swapped: bool = False
) -> dict[int, Tile]:
    """Tiles of unit rectangles; ``swapped`` undoes ``UnitCosts.transposed``."""
    ys, xs = problem.cuts_y, problem.cuts_x
    tiles = {}
    for device, (a, b, c, d) in rects.items():
        y0, y1, x0, x1 = (c, d, a, b) if swapped else (a, b, c, d)
        tiles[device] = Tile(ys[y0], ys[y1], xs[x0], xs[x1])
    return tiles
