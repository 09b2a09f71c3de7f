"""A linear programme below the latency: one device, the source or the sink, and all others.

Why. Whatever the device does not compute of the network, others do, and for that they receive
something of it. Which tensor that is makes the difference: the input is sent to divide everything,
a narrow map late in the network to divide what is left.

Sets. A path of layers 1 ... m (``bound.chain``) that begins at an input, tensor 0. Group S is the
device, group B all others.

Parameters. |l| pixels of tensor l, n_l those that something reads (``read_pixels``), p_l the
device's seconds for all of layer l, v_il those of device i, w_i weights that sum to 1, W' the
weighted seconds of all layers off the path. Any q outputs of layer l read at least g_l q pixels of
tensor l - 1, so a share of them reads c_l = g_l |l| / |l-1| times that share. (On either axis any
set of outputs reads at least g positions per output; of sets whose windows touch, ranges read least
per output. So by Hall's theorem outputs can be given g positions each that they read and share with
no other output; products of both axes' are pixels, and g_l = g_y g_x.) Seconds u_l and d_l in which
all of tensor l leaves or reaches the device, one *hop* (``message_s`` + ``latency_s``), ``tail`` =
the hop, and the head where nothing but the head is left when the last pixel has come.

Variables, all shares but T: s_l and b_l of tensor l that S and B compute, each pixel counted once
per group, hidden in a segment or not; r_l that B receives of S, q_l that S receives of B.

    min T
    s_0 = 1, b_0 = 0                                  the source holds the input, or the reverse
    c_l s_l <= s_(l-1) + q_(l-1),   c_l b_l <= b_(l-1) + r_(l-1)          operands are there
    r_l <= s_l,   q_l <= b_l                          who sends has computed
    s_l + b_l >= n_l / |l|                            what is read is computed
    s_m + q_m >= 1, or b_m + r_m >= 1                 the sink collects the last map, if it does
    sum p_l s_l <= T - off                            the device is busy (``bound.clock``)
    sum_l min_i w_i v_il b_l <= sum w_i T             over the others: so are they
    W' + w sum p_l s_l + sum_l min_i w_i v_il b_l <= T                    and so are all
    sum (u_l r_l + d_l q_l) <= T - tail               on a shared medium, each way apart on a link

Every plan and schedule gives a solution with its latency as T, if any message is sent. If none is,
the source is the sink and does everything, which is compared apart. Where some outputs read nothing
others may compute these without a message, and no tail is counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.optimize import linprog

from nptp_opt.cluster import Cluster
from nptp_opt.cost import FloatArray

Row = tuple[FloatArray, float]
"""Coefficients and right-hand side of a constraint ``row . x <= value``."""

TOLERANCE = 1e-5
"""Relative margin for the solver's tolerances: rows and T are scaled to about 1 for it."""


