"""Axis maps of the ops whose windows are not those of a convolution or pooling.

Each is a frozen ``geometry.AxisMap``. A ``TapMap`` also names the inputs and weights that make each
output: resizing, adaptive pooling and padding by reflection all are weighted sums of few taps.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nptp_opt.geometry import AxisMap

Taps = tuple[tuple[int, float], ...]
"""(input index, weight) pairs that make one output element."""


def clip(lo: int, hi: int, n_in: int) -> tuple[int, int]:
    """``[lo, hi)`` clipped to the map; ``(0, 0)`` when nothing is left."""
    lo, hi = max(0, lo), min(n_in, hi)
    return (lo, hi) if lo < hi else (0, 0)


@dataclass(frozen=True, slots=True)
class Broadcast:
    """An axis of length 1 that every output reads."""

    n_out: int
    n_in: int = 1

    def need(self, a: int, b: int) -> tuple[int, int]:
        return (0, 1) if a < b else (0, 0)


@dataclass(frozen=True, slots=True)
class Whole:
    """Every output reads the whole axis: what a linear layer's features do."""

    n_in: int
    n_out: int

    def need(self, a: int, b: int) -> tuple[int, int]:
        return (0, self.n_in) if a < b else (0, 0)


@dataclass(frozen=True, slots=True)
class Hull:
    """Several maps of the same two axes at once: what any of them reads."""

    parts: tuple[AxisMap, ...]

    @property
    def n_in(self) -> int:
        return self.parts[0].n_in

    @property
    def n_out(self) -> int:
        return self.parts[0].n_out

    def need(self, a: int, b: int) -> tuple[int, int]:
        ranges_read = [part.need(a, b) for part in self.parts]
        kept = [(lo, hi) for lo, hi in ranges_read if lo < hi]
        return (min(lo for lo, _ in kept), max(hi for _, hi in kept)) if kept else (0, 0)


