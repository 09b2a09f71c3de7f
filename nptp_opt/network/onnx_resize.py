"""Resize and Upsample: ONNX has many ways to sample, torch a few.

Where the result samples is worked out as ONNX Runtime does it, for every axis. A call of torch is
taken only if it samples there too; otherwise the node is refused.

    half_pixel            (x + 0.5) / scale - 0.5
    pytorch_half_pixel    the same, 0 for a single element
    half_pixel_symmetric  the same, about the middle of the input
    asymmetric            x / scale
    align_corners         x * (n - 1) / (out - 1)
    tf_half_pixel_for_nn  (x + 0.5) / scale
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor

from nptp_opt.network.onnx_rules import Attrs, op, refuse

Numbers = np.ndarray[Any, Any]


@dataclass(frozen=True)
class _Axis:
    """``n`` elements become ``out``; ``scale`` is the factor as the node states it."""

    n: int
    out: int
    scale: float

    @property
    def is_kept(self) -> bool:
        return self.n == self.out and self.scale == 1.0


@dataclass(frozen=True)
class _Sampling:
    """Mode of interpolation, coordinates and rounding of one node."""

    mode: str
    where: str
    rounding: str

    def places(self, axis: _Axis) -> Numbers:
        """Where each element of the result samples its axis."""
        found = _COORDINATES[self.where](np.arange(axis.out, dtype=np.float32), axis)
        if self.mode == "nearest":
            found = _rounded(found, self.rounding, axis.scale)
        return found if self.mode == "cubic" else np.clip(found, 0, axis.n - 1)

    def __str__(self) -> str:
        rounding = f" and {self.rounding}" if self.mode == "nearest" else ""
        return f"{self.mode} interpolation at {self.where} coordinates{rounding}"


def _half(x: Numbers, axis: _Axis) -> Numbers:
    return (x + np.float32(0.5)) / np.float32(axis.scale) - np.float32(0.5)


def _symmetric(x: Numbers, axis: _Axis) -> Numbers:
    """An output that is cut to whole elements lies in the middle."""
    cut = axis.out / (np.float32(axis.scale) * axis.n)
    return axis.n / 2 * (1 - cut) + _half(x, axis)


_COORDINATES: dict[str, Callable[[Numbers, _Axis], Numbers]] = {
    "half_pixel": _half,
    "pytorch_half_pixel": lambda x, axis: _half(x, axis) if axis.out > 1 else x * 0,
    "half_pixel_symmetric": _symmetric,
    "asymmetric": lambda x, axis: x / np.float32(axis.scale),
    "align_corners": lambda x, axis: x * np.float32(axis.n - 1) / np.float32(max(axis.out - 1, 1)),
    "tf_half_pixel_for_nn": lambda x, axis: (x + np.float32(0.5)) / np.float32(axis.scale),
}


def _rounded(x: Numbers, how: str, scale: float) -> Numbers:
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
        found: Numbers = (x + np.float32(middle)) * step
        if self.corners is None:
            return np.minimum(np.floor(found), axis.n - 1)
        found = found - np.float32(0.5)
        return found if self.mode == "bicubic" else np.clip(found, 0, axis.n - 1)

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
    reads="antialias axes coordinate_transformation_mode cubic_coeff_a exclude_outside height_scale"
    " keep_aspect_ratio_policy mode nearest_mode scales width_scale",
    idle="extrapolation_value",
    takes=4,
    static=(1, 2, 3),
)  # fmt: skip
def resize(attrs: Attrs, x: Tensor, *given: Any) -> Tensor:
    sampling = _sampling(attrs)
    axes = _axes(attrs, x, given)
    if x.dim() < 3 or not (axes[0].is_kept and axes[1].is_kept):
        raise refuse("a resize of channels or samples")
    if all(axis.is_kept for axis in axes):
        return x
    if all(axis.n == axis.out for axis in axes):
        raise refuse("factors that change no size: engines disagree on what they do")
    if min(axis.out for axis in axes) < 1:
        raise refuse("a result without elements")
    for call in _calls(sampling.mode, x.dim() - 2):
        if all(call.fits(sampling, axis) for axis in axes[2:]):
            return call.run(x, axes[2:])
    sizes = "x".join(str(axis.n) for axis in axes[2:]), "x".join(str(a.out) for a in axes[2:])
    raise refuse(f"{sampling} from {sizes[0]} to {sizes[1]}: nothing in torch samples there")


def _sampling(attrs: Attrs) -> _Sampling:
    """How the node samples; refuses what no call of torch has."""
    legacy = attrs.op_type == "Upsample" or attrs.version < 11
    mode = {"bilinear": "linear"}.get(attrs["mode"], attrs["mode"])
    where = "asymmetric" if legacy else attrs["coordinate_transformation_mode"]
    if where not in _COORDINATES or mode not in ("nearest", "linear", "cubic"):
        raise refuse(f"{mode} interpolation at {where} coordinates")
    if mode != "nearest" and attrs["antialias"]:
        raise refuse("antialias=1")
    if mode == "cubic" and attrs["cubic_coeff_a"] != -0.75:
        raise refuse(f"cubic_coeff_a={attrs['cubic_coeff_a']:g}: torch's is -0.75")
    if mode == "cubic" and attrs["exclude_outside"]:
        raise refuse("exclude_outside=1: torch repeats the border")
    return _Sampling(mode, where, "legacy" if legacy else attrs["nearest_mode"])


def _axes(attrs: Attrs, x: Tensor, given: Sequence[Any]) -> list[_Axis]:
    """Every axis of the input, with its size and factor in the output."""
    scales, sizes = _targets(attrs, given)
    listed = [a % x.dim() for a in attrs["axes"]] if attrs["axes"] else list(range(x.dim()))
    found = {i: _Axis(n, n, 1.0) for i, n in enumerate(x.shape)}
    if sizes is not None:
        found.update(_by_size(attrs, listed, [found[i].n for i in listed], sizes))
    else:
        for i, scale in zip(listed, scales or [], strict=True):
            n = found[i].n
            out = int(np.floor(np.float32(n) * np.float32(scale)))
            found[i] = _Axis(n, out, float(np.float32(scale)))
    return [found[i] for i in range(x.dim())]


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
