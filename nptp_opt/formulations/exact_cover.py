"""Exact cover by candidate tiles at constant costs: the model of ``cover`` and exact ``strip``.

The mathematics is in ``cover``. Which candidates there are decides what the model is over: all
tiles that can matter give the dissections, all strips the strips.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from nptp_opt.cost import FloatArray, LayerCost
from nptp_opt.formulations.scaled_costs import SLACK
from nptp_opt.geometry import IntArray, Tile, Tiles
from nptp_opt.layer.problem import LayerProblem
from nptp_opt.solvers import MilpModel


@dataclass(frozen=True)
class Candidates:
    """Tiles by device as unit positions, with exact bytes, compute seconds and messages."""

    device: IntArray
    y0: IntArray
    y1: IntArray
    x0: IntArray
    x1: IntArray
    bytes_: FloatArray
    compute_s: FloatArray
    messages: IntArray
    area: FloatArray

    def __len__(self) -> int:
        return len(self.device)

    def names(self) -> list[str]:
        """Column names, one per candidate."""
        columns = (self.device, self.y0, self.y1, self.x0, self.x1)
        return ["x_" + "_".join(map(str, row)) for row in zip(*columns, strict=True)]

    def pick(self, keep: IntArray) -> Candidates:
        """The candidates at those places."""
        return Candidates(*(getattr(self, key)[keep] for key in self.__dataclass_fields__))

    @classmethod
    def join(cls, parts: list[Candidates]) -> Candidates:
        """All candidates of the parts."""
        fields = cls.__dataclass_fields__
        return cls(*(np.concatenate([getattr(p, key) for p in parts]) for key in fields))

    def tiles(self, problem: LayerProblem, values: FloatArray) -> dict[int, Tile]:
        """The tiles whose columns are 1."""
        ys, xs = problem.cuts_y, problem.cuts_x
        chosen = np.flatnonzero(values[: len(self)] > 0.5)
        return {
            int(self.device[t]): Tile(
                ys[self.y0[t]], ys[self.y1[t]], xs[self.x0[t]], xs[self.x1[t]]
            )
            for t in chosen
        }


def device_candidates(cost: LayerCost, device: int, shapes: IntArray, value_s: float) -> Candidates:
    """The candidates of one device that fit its memory and, alone, the known makespan."""
    problem, cluster = cost.problem, cost.cluster
    ys, xs = np.array(problem.cuts_y), np.array(problem.cuts_x)
    cut = ys[shapes[:, 0]], ys[shapes[:, 1]], xs[shapes[:, 2]], xs[shapes[:, 3]]
    y0, y1, x0, x1 = cut
    area = ((y1 - y0) * (x1 - x0)).astype(float)
    bytes_ = cost.recv_bytes_of(*cut).astype(float)
    compute = cost.compute_s_of(device, area)
    inner = [y0 > 0, y1 < problem.height, x0 > 0, x1 < problem.width]
    messages = np.sum(inner, axis=0)
    need = cost.need(*cut)
    memory = cost.weight_bytes + cost.pixel_bytes * need + cost.out_pixel_bytes * area
    seconds = cost.comm_s_of(device, bytes_, messages) + compute
    keep = (memory <= cluster.devices[device].memory_bytes) & (seconds <= value_s * (1 + SLACK))
    columns = (*shapes.T, bytes_, compute, messages, area)
    kept = [column[keep] for column in columns]
    return Candidates(np.full(int(keep.sum()), device), *kept)


class _Rows:
    """Rows of a sparse matrix under construction."""

    def __init__(self) -> None:
        self.row: list[IntArray] = []
        self.column: list[IntArray] = []
        self.value: list[FloatArray] = []
        self.lo: list[float] = []
        self.hi: list[float] = []
        self.names: list[str] = []

    def add(self, name: str, columns: IntArray, values: FloatArray, lo: float, hi: float) -> None:
        self.row.append(np.full(len(columns), len(self.lo)))
        self.column.append(columns)
        self.value.append(np.asarray(values, dtype=float))
        self.lo.append(lo)
        self.hi.append(hi)
        self.names.append(name)


def add_corner_balance(rows: _Rows, c: Candidates, height: int, width: int) -> None:
    """At every vertex the tiles' corners balance as those of the whole map do."""
    corners = ((c.y0, c.x0, 1.0), (c.y1, c.x1, 1.0), (c.y0, c.x1, -1.0), (c.y1, c.x0, -1.0))
    vertex = np.concatenate([y * (width + 1) + x for y, x, _ in corners])
    column = np.tile(np.arange(len(c)), 4)
    sign = np.repeat([s for _, _, s in corners], len(c))
    order = np.argsort(vertex, kind="stable")
    starts = np.searchsorted(vertex[order], np.arange((height + 1) * (width + 1) + 1))
    for v in range((height + 1) * (width + 1)):
        at = order[starts[v] : starts[v + 1]]
        y, x = divmod(v, width + 1)
        if not len(at) and not (y in {0, height} and x in {0, width}):
            continue
        whole = float(y in {0, height} and x in {0, width}) * (1 if (y == 0) == (x == 0) else -1)
        rows.add(f"vertex_{y}_{x}", column[at], sign[at], whole, whole)


