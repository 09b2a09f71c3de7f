"""Ops that read the same pixel of all their inputs, and reductions of whole maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor

from nptp_opt.errors import InputError
from nptp_opt.geometry import Tile
from nptp_opt.kernels import reductions
from nptp_opt.network.ir import Node
from nptp_opt.network.ops import ELEMENTWISE, WHOLE
from nptp_opt.network.pixels import normalised

Params = Mapping[str, Tensor]

CAST_TYPES: dict[str, torch.dtype] = {
    name: getattr(torch, name)
    for name in ("float16", "bfloat16", "bool", "int8", "uint8", "int16", "int32", "int64")
}


def call_aten(node: Node, params: Params, values: Sequence[Tensor], tile: Tile) -> Tensor:
    """Call torch's op of the node's name with the arguments that the node holds.

    Only names of the vocabulary are called: a plan is a file, and may come from anywhere. Truth
    values and whole numbers are carried in the type of all values, and converted for the call.
    """
    if node.op not in ELEMENTWISE | WHOLE:
        raise InputError(f"node {node.name!r}: op {node.op!r} is not in the vocabulary")
    views = node.attrs.get("views", {})

    def operand(given: Any) -> Any:
        if isinstance(given, list):
            return [operand(each) for each in given]
        if not isinstance(given, Mapping):
            return given
        if "in" in given:
            return _native(node, values[given["in"]], given.get("dtype"))
        role = given["param"]
        return _view_weight(params[role], views[role], tile) if role in views else params[role]

    op = getattr(getattr(torch.ops.aten, node.op), node.attrs["overload"])
    if op._schema.is_mutable:
        raise InputError(f"node {node.name!r}: op {node.op!r} may not write into what it is given")
    args, kwargs = operand(node.attrs["args"]), node.attrs["kwargs"]
    made = op(*args, **{name: operand(value) for name, value in kwargs.items()})
    result: Tensor = made[node.attrs["output"]] if "output" in node.attrs else made
    return result.to(values[0].dtype)


def _native(node: Node, values: Tensor, dtype: str | None) -> Tensor:
    """Carried values in the model's own type; lossy transfers may have moved them a little."""
    return values if dtype is None else values.round().to(_cast_type(node, dtype))


def _cast_type(node: Node, name: str) -> torch.dtype:
    dtype = CAST_TYPES.get(name)
    if dtype is None:
        raise InputError(f"node {node.name!r}: cast to {name!r} is not known")
    return dtype


def _view_weight(weight: Tensor, view: Mapping[str, list[int]], tile: Tile) -> Tensor:
    """A weight as (N, C, H, W), cut to the tile where it has rows or columns of its own."""
    lying = weight.reshape(view["view"]).expand(view["expand"]).permute(view["order"])
    whole = lying.reshape(view["shape"])
    rows = slice(tile.y0, tile.y1) if whole.shape[2] > 1 else slice(None)
    columns = slice(tile.x0, tile.x1) if whole.shape[3] > 1 else slice(None)
    return whole[:, :, rows, columns]


def relayout(node: Node, params: Params, values: Sequence[Tensor], tile: Tile) -> Tensor:
    """From (N, C, H, W) to the model's own dimensions."""
    ordered: list[int] = node.attrs["ordered"]
    return values[0].reshape(ordered).permute(list(node.attrs["order"]))


def batch_norm(node: Node, params: Params, values: Sequence[Tensor], tile: Tile) -> Tensor:
    if node.attrs.get("by_row"):
        cut = {role: values_of[tile.y0 : tile.y1] for role, values_of in params.items()}
        plain = replace(node, attrs={"eps": node.attrs["eps"]})
        return batch_norm(plain, cut, [values[0].transpose(1, 2)], tile).transpose(1, 2)
    return F.batch_norm(
        _leading(node, values[0]),
        params["running_mean"],
        params["running_var"],
        params.get("weight"),
        params.get("bias"),
        eps=node.attrs["eps"],
    ).reshape(values[0].shape)


