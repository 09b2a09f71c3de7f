"""Pieces of a device's tile, in the order in which they are computed (docs/cost.md).

The *interior* needs nothing beyond what the device owns, and nobody else waits for it. The
*incoming rim* needs a halo: computed last, it leaves the halo the interior's time to travel. The
*outgoing rim* is what other devices read: computed first, its messages travel while the rest is
computed. Every piece computes its own regions inside a fused segment and pays its own fixed costs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nptp_opt.cluster import Cluster
from nptp_opt.cost.encoding import decode_s
from nptp_opt.cost.loads import Transfer, comms_s, load_arrays
from nptp_opt.cost.rims import INCOMING, RIMS, Rims
from nptp_opt.cost.segment import Ownership, segment_compute_s, segment_needs, step_loads
from nptp_opt.geometry import EMPTY, IntArray, Tile, need_ranges
from nptp_opt.network.ir import Layer, Network, external_inputs, regions

Range = tuple[int, int]


def pieces(
    layers: Sequence[Layer],
    tile: Tile,
    rims: Rims,
    own: Mapping[str, Tile],
    wanted: Sequence[Tile],
) -> tuple[Tile, ...]:
    """A device's ``tile`` of a segment's output as the pieces that it computes, in order.

    ``own`` is what the device holds of what the segment reads, ``wanted`` what others read of its
    output.
    """
    from nptp_opt.cost.cuts import cut_pieces  # compiled: a worker alone has no numba

    number = RIMS.index(rims)
    inside = interior(layers, tile, own) if number & INCOMING else tile
    array = np.array(wanted, dtype=np.int64).reshape(-1, 4)
    found = cut_pieces(np.array(tile), np.array(inside), array, number)
    return tuple(Tile(*map(int, row)) for row in found)


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


def first_reader(layers: Sequence[Layer], parts: Sequence[Tile], moves: Sequence[Transfer]) -> int:
    """Number of the first of a device's pieces that reads anything of ``moves``; the last one where
    none does."""
    for number, part in enumerate(parts[:-1]):
        need = regions(layers, part)
        if any(not need[m.tensor].intersect(m.tile).is_empty for m in moves if m.tensor in need):
            return number
    return len(parts) - 1


def in_pieces_s(
    network: Network,
    cluster: Cluster,
    layers: Sequence[Layer],
    parts: Mapping[int, Sequence[Tile]],
    transfers: Sequence[Transfer],
) -> float:
    """Makespan of a segment in pieces: max over devices of max(comm, ahead) + rest, ``ahead`` being
    the pieces before the first that reads anything received."""
    comms = comms_s(cluster, load_arrays(step_loads(len(cluster.devices), transfers)))
    times = [float(comm) for comm in comms]
    for device, tiles in parts.items():
        moves = [move for move in transfers if move.dst == device]
        first = first_reader(layers, tiles, moves) if moves else len(tiles)
        seconds = [segment_compute_s(cluster, device, layers, tile) for tile in tiles]
        times[device] = max(times[device], sum(seconds[:first])) + sum(seconds[first:])
        times[device] += decode_s(cluster, network, moves, device)
    return max(times)


def read_by_others(
    readers: Sequence[tuple[Sequence[Layer], Ownership]], output: str, tiles: Ownership
) -> dict[int, list[Tile]]:
    """By device what the others read of its tile of ``output``; ``readers`` are segments with
    their partitions."""
    found: dict[int, list[Tile]] = {device: [] for device in tiles}
    for layers, partition in readers:
        if output not in external_inputs(layers):
            continue
        for reader, need in sorted(segment_needs(layers, partition)[output].items()):
            for device, tile in tiles.items():
                part = tile.intersect(need)
                if device != reader and not part.is_empty:
                    found[device].append(part)
    return found
