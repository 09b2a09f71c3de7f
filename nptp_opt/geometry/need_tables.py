"""Axis maps as tables, for compiled code: what ``[a, b)`` reads is ``[lo[a], hi[b])``.

That holds for every axis map whose reads move with the output; padding by reflection or repetition
turns back at the border and has no table.
"""

from __future__ import annotations

import numpy as np

from nptp_opt.geometry.axis_maps import (
    Adaptive,
    Broadcast,
    Cubic,
    Linear,
    Nearest,
    Shuffled,
    Transposed,
    Whole,
)
from nptp_opt.geometry.tiles import AxisMap, IntArray, Window

MONOTONE = (Adaptive, Broadcast, Cubic, Linear, Nearest, Shuffled, Whole)
"""Maps that read something for every output, never less far on than for the output before it."""


def need_table(axis: AxisMap) -> IntArray | None:
    """Row 0 has ``lo`` of every first output, row 1 ``hi`` of every end: (2, n_out + 1).

    A range is empty where ``lo >= hi``. None where no such table exists.
    """
    at = np.arange(axis.n_out + 1, dtype=np.int64)
    if isinstance(axis, Window):
        first, end = (
            at * axis.stride - axis.pad_lo,
            (at - 1) * axis.stride - axis.pad_lo + axis.span,
        )
    elif isinstance(axis, Transposed):
        first = -(-(at + axis.pad - axis.dilation * (axis.kernel - 1)) // axis.stride)
        end = (at - 1 + axis.pad) // axis.stride + 1
    elif isinstance(axis, MONOTONE):
        alone = np.array([axis.need(a, a + 1) for a in range(axis.n_out)], dtype=np.int64)
        first, end = np.append(alone[:, 0], axis.n_in), np.insert(alone[:, 1], 0, 0)
    else:
        return None
    return np.stack((np.maximum(0, first), np.minimum(axis.n_in, end)))