def _leading(node: Node, x: Tensor) -> Tensor:
    """A volume with its depth among its rows: what weights for each channel are applied to."""
    n, c, h, w = x.shape
    channels = node.attrs.get("channels", c)
    return x if channels == c else x.reshape(n, channels, c // channels * h, w)


def cast(node: Node, params: Params, values: Sequence[Tensor], tile: Tile) -> Tensor:
    """Round to a shorter type, or to whole numbers, and back to the type that carries the values.

    In float64 the shorter floating-point types are float64, too.
    """
    dtype = _cast_type(node, node.attrs["dtype"])
    if dtype.is_floating_point and values[0].dtype == torch.float64:
        return values[0]
    return values[0].to(dtype).to(values[0].dtype)


def prelu(node: Node, params: Params, values: Sequence[Tensor], tile: Tile) -> Tensor:
    return F.prelu(_leading(node, values[0]), params["weight"].reshape(-1)).reshape(values[0].shape)


def channel_norm(node: Node, params: Params, values: Sequence[Tensor], tile: Tile) -> Tensor:
    split, (dim, *_) = _split(node, values[0])
    last = split.movedim(dim, -1)
    size, weight, eps = [last.shape[-1]], params.get("weight"), node.attrs["eps"]
    if node.attrs.get("centred", True):
        normed = F.layer_norm(last, size, weight, params.get("bias"), eps)
    else:
        normed = F.rms_norm(last, size, weight, eps)
    return normed.movedim(-1, dim).reshape(values[0].shape)


def _split(node: Node, x: Tensor) -> tuple[Tensor, list[int]]:
    """The map with its channels split into factors, and the dimensions that the node works along.

    Without factors these are the channels.
    """
    if "over" not in node.attrs:
        return x, [1]
    n, _, h, w = x.shape
    return x.reshape(n, *node.attrs["factors"], h, w), [1 + i for i in node.attrs["over"]]


def channel_permute(node: Node, params: Params, values: Sequence[Tensor], tile: Tile) -> Tensor:
    n, c, h, w = values[0].shape
    order = [1 + i for i in node.attrs["order"]]
    rank = len(order)
    split = values[0].reshape(n, *node.attrs["factors"], h, w)
    return split.permute(0, *order, rank + 1, rank + 2).reshape(n, c, h, w)


def channel_slice(node: Node, params: Params, values: Sequence[Tensor], tile: Tile) -> Tensor:
    split, (dim, *_) = _split(node, values[0])
    kept = slice(node.attrs["start"], node.attrs["stop"], node.attrs["step"])
    return _merged(split[(slice(None),) * dim + (kept,)])


def channel_concat(node: Node, params: Params, values: Sequence[Tensor], tile: Tile) -> Tensor:
    return torch.cat(list(values), dim=1)


def channel_pad(node: Node, params: Params, values: Sequence[Tensor], tile: Tile) -> Tensor:
    return F.pad(values[0], (0, 0, 0, 0, *node.attrs["pad"]), value=node.attrs["value"])


def channel_avg_pool(node: Node, params: Params, values: Sequence[Tensor], tile: Tile) -> Tensor:
    size = node.attrs["size"]
    return F.avg_pool3d(values[0].unsqueeze(1), (size, 1, 1), (1, 1, 1)).squeeze(1)


def channel_conv(node: Node, params: Params, values: Sequence[Tensor], tile: Tile) -> Tensor:
    n, c, h, w = values[0].shape
    lines = values[0].permute(0, 2, 3, 1).reshape(n * h * w, 1, c)
    padding, stride, dilation = (node.attrs[role] for role in ("padding", "stride", "dilation"))
    made = F.conv1d(lines, params["weight"], params.get("bias"), stride, padding, dilation)
    return made.reshape(n, h, w, -1).permute(0, 3, 1, 2)


def channel_softmax(node: Node, params: Params, values: Sequence[Tensor], tile: Tile) -> Tensor:
    split, (dim, *_) = _split(node, values[0])
    return torch.softmax(split, dim).reshape(values[0].shape)


def channel_log_softmax(node: Node, params: Params, values: Sequence[Tensor], tile: Tile) -> Tensor:
    split, (dim, *_) = _split(node, values[0])
    return torch.log_softmax(split, dim).reshape(values[0].shape)


def channel_mean(node: Node, params: Params, values: Sequence[Tensor], tile: Tile) -> Tensor:
    split, dims = _split(node, values[0])
    return _merged(split.mean(dims, keepdim=True))


def channel_sum(node: Node, params: Params, values: Sequence[Tensor], tile: Tile) -> Tensor:
    split, dims = _split(node, values[0])
    return _merged(split.sum(dims, keepdim=True))


def channel_amax(node: Node, params: Params, values: Sequence[Tensor], tile: Tile) -> Tensor:
    split, dims = _split(node, values[0])
    return _merged(split.amax(dims, keepdim=True))


def _merged(split: Tensor) -> Tensor:
    """The map with its channel factors as one dimension again."""
    return split.flatten(1, -3)


def constant(node: Node, params: Params, values: Sequence[Tensor], tile: Tile) -> Tensor:
    """The tile's part of a constant map; the input only says where the tile is computed."""
    part = _view_weight(params["c0"], node.attrs["view"], tile).to(values[0].dtype)
    return part.expand(*node.shape[:2], tile.height, tile.width)


def broadcast(node: Node, params: Params, values: Sequence[Tensor], tile: Tile) -> Tensor:
    n, c, h, w = values[0].shape
    before, after = node.attrs.get("factors", ([c], [node.shape[1]]))
    split = values[0].reshape(n, *before, h, w)
    return _merged(split.expand(-1, *after, tile.height, tile.width))


def group_normalise(node: Node, params: Params, values: Sequence[Tensor], tile: Tile) -> Tensor:
    """(x - mean) * rstd of each group, then the weights of each channel."""
    x, stats = values
    groups = node.attrs["groups"]
    mean, rstd = stats[:, :groups, :, :], stats[:, groups:, :, :]
    n, c, h, w = x.shape
    split = x.reshape(n, groups, c // groups, h, w)
    normed = _leading(node, ((split - mean.unsqueeze(2)) * rstd.unsqueeze(2)).reshape(n, c, h, w))
    if "weight" in params:
        normed = normed * params["weight"].view(1, -1, 1, 1)
    if "bias" in params:
        normed = normed + params["bias"].view(1, -1, 1, 1)
    return normed.reshape(n, c, h, w)


def normalise(node: Node, params: Params, values: Sequence[Tensor], tile: Tile) -> Tensor:
    """Pixels as the model takes them: the very operations of ``network.pixels.normalised``."""
    return normalised(values[0], node.attrs["scale"], node.attrs["mean"], node.attrs["std"])


# -- reductions: a partial of each tile, then one result from all of them ------------------------


def partial(node: Node, tile: Tensor) -> Tensor:
    """As ``reductions.partial``, of a tensor."""
    return torch.from_numpy(reductions.partial(node, tile.detach().numpy()))


def combine(node: Node, partials: Sequence[Tensor]) -> Tensor:
    """As ``reductions.combine``, of tensors."""
    return torch.from_numpy(reductions.combine(node, [each.detach().numpy() for each in partials]))
