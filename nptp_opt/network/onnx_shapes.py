"""ONNX operators that move data: reshapes, slices, joins, padding, resizing, pixel shuffles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor

from nptp_opt.network.onnx_ops import Attrs, axes_of, op, refuse


@op("Reshape")
def reshape(attrs: Attrs, x: Tensor, shape: Any = None) -> Tensor:
    wanted = [int(v) for v in (attrs["shape"] if shape is None else shape)]
    if not attrs.get("allowzero", 0):
        wanted = [x.shape[i] if v == 0 else v for i, v in enumerate(wanted)]
    return x.reshape(wanted)


@op("Flatten")
def flatten(attrs: Attrs, x: Tensor) -> Tensor:
    axis = attrs.get("axis", 1) % (x.dim() + 1)
    return x.reshape(math.prod(x.shape[:axis]), -1)


@op("Squeeze")
def squeeze(attrs: Attrs, x: Tensor, axes: Any = None) -> Tensor:
    found = axes_of(attrs, axes)
    return x.squeeze() if found is None else x.squeeze(tuple(found))


@op("Unsqueeze")
def unsqueeze(attrs: Attrs, x: Any, axes: Any = None) -> Tensor:
    found = axes_of(attrs, axes) or []
    grown: Tensor = torch.from_numpy(x) if isinstance(x, np.ndarray) else x
    for axis in sorted(a % (grown.dim() + len(found)) for a in found):
        grown = grown.unsqueeze(axis)
    return grown


@op("Transpose")
def transpose(attrs: Attrs, x: Tensor) -> Tensor:
    return x.permute(attrs.get("perm", list(range(x.dim()))[::-1]))


@op("Expand")
def expand(attrs: Attrs, x: Tensor, shape: Any) -> Tensor:
    return x.expand(np.broadcast_shapes(tuple(x.shape), tuple(int(v) for v in shape)))


@op("Concat")
def concat(attrs: Attrs, *parts: Any) -> Tensor:
    return torch.cat(list(parts), attrs["axis"])


@op("Split")
def split(attrs: Attrs, x: Tensor, sizes: Any = None) -> list[Tensor]:
    axis = attrs.get("axis", 0)
    given = attrs.get("split") if sizes is None else [int(v) for v in sizes]
    if given is None:
        given = math.ceil(x.shape[axis] / attrs["n_outputs"])
    return list(torch.split(x, given, axis))


@op("Slice")
def slice_(
    attrs: Attrs, x: Tensor, starts: Any = None, ends: Any = None, axes: Any = None,
    steps: Any = None,
) -> Tensor:  # fmt: skip
    low = [int(v) for v in (attrs["starts"] if starts is None else starts)]
    high = [int(v) for v in (attrs["ends"] if ends is None else ends)]
    dims = axes_of(attrs, axes) or list(range(len(low)))
    strides = [1] * len(low) if steps is None else [int(v) for v in steps]
    for dim, a, b, step in zip(dims, low, high, strides, strict=True):
        if step < 1:
            raise refuse("a slice that runs backwards")
        x = torch.ops.aten.slice(x, dim, a, b, step)
    return x


@op("Pad")
def pad(attrs: Attrs, x: Tensor, pads: Any = None, value: Any = None, axes: Any = None) -> Tensor:
    given = [int(v) for v in (attrs["pads"] if pads is None else pads)]
    dims = [int(v) % x.dim() for v in axes] if axes is not None else list(range(x.dim()))
    sides = {dim: (given[i], given[i + len(dims)]) for i, dim in enumerate(dims)}
    mode = {"edge": "replicate", "wrap": "circular"}
    name = attrs.get("mode", b"constant").decode()
    ordered = [v for dim in reversed(range(x.dim())) for v in sides.get(dim, (0, 0))]
    while ordered[-2:] == [0, 0]:
        ordered = ordered[:-2]
    if not ordered:
        return x
    if name == "constant":
        return F.pad(x, ordered, value=attrs.get("value", 0.0) if value is None else value.item())
    return F.pad(x, ordered + [0] * (4 - len(ordered)), mode=mode.get(name, name))


@op("DepthToSpace")
def depth_to_space(attrs: Attrs, x: Tensor) -> Tensor:
    block = attrs["blocksize"]
    if attrs.get("mode", b"DCR") == b"DCR":
        x = _swapped(x, block * block, x.shape[1] // block**2)
    return F.pixel_shuffle(x, block)


@op("SpaceToDepth")
def space_to_depth(attrs: Attrs, x: Tensor) -> Tensor:
    block, channels = attrs["blocksize"], x.shape[1]
    return _swapped(F.pixel_unshuffle(x, block), channels, block * block)


def _swapped(x: Tensor, outer: int, inner: int) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, outer, inner, h, w).transpose(1, 2).reshape(n, c, h, w)


@op("Resize", "Upsample")
def resize(attrs: Attrs, x: Tensor, *given: Any) -> Tensor:
    """The combinations of mode and coordinates that torch has too; the others are refused."""
    scales, sizes = _resize_targets(attrs, x, given)
    mode = attrs.get("mode", b"nearest").decode()
    where = attrs.get("coordinate_transformation_mode", b"half_pixel").decode()
    if attrs["op_type"] == "Upsample" or attrs["opset"] < 11:
        where = "asymmetric"
    whole = all(out % n == 0 for out, n in zip(sizes, x.shape[2:], strict=True))
    options: dict[str, Any] = {"scale_factor": scales} if scales else {"size": sizes}
    if mode == "nearest":
        rounding = attrs.get("nearest_mode", b"round_prefer_floor").decode()
        legacy = attrs["op_type"] == "Upsample" or attrs["opset"] < 11
        same = where == "asymmetric" and (rounding == "floor" or legacy)
        if not same and not (whole and where in ("half_pixel", "pytorch_half_pixel")):
            raise refuse(f"nearest resize with {where} and {rounding}")
        return F.interpolate(x, mode="nearest", **options)
    if where == "pytorch_half_pixel" and min(sizes) > 1:
        where = "half_pixel"
    if where not in ("half_pixel", "align_corners") or attrs.get("antialias", 0):
        raise refuse(f"{mode} resize with {where} coordinates")
    if mode == "cubic" and attrs.get("cubic_coeff_a", -0.75) != -0.75:
        raise refuse("cubic_coeff_a other than -0.75")
    name = {"linear": {1: "linear", 2: "bilinear"}, "cubic": {2: "bicubic"}}[mode][len(sizes)]
    return F.interpolate(x, mode=name, align_corners=where == "align_corners", **options)


def _resize_targets(
    attrs: Attrs, x: Tensor, given: Sequence[Any]
) -> tuple[list[float] | None, list[int]]:
    """Scale factors (None where sizes are given) and output sizes of the spatial dimensions."""
    two_inputs = attrs["op_type"] == "Upsample" or attrs["opset"] < 11
    scales = given[0] if two_inputs and given else given[1] if len(given) > 1 else None
    scales = attrs.get("scales") if scales is None else scales
    sizes = given[2] if len(given) > 2 else None
    if "axes" in attrs or attrs.get("keep_aspect_ratio_policy", b"stretch") != b"stretch":
        raise refuse("axes or an aspect ratio policy")
    if sizes is not None and len(sizes):
        wanted = [int(v) for v in sizes]
        if wanted[:2] != list(x.shape[:2]):
            raise refuse("a resize of channels or samples")
        return None, wanted[2:]
    factors = [float(v) for v in ([] if scales is None else scales)]
    if factors[:2] != [1.0, 1.0]:
        raise refuse("a resize of channels or samples")
    return factors[2:], [int(n * f) for n, f in zip(x.shape[2:], factors[2:], strict=True)]
