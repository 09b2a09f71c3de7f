"""Axis maps as tables, for compiled code: what ``[a, b)`` reads is ``[lo[a], hi[b])``.

That holds for every axis map whose reads move with the output. Padding by reflection or repetition
turns back at the border, and windows with holes may do so anywhere: these have no table. Nor has a
hull of maps, whose range may read more than its outputs do one by one.
"""

from __future__ import annotations

import numpy as np

from nptp_opt.geometry.axis_maps import Hull
from nptp_opt.geometry.tiles import AxisMap, IntArray, Window


def need_table(axis: AxisMap) -> IntArray | None:
    """Row 0 has ``lo`` of every first output, row 1 ``hi`` of every end: (2, n_out + 1).

    A range is empty where ``lo >= hi``. None where no such table exists.
    """
    if not isinstance(axis, Window):
        return None if isinstance(axis, Hull) else _from_single_outputs(axis)
    at = np.arange(axis.n_out + 1, dtype=np.int64)
    first = at * axis.stride - axis.pad_lo
    end = (at - 1) * axis.stride - axis.pad_lo + axis.span
    return np.stack((np.maximum(0, first), np.minimum(axis.n_in, end)))


def _from_single_outputs(axis: AxisMap) -> IntArray | None:
    """The table of a map whose first and last reads never go back from output to output.

    An output that reads nothing begins where the next one does and ends where the last one did.
    """
    alone = np.array([axis.need(a, a + 1) for a in range(axis.n_out)], dtype=np.int64)
    empty = alone[:, 0] >= alone[:, 1]
    first = np.append(np.where(empty, axis.n_in, alone[:, 0]), axis.n_in)
    end = np.insert(np.where(empty, 0, alone[:, 1]), 0, 0)
    lo = np.minimum.accumulate(first[::-1])[::-1]
    hi = np.maximum.accumulate(end)
    goes_back = (lo[:-1] < first[:-1])[~empty] | (hi[1:] > end[1:])[~empty]
    reads_nothing = lo[:-1][empty] >= hi[1:][empty]
    return None if goes_back.any() or not reads_nothing.all() else np.stack((lo, hi))
