"""Overlap: computing what needs nothing of others while halos are on their way (docs/cost.md).

The *interior* of a device's tile is the largest rectangle whose needs lie within what the device
owns of every feature map that the segment reads; the *rim* is the rest, computed once the halo is
there. Every piece computes its own regions inside a fused segment and pays its own fixed costs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nptp_opt.cluster import Cluster
from nptp_opt.cost.loads import Transfer, comms_s, load_arrays
from nptp_opt.cost.segment import Ownership, segment_compute_s, step_loads
from nptp_opt.geometry import EMPTY, IntArray, Tile, need_ranges
from nptp_opt.network.ir import Layer, Network, external_inputs

Range = tuple[int, int]


@dataclass(frozen=True)
class Split:
    """A tile as the pieces that are computed before and after the halo is there."""

    interior: Tile
    rim: tuple[Tile, ...]
    """At most four rectangles."""

    def seconds(
        self, cluster: Cluster, device: int, layers: Sequence[Layer]
    ) -> tuple[float, float]:
        """Compute seconds of interior and rim."""
        rim = (segment_compute_s(cluster, device, layers, piece) for piece in self.rim)
        return segment_compute_s(cluster, device, layers, self.interior), sum(rim)


def split(
    network: Network,
    layers: Sequence[Layer],
    device: int,
    tile: Tile,
    owned: Mapping[str, Ownership],
) -> Split:
    """Interior and rim of the ``tile`` that ``device`` computes of a segment's output."""
    maps = [name for name in external_inputs(layers) if name not in network.replicated]
    own = {tensor: owned[tensor].get(device, EMPTY) for tensor in maps}
    inside = interior(layers, tile, own)
    return Split(inside, tile.minus(inside))


def interior(layers: Sequence[Layer], tile: Tile, own: Mapping[str, Tile]) -> Tile:
    """The largest part of ``tile`` that needs nothing beyond ``own``; EMPTY if there is none.

    Rows and columns are found apart: a rectangle's needs are rectangles of rows' and columns'
    needs. Tensors that are not in ``own`` are always there.
    """
    if tile.is_empty:
        return EMPTY
    held_y = {tensor: (part.y0, part.y1) for tensor, part in own.items()}
    held_x = {tensor: (part.x0, part.x1) for tensor, part in own.items()}
    inner = Tile(
        *_longest(layers, 0, (tile.y0, tile.y1), held_y),
        *_longest(layers, 1, (tile.x0, tile.x1), held_x),
    )
    return EMPTY if inner.is_empty else inner


def _longest(layers: Sequence[Layer], axis: int, whole: Range, held: Mapping[str, Range]) -> Range:
    """The longest range within ``whole`` whose needs are ``held``.

    Every line of such a range has its needs held, too. So the longest run of such lines is the
    range, unless the run needs more than its lines do: what a hull over their needs takes with it.
    """
    lines = np.arange(*whole)
    alone = _are_held(layers, axis, np.stack((lines, lines + 1), axis=1), held)
    run = _longest_run(alone, whole[0])
    if bool(_are_held(layers, axis, np.array([run]), held)[0]):
        return run
    return _two_pointers(layers, axis, whole, held)


def _longest_run(mask: np.ndarray, first: int) -> Range:
    edges = np.flatnonzero(np.diff(np.concatenate(([0], mask.astype(np.int64), [0]))))
    runs = [(first + int(a), first + int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    return max(runs, key=lambda run: run[1] - run[0], default=(first, first))


def _two_pointers(
    layers: Sequence[Layer], axis: int, whole: Range, held: Mapping[str, Range]
) -> Range:
    """As ``_longest``, knowing only that a part of a range needs no more than the range."""
    best, start = (whole[0], whole[0]), whole[0]
    for end in range(whole[0] + 1, whole[1] + 1):
        while start < end and not _are_held(layers, axis, np.array([(start, end)]), held)[0]:
            start += 1
        best = max(best, (start, end), key=lambda run: run[1] - run[0])
    return best


def _are_held(
    layers: Sequence[Layer], axis: int, ranges: IntArray, held: Mapping[str, Range]
) -> np.ndarray:
    """For every output range: are its needs along one axis within what is held?"""
    ranges_of = _axis_regions(layers, axis, ranges)
    fine = np.ones(len(ranges), dtype=np.bool_)
    for tensor, (lo, hi) in held.items():
        need = ranges_of[tensor]
        fine &= (need[:, 0] >= need[:, 1]) | ((need[:, 0] >= lo) & (need[:, 1] <= hi))
    return fine


def _axis_regions(layers: Sequence[Layer], axis: int, ranges: IntArray) -> dict[str, IntArray]:
    """``regions`` along one axis, of many output ranges at once."""
    ranges_of = {layers[-1].name: ranges}
    for layer in reversed(layers):
        wanted = ranges_of.setdefault(layer.name, np.zeros_like(ranges))
        for tensor in layer.inputs:
            need = need_ranges(layer.maps[tensor][axis], wanted)
            ranges_of[tensor] = _hulls(ranges_of[tensor], need) if tensor in ranges_of else need
    return ranges_of


def _hulls(one: IntArray, other: IntArray) -> IntArray:
    hull = np.stack(
        (np.minimum(one[:, 0], other[:, 0]), np.maximum(one[:, 1], other[:, 1])), axis=1
    )
    hull = np.where((one[:, 0] >= one[:, 1])[:, None], other, hull)
    return np.asarray(np.where((other[:, 0] >= other[:, 1])[:, None], one, hull))


def overlapped_s(
    network: Network,
    cluster: Cluster,
    layers: Sequence[Layer],
    tiles: Ownership,
    transfers: Sequence[Transfer],
    owned: Mapping[str, Ownership],
) -> float:
    """Makespan of a segment that overlaps: max over devices of max(comm, interior) + rim."""
    comms = comms_s(cluster, load_arrays(step_loads(len(cluster.devices), transfers)))
    times = [float(comm) for comm in comms]
    for device, tile in tiles.items():
        parts = split(network, layers, device, tile, owned)
        interior_s, rim_s = parts.seconds(cluster, device, layers)
        times[device] = max(times[device], interior_s) + rim_s
    return max(times)