@dataclass(frozen=True, slots=True)
class Transposed:
    """Transposed convolution: input ``i`` adds to the outputs ``i*stride - pad + dilation*t``.

    With a dilation an input steps over outputs: those at the ends that miss ``[a, b)`` are no need.
    """

    n_in: int
    n_out: int
    kernel: int
    stride: int = 1
    dilation: int = 1
    pad: int = 0

    def need(self, a: int, b: int) -> tuple[int, int]:
        if b <= a:
            return 0, 0
        first = -(-(a + self.pad - self.dilation * (self.kernel - 1)) // self.stride)
        lo, hi = clip(first, (b - 1 + self.pad) // self.stride + 1, self.n_in)
        while lo < hi and not self._meets(lo, a, b):
            lo += 1
        while lo < hi and not self._meets(hi - 1, a, b):
            hi -= 1
        return (lo, hi) if lo < hi else (0, 0)

    def _meets(self, i: int, a: int, b: int) -> bool:
        """Does input ``i``, which reaches over ``[a, b)`` or into it, add to any output there?"""
        start = i * self.stride - self.pad
        return start + self.dilation * max(0, -((start - a) // self.dilation)) < b


@dataclass(frozen=True, slots=True)
class Shuffled:
    """Pixel shuffle: each input makes ``factor`` neighbouring outputs."""

    n_in: int
    n_out: int
    factor: int

    def need(self, a: int, b: int) -> tuple[int, int]:
        return (a // self.factor, -(-b // self.factor)) if a < b else (0, 0)


@dataclass(frozen=True, slots=True)
class TapMap(ABC):
    """Outputs that are weighted sums of a few named inputs; ``n_taps`` bounds their number."""

    n_in: int
    n_out: int

    @property
    @abstractmethod
    def n_taps(self) -> int: ...

    @abstractmethod
    def taps(self, o: int) -> Taps:
        """What makes output ``o``; inputs of weight 0 are left out."""

    def need(self, a: int, b: int) -> tuple[int, int]:
        if b <= a:
            return 0, 0
        used = [i for o in (a, b - 1) for i, _ in self.taps(o)]
        return min(used), max(used) + 1


@dataclass(frozen=True, slots=True)
class Nearest(TapMap):
    """Nearest-neighbour resize; ``scale`` is input per output, rounded to float32 as torch does.

    ``exact`` samples at pixel centres (torch's ``nearest-exact``).
    """

    scale: float
    exact: bool = False

    @property
    def n_taps(self) -> int:
        return 1

    def taps(self, o: int) -> Taps:
        if self.n_in == self.n_out and not self.exact:
            return ((o, 1.0),)
        if self.n_out == 2 * self.n_in and not self.exact:
            return ((o // 2, 1.0),)
        at = np.float32(o) + np.float32(0.5 if self.exact else 0.0)
        return ((min(int(np.floor(at * np.float32(self.scale))), self.n_in - 1), 1.0),)


def _weighted(*taps: tuple[int, float]) -> Taps:
    return tuple(tap for tap in taps if tap[1] != 0.0)


def _position(o: int, scale: float, align: bool) -> float:
    return scale * o if align else scale * (o + 0.5) - 0.5


@dataclass(frozen=True, slots=True)
class Linear(TapMap):
    """Linear resize of one axis (a bilinear resize has two); ``scale`` is input per output."""

    scale: float
    align_corners: bool = False

    @property
    def n_taps(self) -> int:
        return 2

    def taps(self, o: int) -> Taps:
        if self.n_in == self.n_out:
            return ((o, 1.0),)
        at = max(0.0, _position(o, self.scale, self.align_corners))
        low = min(int(at), self.n_in - 1)
        weight = min(at - low, 1.0)
        return _weighted((low, 1.0 - weight), (min(low + 1, self.n_in - 1), weight))


@dataclass(frozen=True, slots=True)
class Cubic(TapMap):
    """Cubic convolution resize of one axis (A = -0.75, indices clamped to the border)."""

    scale: float
    align_corners: bool = False

    @property
    def n_taps(self) -> int:
        return 4

    def taps(self, o: int) -> Taps:
        at = _position(o, self.scale, self.align_corners)
        low = math.floor(at)
        return _weighted(
            *((min(max(low + t, 0), self.n_in - 1), _cubic(at - low - t)) for t in range(-1, 3))
        )

    def need(self, a: int, b: int) -> tuple[int, int]:
        """An output that lies on an input reads it alone: its neighbours may read further."""
        if b <= a:
            return 0, 0
        ends = {a, min(a + 1, b - 1), max(b - 2, a), b - 1}
        used = [i for o in ends for i, _ in self.taps(o)]
        return min(used), max(used) + 1


def _cubic(distance: float) -> float:
    a, x = -0.75, abs(distance)
    if x <= 1:
        return ((a + 2) * x - (a + 3)) * x * x + 1
    return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a if x < 2 else 0.0


@dataclass(frozen=True, slots=True)
class Adaptive(TapMap):
    """Adaptive pooling: output ``o`` averages ``[floor(o*n_in/n_out), ceil((o+1)*n_in/n_out))``."""

    @property
    def n_taps(self) -> int:
        return max(len(self.span(o)) for o in range(self.n_out))

    def span(self, o: int) -> range:
        """Inputs that output ``o`` reads."""
        return range(o * self.n_in // self.n_out, -(-(o + 1) * self.n_in // self.n_out))

    def taps(self, o: int) -> Taps:
        span = self.span(o)
        return tuple((i, 1.0 / len(span)) for i in span)


BorderMode = Literal["reflect", "replicate", "circular"]


@dataclass(frozen=True, slots=True)
class Bordered(TapMap):
    """Padding that repeats the map: ``reflect``, ``replicate`` or ``circular``."""

    pad_lo: int
    mode: BorderMode

    @property
    def n_taps(self) -> int:
        return 1

    def taps(self, o: int) -> Taps:
        return ((self._source(o - self.pad_lo), 1.0),)

    def _source(self, at: int) -> int:
        if self.mode == "circular":
            return at % self.n_in
        if self.mode == "replicate":
            return min(max(at, 0), self.n_in - 1)
        at = abs(at)
        return at if at < self.n_in else 2 * (self.n_in - 1) - at

    def need(self, a: int, b: int) -> tuple[int, int]:
        if b <= a:
            return 0, 0
        used = [self._source(o - self.pad_lo) for o in range(a, b)]
        return min(used), max(used) + 1