@dataclass(frozen=True)
class Exchange:
    """The programme of one device. Arrays over tensors 0 ... m have an entry for the input.

    ``own_s`` p (0 for the input), ``others_s`` min_i w_i v_il, ``rest_s`` W', ``weight`` w of the
    device, ``per_output`` c (1 ... m), ``read`` n / |.| (1 ... m), ``sizes`` bytes of every tensor.
    """

    cluster: Cluster
    device: int
    own_s: FloatArray
    others_s: FloatArray
    rest_s: float
    weight: float
    per_output: FloatArray
    read: FloatArray
    sizes: FloatArray
    off_s: float
    tail_s: float
    has_input: bool
    collected: bool

    def least_s(self) -> float:
        """The least T; 0 where the solver fails."""
        rows = [*self._operands(), *self._senders(), *self._computed(), *self._collecting()]
        rows += [*self._busy(), *self._links()]
        costs = np.zeros(self._count)
        costs[0] = 1.0
        left, right = np.array([row for row, _ in rows]), np.array([value for _, value in rows])
        unit_s = float(self.own_s.sum()) or 1.0
        left[:, 0] *= unit_s
        largest = np.abs(left).max(axis=1)
        largest[largest == 0] = 1.0
        found = linprog(
            costs,
            A_ub=left / largest[:, None],
            b_ub=right / largest,
            bounds=self._bounds(),
            method="highs",
        )
        return float(found.fun) * unit_s * (1 - TOLERANCE) if found.status == 0 else 0.0

    @property
    def _length(self) -> int:
        return len(self.per_output)

    @property
    def _count(self) -> int:
        return 1 + 4 * (self._length + 1)

    @cached_property
    def _groups(self) -> tuple[slice, slice, slice, slice]:
        """Columns of s, b, r and q."""
        n = self._length + 1
        s, b, r, q = (slice(1 + k * n, 1 + (k + 1) * n) for k in range(4))
        return s, b, r, q

    def _bounds(self) -> list[tuple[float, float | None]]:
        """Shares lie between 0 and 1; one group holds the input, both where there is none."""
        found: list[tuple[float, float | None]] = [(0.0, None), *[(0.0, 1.0)] * (self._count - 1)]
        for group, holds in zip(self._groups[:2], self._holding(), strict=True):
            found[group.start] = (float(holds), float(holds))
        return found

    def _holding(self) -> tuple[bool, bool]:
        mine = self.cluster.source == self.device
        return (mine, not mine) if self.has_input else (True, True)

    def _row(self, **groups: FloatArray) -> FloatArray:
        """A row with coefficients for some groups."""
        found = np.zeros(self._count)
        for name, values in groups.items():
            found[self._groups["sbrq".index(name)]] = values
        return found

    def _unit(self, k: int, value: float = 1.0) -> FloatArray:
        found = np.zeros(self._length + 1)
        found[k] = value
        return found

    def _operands(self) -> list[Row]:
        """Operands are there."""
        found: list[Row] = []
        for k in range(1, self._length + 1):
            out, before = self._unit(k, self.per_output[k - 1]), -self._unit(k - 1)
            found.append((self._row(s=out + before, q=before), 0.0))
            found.append((self._row(b=out + before, r=before), 0.0))
        return found

    def _senders(self) -> list[Row]:
        """Who sends has computed."""
        units = [self._unit(k) for k in range(self._length + 1)]
        return [(self._row(r=unit, s=-unit), 0.0) for unit in units] + [
            (self._row(q=unit, b=-unit), 0.0) for unit in units
        ]

    def _computed(self) -> list[Row]:
        """What is read is computed."""
        units = [-self._unit(k) for k in range(1, self._length + 1)]
        rows = [self._row(s=unit, b=unit) for unit in units]
        return [(row, -share) for row, share in zip(rows, self.read.tolist(), strict=True)]

    def _collecting(self) -> list[Row]:
        """The sink collects the last map, if it does."""
        if not self.collected:
            return []
        last = -self._unit(self._length)
        mine = self.cluster.sink == self.device
        return [(self._row(s=last, q=last) if mine else self._row(b=last, r=last), -1.0)]

    def _busy(self) -> list[Row]:
        """The device, all others, and all together are busy."""
        return [
            (self._within(1.0, s=self.own_s), -self.off_s),
            (self._within(1.0 - self.weight, b=self.others_s), 0.0),
            (self._within(1.0, s=self.weight * self.own_s, b=self.others_s), -self.rest_s),
        ]

    def _links(self) -> list[Row]:
        """What leaves and what reaches the device, on one medium or on its link's two ways."""
        if self.cluster.shared:
            seconds = self.sizes / self.cluster.network.bytes_per_s
            return [(self._within(1.0, r=seconds, q=seconds), -self.tail_s)]
        node = self.cluster.devices[self.device]
        up, down = self.sizes / node.up_bytes_per_s, self.sizes / node.down_bytes_per_s
        return [(self._within(1.0, r=up), -self.tail_s), (self._within(1.0, q=down), -self.tail_s)]

    def _within(self, part: float, **groups: FloatArray) -> FloatArray:
        """A row of seconds that are at most ``part`` of T."""
        row = self._row(**groups)
        row[0] = -part
        return row
