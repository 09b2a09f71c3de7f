"""Resize and Upsample: ONNX has many ways to sample, torch a few.

Where the result samples is worked out as ONNX Runtime does it, for every axis. A call of torch is
taken if it samples there too, on maps that are cut; otherwise every axis on its own is picked from
or multiplied by a matrix of weights, whole.

    half_pixel            (x + 0.5) / scale - 0.5
    pytorch_half_pixel    the same, 0 for a single element
    half_pixel_symmetric  the same, about the middle of the input
    asymmetric            x / scale
    align_corners         x * (n - 1) / (out - 1)
    tf_half_pixel_for_nn  (x + 0.5) / scale
    tf_crop_and_resize    between two given places, as shares of the axis
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor

from nptp_opt.geometry import MOST_POSITION
from nptp_opt.network.onnx_choice import taken
from nptp_opt.network.onnx_rules import Attrs, check_result, op, refuse

Numbers = np.ndarray[Any, Any]


@dataclass(frozen=True)
class _Axis:
    """``n`` elements become ``out``; ``scale`` is the factor as the node states it.

    ``start`` and ``end`` are the part that ``tf_crop_and_resize`` shows.
    """

    n: int
    out: int
    scale: float
    start: float = 0.0
    end: float = 1.0

    @property
    def is_kept(self) -> bool:
        return self.n == self.out and self.scale == 1.0


@dataclass(frozen=True)
class _Sampling:
    """Mode of interpolation, coordinates and rounding of one node."""

    mode: str
    where: str
    rounding: str
    antialias: bool = False
    cubic: float = -0.75
    excludes: bool = False
    """Whether weights that lie outside of the input are left out."""
    outside: float | None = None
    """What a place outside of the input gives, if it does not give the nearest element."""

    @property
    def is_plain(self) -> bool:
        """Whether torch may have a call that samples like this."""
        odd = self.antialias or self.excludes or self.outside is not None
        return not odd and (self.mode != "cubic" or self.cubic == -0.75)

    def unrounded(self, axis: _Axis) -> Numbers:
        """Where each element of the result lies on its axis."""
        return _COORDINATES[self.where](np.arange(axis.out, dtype=np.float32), axis)

    def places(self, axis: _Axis) -> Numbers:
        """Where each element of the result samples its axis."""
        places = self.unrounded(axis)
        if self.mode == "nearest":
            places = _round(places, self.rounding, axis.scale)
        return places if self.mode == "cubic" else np.clip(places, 0, axis.n - 1)

    def matrix(self, axis: _Axis) -> Numbers:
        """The weight of every element of the input in every element of the result."""
        places = self.places(axis).astype(np.float64)
        wide = max(1.0, 1.0 / axis.scale) if self.antialias else 1.0
        reach = math.ceil((2.0 if self.mode == "cubic" else 1.0) * wide)
        found = np.zeros((axis.out, axis.n))
        for shift in range(-reach, reach + 1):
            at = np.floor(places) + shift
            weight = self._weight((at - places) / wide)
            kept = (at >= 0) & (at < axis.n)
            weight = np.where(kept, weight, 0.0) if self.excludes else weight
            index = np.clip(at, 0, axis.n - 1).astype(np.int64)
            np.add.at(found, (np.arange(axis.out), index), weight)
        weights: Numbers = found / found.sum(axis=1, keepdims=True)
        return weights

    def _weight(self, far: Numbers) -> Numbers:
        """Of an element at this distance, in elements."""
        t, a = np.abs(far), self.cubic
        if self.mode != "cubic":
            return np.clip(1.0 - t, 0.0, None)
        near = ((a + 2) * t - (a + 3)) * t * t + 1
        return np.where(t <= 1, near, np.where(t < 2, ((t - 5) * t + 8) * t * a - 4 * a, 0.0))


def _half(x: Numbers, axis: _Axis) -> Numbers:
    return (x + np.float32(0.5)) / np.float32(axis.scale) - np.float32(0.5)


def _symmetric(x: Numbers, axis: _Axis) -> Numbers:
    """An output that is cut to whole elements lies in the middle.

    Summed in the order in which ONNX Runtime does it: halves are rounded by it.
    """
    cut = np.float32(axis.out) / (np.float32(axis.scale) * np.float32(axis.n))
    moved = np.float32(axis.n / 2) * (np.float32(1.0) - cut)
    return moved + (x + np.float32(0.5)) / np.float32(axis.scale) - np.float32(0.5)


def _cropped(x: Numbers, axis: _Axis) -> Numbers:
    """A single element lies in the middle."""
    last = np.float32(axis.n - 1)
    if axis.out == 1:
        return x * 0 + np.float32(0.5) * np.float32(axis.start + axis.end) * last
    step = np.float32(axis.end - axis.start) * last / np.float32(axis.out - 1)
    return np.float32(axis.start) * last + x * step


_COORDINATES: dict[str, Callable[[Numbers, _Axis], Numbers]] = {
    "half_pixel": _half,
    "pytorch_half_pixel": lambda x, axis: _half(x, axis) if axis.out > 1 else x * 0,
    "half_pixel_symmetric": _symmetric,
    "asymmetric": lambda x, axis: x / np.float32(axis.scale),
    "align_corners": lambda x, axis: x * np.float32(axis.n - 1) / np.float32(max(axis.out - 1, 1)),
    "tf_crop_and_resize": _cropped,
    "tf_half_pixel_for_nn": lambda x, axis: (x + np.float32(0.5)) / np.float32(axis.scale),
}


def _round(x: Numbers, how: str, scale: float) -> Numbers:
    """``legacy`` is what ONNX Runtime does for files from before opset 11, which say nothing."""
    if how == "legacy":
        how = "ceil" if scale < 1.0 else "floor"
    if how == "round_prefer_floor":
        return np.ceil(x - np.float32(0.5))
    if how == "round_prefer_ceil":
        return np.floor(x + np.float32(0.5))
    return np.ceil(x) if how == "ceil" else np.floor(x)


@dataclass(frozen=True)
class _Call:
    """One way of calling ``F.interpolate``: its mode, and whether it is given factors or sizes."""

    mode: str
    by_scale: bool
    corners: bool | None = None

    def places(self, axis: _Axis) -> Numbers:
        """Where torch samples: its factor is a float32, too."""
        x: Numbers = np.arange(axis.out, dtype=np.float32)
        if self.corners:
            return x * np.float32((axis.n - 1) / (axis.out - 1) if axis.out > 1 else 0.0)
        step = np.float32(1.0 / axis.scale if self.by_scale else axis.n / axis.out)
        if self.mode == "nearest" and axis.out == 2 * axis.n:
            return np.floor(x / 2)  # whatever the factor
        middle = 0.0 if self.mode == "nearest" else 0.5
        places: Numbers = (x + np.float32(middle)) * step
        if self.corners is None:
            return np.minimum(np.floor(places), axis.n - 1)
        places = places - np.float32(0.5)
        return places if self.mode == "bicubic" else np.clip(places, 0, axis.n - 1)

    def fits(self, sampling: _Sampling, axis: _Axis) -> bool:
        """Whether this call makes the size and samples there; factors at one size torch ignores."""
        idle = axis.out == axis.n and axis.scale != 1.0
        if self.by_scale and (idle or int(axis.n * axis.scale) != axis.out):
            return False
        far = np.abs(self.places(axis) - sampling.places(axis)).max(initial=0.0)
        return bool(far <= 1e-6 * (axis.n + 1))

    def run(self, x: Tensor, axes: Sequence[_Axis]) -> Tensor:
        target: dict[str, Any] = (
            {"scale_factor": [axis.scale for axis in axes]}
            if self.by_scale
            else {"size": [axis.out for axis in axes]}
        )
        return F.interpolate(x, mode=self.mode, align_corners=self.corners, **target)


_MODES = {
    ("nearest", 1): ("nearest", "nearest-exact"),
    ("nearest", 2): ("nearest", "nearest-exact"),
    ("linear", 1): ("linear",),
    ("linear", 2): ("bilinear",),
    ("cubic", 2): ("bicubic",),
}


def _calls(mode: str, rank: int) -> Iterator[_Call]:
    for name in _MODES.get((mode, rank), ()):
        for by_scale in (False, True):
            if mode == "nearest":
                yield _Call(name, by_scale)
            else:
                yield _Call(name, by_scale, False)
        if mode != "nearest":
            yield _Call(name, False, True)


@op(
    "Resize", "Upsample",
    reads="antialias axes coordinate_transformation_mode cubic_coeff_a exclude_outside"
    " extrapolation_value height_scale keep_aspect_ratio_policy mode nearest_mode scales"
    " width_scale",
    takes=4,
    static=(1, 2, 3),
)  # fmt: skip
def resize(attrs: Attrs, x: Tensor, *given: Any) -> Tensor:
    sampling = _sampling(attrs)
    axes = _axes(attrs, x, given)
    if all(axis.is_kept for axis in axes):
        return x
    if all(axis.n == axis.out for axis in axes) and sampling.outside is None:
        raise refuse("factors that change no size: engines disagree on what they do")
    if min(axis.out for axis in axes) < 1:
        raise refuse("a result without elements")
    check_result([axis.out for axis in axes])
    if x.dim() > 2 and axes[0].is_kept and axes[1].is_kept and sampling.is_plain:
        for call in _calls(sampling.mode, x.dim() - 2):
            if all(call.fits(sampling, axis) for axis in axes[2:]):
                return call.run(x, axes[2:])
    return _extrapolated(_axis_by_axis(x, sampling, axes), sampling, axes)


def _axis_by_axis(x: Tensor, sampling: _Sampling, axes: Sequence[_Axis]) -> Tensor:
    for dim, axis in enumerate(axes):
        if axis.is_kept and sampling.outside is None:
            continue
        if sampling.mode == "nearest":
            x = taken(x, dim, sampling.places(axis).astype(np.int64))
        else:
            weights = torch.from_numpy(sampling.matrix(axis)).to(x.dtype)
            x = torch.matmul(x.transpose(dim, -1), weights.t()).transpose(dim, -1)
    return x


def _extrapolated(x: Tensor, sampling: _Sampling, axes: Sequence[_Axis]) -> Tensor:
    """The result with what lies outside of the input replaced."""
    if sampling.outside is None:
        return x
    inside = np.ones([1] * x.dim(), dtype=bool)
    for dim, axis in enumerate(axes):
        at = sampling.unrounded(axis)
        kept = (at >= 0) & (at <= axis.n - 1)
        inside = inside & kept.reshape(-1, *[1] * (x.dim() - dim - 1))
    return x if inside.all() else torch.where(torch.from_numpy(inside), x, sampling.outside)


def _sampling(attrs: Attrs) -> _Sampling:
    """How the node samples."""
    legacy = attrs.op_type == "Upsample" or attrs.version < 11
    mode = {"bilinear": "linear"}.get(attrs["mode"], attrs["mode"])
    where = "asymmetric" if legacy else attrs["coordinate_transformation_mode"]
    odd = mode == "nearest" and where == "tf_crop_and_resize"  # engines show different parts
    if odd or where not in _COORDINATES or mode not in ("nearest", "linear", "cubic"):
        raise refuse(f"{mode} interpolation at {where} coordinates")
    return _Sampling(
        mode,
        where,
        "legacy" if legacy else attrs["nearest_mode"],
        mode != "nearest" and bool(attrs["antialias"]),
        -0.75 if attrs["cubic_coeff_a"] is None else attrs["cubic_coeff_a"],
        mode == "cubic" and bool(attrs["exclude_outside"]),
        attrs["extrapolation_value"] if where == "tf_crop_and_resize" else None,
    )


def _axes(attrs: Attrs, x: Tensor, given: Sequence[Any]) -> list[_Axis]:
    """Every axis of the input, with its size and factor in the output."""
    scales, sizes = _targets(attrs, given)
    listed = [a % x.dim() for a in attrs["axes"]] if attrs["axes"] else list(range(x.dim()))
    axes = {i: _Axis(n, n, 1.0) for i, n in enumerate(x.shape)}
    shown = _shown(attrs, given, len(listed))
    if sizes is not None:
        axes.update(_by_size(attrs, listed, [axes[i].n for i in listed], sizes))
    else:
        for i, scale in zip(listed, scales or [], strict=True):
            n = axes[i].n
            if not 0 <= scale <= MOST_POSITION:
                raise refuse(f"a factor of {scale:g}")
            out = int(np.floor(np.float32(n) * np.float32(scale)))
            axes[i] = _Axis(n, out, float(np.float32(scale)))
    for i, (start, end) in zip(listed, shown, strict=True):
        if (start, end) != (0.0, 1.0) and axes[i].scale == 1.0:
            raise refuse("a part of an axis at factor 1: engines disagree on what it shows")
        axes[i] = replace(axes[i], start=start, end=end)
    return [axes[i] for i in range(x.dim())]


def _shown(attrs: Attrs, given: Sequence[Any], rank: int) -> list[tuple[float, float]]:
    """The part of every listed axis that the result shows."""
    roi = given[0] if given and attrs.version >= 11 and attrs.op_type == "Resize" else None
    if attrs["coordinate_transformation_mode"] != "tf_crop_and_resize" or roi is None:
        return [(0.0, 1.0)] * rank
    if len(roi) != 2 * rank:
        raise refuse(f"a part of {len(roi)} numbers for {rank} axes")
    return [(float(roi[i]), float(roi[i + rank])) for i in range(rank)]


def _targets(attrs: Attrs, given: Sequence[Any]) -> tuple[list[float] | None, list[int] | None]:
    """Factors or sizes, from the inputs of new nodes or the attributes of old ones."""
    if attrs["height_scale"] is not None:
        return [1.0, 1.0, attrs["height_scale"], attrs["width_scale"]], None
    two_inputs = attrs.op_type == "Upsample" or attrs.version < 11
    scales = dict(enumerate(given)).get(0 if two_inputs else 1)
    sizes = dict(enumerate(given)).get(2)
    if sizes is not None and len(sizes):
        return None, [int(v) for v in sizes]
    scales = attrs["scales"] if scales is None else scales
    return [float(v) for v in ([] if scales is None else scales)], None


def _by_size(
    attrs: Attrs, listed: Sequence[int], old: Sequence[int], wanted: Sequence[int]
) -> Iterator[tuple[int, _Axis]]:
    """The listed axes at given sizes, or at the nearest ones that keep the aspect ratio."""
    factors = [np.float32(out) / np.float32(n) for n, out in zip(old, wanted, strict=True)]
    policy = attrs["keep_aspect_ratio_policy"]
    if policy in (None, "stretch"):
        for i, n, out, factor in zip(listed, old, wanted, factors, strict=True):
            yield i, _Axis(n, out, float(factor))
        return
    factor = min(factors) if policy == "not_larger" else max(factors)
    for i, n in zip(listed, old, strict=True):
        yield i, _Axis(n, int(np.floor(factor * n + 0.5)), float(factor))
