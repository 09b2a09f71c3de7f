"""Aligned costs: a layer on its own, tile by tile and as bilinear forms (docs/cost.md)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np

from nptp_opt.cost.loads import FloatArray, Links, Load, makespan_s
from nptp_opt.cost.transfer import sent_element_bytes
from nptp_opt.geometry import (
    BOTTOM,
    EMPTY,
    LEFT,
    RIGHT,
    TOP,
    AlignedLengths,
    Cuts,
    IntArray,
    Tile,
    Window,
)
from nptp_opt.layer.problem import LayerProblem, LayerShape

Amount = TypeVar("Amount", float, FloatArray)
"""Of one tile, or of many."""


@dataclass(frozen=True, slots=True)
class Form:
    """Cost ``wh*w*h + h*h_ + w*w_ + const`` of a tile of width w and height h."""

    wh: float
    h: float
    w: float
    const: float

    def __call__(self, width: float, height: float) -> float:
        return self.wh * width * height + self.h * height + self.w * width + self.const

    def __mul__(self, factor: float) -> Form:
        return Form(self.wh * factor, self.h * factor, self.w * factor, self.const * factor)

    def __add__(self, other: Form) -> Form:
        return Form(
            self.wh + other.wh, self.h + other.h, self.w + other.w, self.const + other.const
        )


def layer_flop_per_pixel(layer: LayerShape) -> float:
    """FLOP per output pixel: 2 kh kw C_in/groups C_out for a convolution, kh kw C for a pooling."""
    taps = layer.kernel[0] * layer.kernel[1]
    if layer.op != "conv2d":
        return float(taps * layer.out_channels)
    return 2.0 * taps * (layer.in_channels // layer.groups) * layer.out_channels


def layer_weight_bytes(layer: LayerShape) -> int:
    """Bytes of a convolution's weights and bias; 0 for a pooling."""
    if layer.op != "conv2d":
        return 0
    taps = layer.kernel[0] * layer.kernel[1] * (layer.in_channels // layer.groups)
    return (taps + 1) * layer.out_channels * layer.bytes_per_element


@dataclass(frozen=True, slots=True)
class _AxisForm:
    """Linear bounds of an axis for one pair of contacts: need = stride*h + const, halo rows."""

    const_lo: int
    const_hi: int
    halo_lo: int
    halo_hi: int
    least_need: int
    """Smallest value of the lower need; below 0 only where tiles lie in the padding altogether."""


def _axis_forms(
    window: Window, lengths: AlignedLengths, cuts: Sequence[int]
) -> tuple[_AxisForm, ...]:
    """Bounds over all allowed ranges, indexed by (touches low end) + 2 * (touches high end)."""
    at = np.asarray(cuts)
    low, high = (at[1:-1], at[:1]), (at[1:-1], at[-1:])
    return tuple(
        _bounds(lengths, window.stride, low[contact & 1], high[contact >> 1])
        for contact in range(4)
    )


def _bounds(lengths: AlignedLengths, stride: int, lows: IntArray, highs: IntArray) -> _AxisForm:
    """Bounds over the ranges from one of ``lows`` to one of ``highs``, both sorted.

    The few lengths at which something is clipped to 0 are looked at one after the other; of longer
    ranges ``need`` and ``held`` are differences, and their extremes differences of extremes.
    """
    before = np.searchsorted(lows, highs)  # how many lows lie below each high
    if not before.any():
        return _AxisForm(0, 0, 0, 0, 0)
    reach = before[before > 0]
    shortest = int((highs[before > 0] - lows[reach - 1]).min())
    const, halo = zip(
        *_short_extremes(lengths, stride, lows, highs),
        *_long_extremes(lengths, stride, lows, highs),
        strict=True,
    )
    least = min(const)
    return _AxisForm(least, max(const), min(halo), max(halo), least + stride * shortest)


def _short_extremes(
    lengths: AlignedLengths, stride: int, lows: IntArray, highs: IntArray
) -> Iterator[tuple[int, int]]:
    """Constant of the need and halo, least and largest, of ranges that may be clipped."""
    place = np.searchsorted(lows, highs) - 1
    while True:
        inside = place >= 0
        a, b = lows[place[inside]], highs[inside]
        short = b - a <= lengths.longest_clipped
        if not short.any():
            return
        a, b = a[short], b[short]
        need = lengths.need(a, b)
        const, halo = need - stride * (b - a), need - lengths.held(a, b)
        yield int(const.min()), int(halo.min())
        yield int(const.max()), int(halo.max())
        place = place - 1


def _long_extremes(
    lengths: AlignedLengths, stride: int, lows: IntArray, highs: IntArray
) -> Iterator[tuple[int, int]]:
    """The same of all longer ranges."""
    count = np.searchsorted(lows, highs - lengths.longest_clipped)
    b, last = highs[count > 0], count[count > 0] - 1
    if not len(b):
        return
    const_end, const_first = lengths.end[b] - stride * b, lengths.first[lows] - stride * lows
    halo_end = lengths.end[b] - lengths.held_end[b]
    halo_first = lengths.first[lows] - lengths.held_first[lows]
    for outer, inner in ((np.minimum, np.maximum), (np.maximum, np.minimum)):
        const = const_end - inner.accumulate(const_first)[last]
        halo = halo_end - inner.accumulate(halo_first)[last]
        yield int(outer.reduce(const)), int(outer.reduce(halo))


class LayerCost:
    """Aligned costs of the tiles of one layer problem (docs/cost.md).

    Exact costs take a ``Tile``. The bilinear ``*_form`` costs hold for all tiles with given
    border contacts: they never underestimate (``lower=False``) or never overestimate
    (``lower=True``); where ``form_is_exact`` both are the exact cost.
    """

    def __init__(self, problem: LayerProblem) -> None:
        layer = problem.layer
        self.problem = problem
        self.cluster = problem.cluster
        self.links = Links.of(problem.cluster)
        self.flop_per_pixel = layer_flop_per_pixel(layer)
        self.weight_bytes = layer_weight_bytes(layer)
        self.pixel_bytes = layer.in_channels * layer.bytes_per_element
        self.sent_pixel_bytes = layer.in_channels * sent_element_bytes(
            problem.cluster, layer.bytes_per_element
        )
        self.out_pixel_bytes = layer.out_channels * layer.bytes_per_element
        self.lengths_y = AlignedLengths(layer.window_y)
        self.lengths_x = AlignedLengths(layer.window_x)
        self._forms_y = _axis_forms(layer.window_y, self.lengths_y, problem.cuts_y)
        self._forms_x = _axis_forms(layer.window_x, self.lengths_x, problem.cuts_x)

    def seconds_per_pixel(self, device: int) -> float:
        """Compute seconds per output pixel on ``device``."""
        return self.flop_per_pixel / self.cluster.devices[device].flop_per_s

    def compute_s(self, device: int, tile: Tile) -> float:
        """Compute seconds of ``tile`` on ``device``, its fixed cost included; 0 for no tile."""
        return 0.0 if tile.is_empty else self.compute_s_of(device, tile.area)

    def compute_s_of(self, device: int, area: Amount) -> Amount:
        """``compute_s`` of tiles of ``area`` pixels, none of them empty."""
        overhead = self.cluster.devices[device].overhead_s
        return overhead + self.seconds_per_pixel(device) * area

    def comm_s_of(self, device: int, recv_bytes: Amount, messages: Amount) -> Amount:
        """Seconds that ``device`` receives so much, with nobody else on a shared medium."""
        rate = float(self.links.down[device])
        return recv_bytes / rate + self.cluster.network.latency_s * messages

    def recv_bytes(self, tile: Tile) -> int:
        """Bytes of need minus own, as they are sent; scales of rectangles are not counted."""
        return int(self.recv_bytes_of(tile.y0, tile.y1, tile.x0, tile.x1))

    def recv_bytes_of(self, y0: Cuts, y1: Cuts, x0: Cuts, x1: Cuts) -> IntArray:
        """``recv_bytes`` for arrays of tiles (broadcast together)."""
        held = self.lengths_y.held(y0, y1) * self.lengths_x.held(x0, x1)
        return self.sent_pixel_bytes * (self.need(y0, y1, x0, x1) - held)

    def need(self, y0: Cuts, y1: Cuts, x0: Cuts, x1: Cuts) -> IntArray:
        """Elements per channel that tiles read (broadcast together)."""
        return self.lengths_y.need(y0, y1) * self.lengths_x.need(x0, x1)

    def messages(self, tile: Tile) -> int:
        """Sides of the tile that do not lie on the map's border; 0 for no tile."""
        return (
            0
            if tile.is_empty
            else messages_of(tile.contacts(self.problem.height, self.problem.width))
        )

    def memory_bytes(self, tile: Tile) -> int:
        """Weights, need and output of a tile held at once; 0 for no tile."""
        if tile.is_empty:
            return 0
        need = self.need(tile.y0, tile.y1, tile.x0, tile.x1)
        return self.weight_bytes + int(self.pixel_bytes * need) + self.out_pixel_bytes * tile.area

    def fits(self, device: int, tile: Tile) -> bool:
        """True when ``tile`` respects the memory limit of ``device``."""
        return self.memory_bytes(tile) <= self.cluster.devices[device].memory_bytes

    def load(self, device: int, tile: Tile) -> Load:
        """What ``device`` does for ``tile`` in aligned mode (nothing is counted as sent)."""
        return Load(
            compute_s=self.compute_s(device, tile),
            recv_bytes=self.recv_bytes(tile),
            messages=self.messages(tile),
        )

    def tile_s(self, device: int, tile: Tile) -> float:
        """comm + compute of ``tile`` on a switched network."""
        comm_s = self.comm_s_of(device, self.recv_bytes(tile), self.messages(tile))
        return comm_s + self.compute_s(device, tile)

    def makespan_s(self, tiles: Mapping[int, Tile]) -> float:
        """Exact aligned makespan of a partition, given as device number -> tile."""
        empty = EMPTY
        loads = [self.load(i, tiles.get(i, empty)) for i in range(len(self.cluster.devices))]
        return makespan_s(self.cluster, loads)

    @cached_property
    def form_is_exact(self) -> bool:
        """True when the bilinear forms are the exact cost of every allowed tile."""
        forms = (*self._forms_y, *self._forms_x)
        flat = all(f.const_lo == f.const_hi and f.halo_lo == f.halo_hi for f in forms)
        return flat and all(
            self.recv_form(contacts) == self.recv_form(contacts, lower=True)
            for contacts in range(16)
        )

    def need_form(self, contacts: int, *, lower: bool = False) -> Form:
        """Elements per channel that a tile with these contacts reads."""
        if lower and self._lies_in_padding(contacts):
            return Form(0.0, 0.0, 0.0, 0.0)
        (sy, ny, _), (sx, nx, _) = self._axes(contacts, lower)
        return Form(sy * sx, sy * nx, sx * ny, ny * nx)

    def recv_form(self, contacts: int, *, lower: bool = False) -> Form:
        """Bytes of need minus own for a tile with these contacts."""
        if lower and self._lies_in_padding(contacts):
            return Form(0.0, 0.0, 0.0, 0.0)
        (sy, ny, ey), (sx, nx, ex) = self._axes(contacts, lower)
        const = float(ey * nx + ex * ny - ex * ey)
        if not lower:
            const += self._tiny_tile_surcharge(sy + ny - ey, sx + nx - ex)
        return Form(0.0, ex * sy, ey * sx, const) * self.sent_pixel_bytes

    def _tiny_tile_surcharge(self, spare_y: int, spare_x: int) -> float:
        """Correction where the halo may exceed the need on both axes: held is never below 0."""
        return float(max(0, -spare_y) * max(0, -spare_x))

    def _axis_form(self, contacts: int) -> tuple[_AxisForm, _AxisForm]:
        return (
            self._forms_y[bool(contacts & TOP) + 2 * bool(contacts & BOTTOM)],
            self._forms_x[bool(contacts & LEFT) + 2 * bool(contacts & RIGHT)],
        )

    def _lies_in_padding(self, contacts: int) -> bool:
        """True when some such tile reads padding only: the lower forms fall back to 0."""
        return any(form.least_need < 0 for form in self._axis_form(contacts))

    def _axes(self, contacts: int, lower: bool) -> tuple[tuple[int, int, int], ...]:
        """Per axis: stride, constant of the need, halo rows."""
        stride = self.problem.layer.stride
        return tuple(
            (s, f.const_lo, f.halo_lo) if lower else (s, f.const_hi, f.halo_hi)
            for s, f in zip(stride, self._axis_form(contacts), strict=True)
        )

    def memory_form(self, contacts: int, *, lower: bool = False) -> Form:
        """Bytes of weights, need and output of a tile with these contacts."""
        need = self.need_form(contacts, lower=lower) * self.pixel_bytes
        return need + Form(self.out_pixel_bytes, 0.0, 0.0, self.weight_bytes)

    def compute_form(self, device: int) -> Form:
        """Compute seconds of any tile on ``device``."""
        overhead = self.cluster.devices[device].overhead_s
        return Form(self.seconds_per_pixel(device), 0.0, 0.0, overhead)

    def comm_form(self, device: int, contacts: int, *, lower: bool = False) -> Form:
        """Communication seconds of ``device`` on a switched network."""
        rate = float(self.links.down[device])
        wait = self.cluster.network.latency_s * messages_of(contacts)
        return self.recv_form(contacts, lower=lower) * (1.0 / rate) + Form(0.0, 0.0, 0.0, wait)

    def time_form(self, device: int, contacts: int, *, lower: bool = False) -> Form:
        """comm + compute seconds of ``device`` on a switched network."""
        return self.comm_form(device, contacts, lower=lower) + self.compute_form(device)


def messages_of(contacts: int) -> int:
    """Number of a tile's four sides that do not lie on the border."""
    return 4 - (contacts & 15).bit_count()