def add_one_tile_each(rows: _Rows, c: Candidates, n_devices: int) -> None:
    """Every device owns at most one tile."""
    for i in range(n_devices):
        own = np.flatnonzero(c.device == i)
        rows.add(f"one_{i}", own, np.ones(len(own)), -np.inf, 1.0)


def add_order(rows: _Rows, c: Candidates, problem: LayerProblem) -> None:
    """Equal devices are interchangeable: each has at least the area of the next of its class."""
    for group in problem.device_classes:
        for i, j in itertools.pairwise(group):
            one, two = np.flatnonzero(c.device == i), np.flatnonzero(c.device == j)
            area = np.concatenate([c.area[one], -c.area[two]])
            rows.add(f"order_{i}_{j}", np.concatenate([one, two]), area, 0.0, np.inf)


def add_makespan(rows: _Rows, c: Candidates, cost: LayerCost, unit_s: float) -> int:
    """z covers every device's time; returns the number of columns after the candidates'."""
    cluster, n = cost.cluster, len(c)
    latency = cluster.network.latency_s
    if not cluster.shared:
        for i in range(len(cluster.devices)):
            own = np.flatnonzero(c.device == i)
            comm_s = cost.comm_s_of(i, c.bytes_[own], c.messages[own].astype(float))
            _add_below(rows, f"time_{i}", own, (comm_s + c.compute_s[own]) / unit_s, n)
        return 1
    sent = np.append(c.bytes_ / cluster.network.bytes_per_s / unit_s, [-1.0, 1.0, 1.0])
    rows.add("phases", np.arange(n + 3), sent, -np.inf, 0.0)
    for i in range(len(cluster.devices)):
        own = np.flatnonzero(c.device == i)
        _add_below(rows, f"compute_{i}", own, c.compute_s[own] / unit_s, n + 1)
        _add_below(rows, f"wait_{i}", own, c.messages[own].astype(float) * latency / unit_s, n + 2)
    return 3


def _add_below(rows: _Rows, name: str, own: IntArray, values: FloatArray, column: int) -> None:
    """sum of values over ``own`` is at most ``column``."""
    rows.add(name, np.append(own, column), np.append(values, -1.0), -np.inf, 0.0)


def build_model(cost: LayerCost, c: Candidates, *, unit_s: float, bound_s: float) -> MilpModel:
    """The model of ``cover`` over the candidates ``c``."""
    problem, rows = cost.problem, _Rows()
    add_corner_balance(rows, c, len(problem.cuts_y) - 1, len(problem.cuts_x) - 1)
    add_one_tile_each(rows, c, len(problem.devices))
    add_order(rows, c, problem)
    n, extra = len(c), add_makespan(rows, c, cost, unit_s)
    column = np.concatenate(rows.column).astype(np.int64)
    lengths = [len(part) for part in rows.column]
    unit = np.zeros(n + extra)
    unit[n] = 1.0
    return MilpModel(
        name="cover",
        objective=unit,
        lo=unit * bound_s / unit_s,
        hi=np.concatenate([np.ones(n), np.full(extra, np.inf)]),
        integer=np.arange(n + extra) < n,
        start=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        column=column,
        value=np.concatenate(rows.value),
        row_lo=np.array(rows.lo),
        row_hi=np.array(rows.hi),
        column_names=[*c.names(), *("z", "k", "m")[:extra]],
        row_names=rows.names,
    )


def warm_start(
    c: Candidates, model: MilpModel, tiles: Tiles, problem: LayerProblem
) -> dict[str, float]:
    """The incumbent as column values, equal devices renamed by falling area; may be empty."""
    ys, xs = list(problem.cuts_y), list(problem.cuts_x)
    values = dict.fromkeys(model.column_names[: len(c)], 0.0)
    for group in problem.device_classes:
        own = sorted((tiles[i] for i in group if i in tiles), key=lambda t: -t.area)
        for i, t in zip(group, own, strict=False):
            spot = ys.index(t.y0), ys.index(t.y1), xs.index(t.x0), xs.index(t.x1)
            name = "x_" + "_".join(map(str, (i, *spot)))
            if name not in values:
                return {}
            values[name] = 1.0
    return values
