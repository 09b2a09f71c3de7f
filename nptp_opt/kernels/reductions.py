"""Reductions that are spread over devices: a partial of each tile, one result from all of them.

In numpy, for every executor alike: all devices finish with the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from nptp_opt.kernels.crops import Array
from nptp_opt.network.ir import Node


def partial(node: Node, tile: Array) -> Array:
    """What one device's tile (N, C, rows, columns) adds to a reduction: sums, maxima, or moments.

    Moments are count, mean and sum of squared deviations of every group: stable to combine.
    """
    if node.op == "global_avg_pool":
        return cast(Array, tile.sum((2, 3)))
    if node.op == "global_max_pool":
        return cast(Array, tile.max((2, 3)))
    flat = tile.reshape(tile.shape[0], node.attrs["groups"], -1)
    mean = flat.mean(2)
    count = np.full_like(mean, flat.shape[2])
    return np.stack([count, mean, ((flat - mean[..., None]) ** 2).sum(2)], axis=2)


def combine(node: Node, partials: Sequence[Array]) -> Array:
    """The reduction's result (N, C, 1, 1) from the partials of all tiles that are not empty."""
    stacked = np.stack(partials)
    if node.op == "global_avg_pool":
        return cast(Array, (stacked.sum(0) / float(node.attrs["pixels"]))[:, :, None, None])
    if node.op == "global_max_pool":
        return cast(Array, stacked.max(0)[:, :, None, None])
    count, mean, spread = np.moveaxis(stacked, -1, 0)
    total = count.sum(0)
    centre = (count * mean).sum(0) / total
    spread = (spread + count * (mean - centre) ** 2).sum(0)
    rstd = 1.0 / np.sqrt(spread / total + node.attrs["eps"])
    return np.concatenate([centre, rstd.astype(centre.dtype)], axis=1)[:, :, None, None]
