"""Compiled: regions, seconds and messages of one segment, as ``regions``, ``split`` and
``halo_transfers`` have them, for searches that price a segment thousands of times.

Legend of shapes: L layers, E reads, T tensors (0 is the output, externals last), X external maps,
n devices. A tile is four integers (y0, y1, x0, x1); an empty one has y1 <= y0 or x1 <= x0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np

from nptp_opt.cluster import Cluster
from nptp_opt.cost.loads import FloatArray
from nptp_opt.cost.speed import layer_speed
from nptp_opt.cost.transfer import rectangle_bytes, sent_pixel_bytes
from nptp_opt.geometry import IntArray
from nptp_opt.geometry.need_tables import need_table
from nptp_opt.network.ir import Layer, Network, external_inputs


@dataclass(frozen=True)
class SegmentTables:
    """A segment as arrays.

    ``reads`` (E, 4): reading tensor, read tensor, places in ``tables`` of the rows' and the
    columns' need, in the order of ``regions``. ``tables``: need tables behind each other, each
    as length, ``lo``, ``hi``. ``seconds`` (2, L, n): of a call, and of a pixel. ``made`` (L):
    tensors of the layers. ``outer`` (X): external tensors. ``sizes`` (X + 1): bytes of their
    pixels, last of a rectangle.
    """

    reads: IntArray
    tables: IntArray
    seconds: FloatArray
    made: IntArray
    outer: IntArray
    sizes: FloatArray

    @property
    def arrays(self) -> tuple[IntArray, IntArray, FloatArray, IntArray, IntArray, FloatArray]:
        """All of them, as ``segment_work`` wants them."""
        return self.reads, self.tables, self.seconds, self.made, self.outer, self.sizes


def segment_tables(
    cluster: Cluster, network: Network, layers: Sequence[Layer]
) -> SegmentTables | None:
    """None where an axis map has no table."""
    maps = [name for name in external_inputs(layers) if name not in network.replicated]
    names = dict.fromkeys([layer.name for layer in reversed(layers)])
    names |= dict.fromkeys(external_inputs(layers))
    number = {name: k for k, name in enumerate(names)}
    places: dict[object, int] = {}
    tables: list[IntArray] = [np.zeros(0, dtype=np.int64)]
    reads = []
    for layer in reversed(layers):
        for tensor in layer.inputs:
            row = [number[layer.name], number[tensor]]
            for axis in layer.maps[tensor]:
                if axis not in places:
                    table = need_table(axis)
                    if table is None:
                        return None
                    places[axis] = sum(map(len, tables))
                    tables += [np.array([axis.n_out + 1]), table.reshape(-1)]
                row.append(places[axis])
            reads.append(row)
    sizes = [sent_pixel_bytes(cluster, network, name) for name in maps]
    return SegmentTables(
        np.array(reads, dtype=np.int64).reshape(-1, 4),
        np.concatenate(tables),
        _seconds(cluster, layers),
        np.array([number[layer.name] for layer in layers]),
        np.array([number[name] for name in maps], dtype=np.int64),
        np.array([*sizes, rectangle_bytes(cluster)], dtype=np.float64),
    )


def _seconds(cluster: Cluster, layers: Sequence[Layer]) -> FloatArray:
    speeds = [[layer_speed(device, layer) for device in cluster.devices] for layer in layers]
    call = [[speed.overhead_s for speed in row] for row in speeds]
    pixel = [
        [layer.flop_per_pixel / speed.flop_per_s for speed in row]
        for layer, row in zip(layers, speeds, strict=True)
    ]
    return np.array([call, pixel])


@numba.njit(cache=True, nogil=True)
def segment_work(reads, tables, seconds, made, outer, sizes, tiles, owners, overlap):  # type: ignore[no-untyped-def]
    """Work of a segment with ``tiles`` (n, 4) of its output and ``owners`` (X, n, 4) of its maps.

    Seconds before and after the halo (2, n); messages [src, dst, set of external maps] (M, 3) and
    their bytes (M), in the order of ``halo_transfers``. Without ``overlap`` all seconds are after.
    """
    n = len(tiles)
    found = np.zeros((1 + len(made) + len(reads), 4), dtype=np.int64)
    needs = np.zeros((len(outer), n, 4), dtype=np.int64)
    times = np.zeros((2, n))
    for d in range(n):
        if tiles[d, 1] <= tiles[d, 0] or tiles[d, 3] <= tiles[d, 2]:
            continue
        _regions(reads, tables, tiles[d], found)
        for x in range(len(outer)):
            needs[x, d] = found[outer[x]]
        if overlap:
            inside = _interior(reads, tables, outer, owners, tiles[d], d, found)
            times[0, d] = _piece_s(reads, tables, seconds, made, inside, d, found)
            for piece in _minus(tiles[d], inside):
                times[1, d] += _piece_s(reads, tables, seconds, made, piece, d, found)
        else:
            times[1, d] = _made_s(seconds, made, d, found)
    ends, amounts = _messages(needs, owners, sizes)
    return times, ends, amounts


@numba.njit(cache=True, nogil=True)
def _regions(reads, tables, tile, found):  # type: ignore[no-untyped-def]
    """Rectangles (T, 4) of all tensors that a tile of the output takes."""
    found[:] = 0
    found[0] = tile
    for e in range(len(reads)):
        reader, read, at_y, at_x = reads[e]
        wanted = found[reader]
        if wanted[1] <= wanted[0] or wanted[3] <= wanted[2]:
            continue
        y0, y1 = tables[at_y + 1 + wanted[0]], tables[at_y + 1 + tables[at_y] + wanted[1]]
        x0, x1 = tables[at_x + 1 + wanted[2]], tables[at_x + 1 + tables[at_x] + wanted[3]]
        if y1 <= y0 or x1 <= x0:
            continue
        known = found[read]
        if known[1] > known[0] and known[3] > known[2]:
            y0, y1 = min(y0, known[0]), max(y1, known[1])
            x0, x1 = min(x0, known[2]), max(x1, known[3])
        known[0], known[1], known[2], known[3] = y0, y1, x0, x1


@numba.njit(cache=True, nogil=True)
def _piece_s(reads, tables, seconds, made, piece, device, found):  # type: ignore[no-untyped-def]
    if piece[1] <= piece[0] or piece[3] <= piece[2]:
        return 0.0
    _regions(reads, tables, piece, found)
    return _made_s(seconds, made, device, found)


@numba.njit(cache=True, nogil=True)
def _made_s(seconds, made, device, found):  # type: ignore[no-untyped-def]
    """Seconds of the regions of all layers on one device."""
    total = 0.0
    for k in range(len(made)):
        y0, y1, x0, x1 = found[made[k]]
        if y1 > y0 and x1 > x0:
            total += seconds[0, k, device] + seconds[1, k, device] * ((y1 - y0) * (x1 - x0))
    return total


@numba.njit(cache=True, nogil=True)
def _minus(tile, inside):  # type: ignore[no-untyped-def]
    """A tile without what is inside it, as four rectangles."""
    rest = np.zeros((4, 4), dtype=np.int64)
    if inside[1] <= inside[0] or inside[3] <= inside[2]:
        rest[0] = tile
        return rest
    rest[0] = tile[0], inside[0], tile[2], tile[3]
    rest[1] = inside[1], tile[1], tile[2], tile[3]
    rest[2] = inside[0], inside[1], tile[2], inside[2]
    rest[3] = inside[0], inside[1], inside[3], tile[3]
    return rest


@numba.njit(cache=True, nogil=True)
def _interior(reads, tables, outer, owners, tile, device, found):  # type: ignore[no-untyped-def]
    """The largest part of a tile that needs nothing beyond what its device owns: a start that is
    late enough and an end that is early enough, found by bisection on each side."""
    inside = tile.copy()
    for side in range(4):
        axis = side // 2 * 2
        low, high = inside[axis], inside[axis + 1]
        while low < high:
            middle = (low + high) // 2 if side % 2 == 0 else (low + high + 1) // 2
            part = tile.copy()
            part[side] = middle
            if _held(reads, tables, outer, owners, part, device, side, found):
                low, high = (low, middle) if side % 2 == 0 else (middle, high)
            else:
                low, high = (middle + 1, high) if side % 2 == 0 else (low, middle - 1)
        inside[side] = low
    return inside


@numba.njit(cache=True, nogil=True)
def _held(reads, tables, outer, owners, part, device, side, found):  # type: ignore[no-untyped-def]
    """Is what a part of a tile needs within what its device owns, on one side?"""
    if part[1] <= part[0] or part[3] <= part[2]:
        return True
    _regions(reads, tables, part, found)
    for x in range(len(outer)):
        need, own = found[outer[x]], owners[x, device]
        if need[1] <= need[0] or need[3] <= need[2]:
            continue
        within = need[side] >= own[side] if side % 2 == 0 else need[side] <= own[side]
        if not within:
            return False
    return True


@numba.njit(cache=True, nogil=True)
def _messages(needs, owners, sizes):  # type: ignore[no-untyped-def]
    """Who sends to whom: [src, dst, set of maps] (M, 3), and bytes (M)."""
    count, n, _ = needs.shape
    place = np.full((n, n), -1)
    ends = np.zeros((n * n, 3), dtype=np.int64)
    amounts = np.zeros(n * n)
    total = 0
    for x in range(count):
        for d in range(n):
            y0, y1, x0, x1 = needs[x, d]
            if y1 <= y0 or x1 <= x0:
                continue
            for s in range(n):
                own = owners[x, s]
                rows = min(y1, own[1]) - max(y0, own[0])
                columns = min(x1, own[3]) - max(x0, own[2])
                if s == d or rows <= 0 or columns <= 0:
                    continue
                k = place[s, d]
                if k < 0:
                    k = place[s, d] = total
                    ends[k, 0], ends[k, 1] = s, d
                    total += 1
                ends[k, 2] |= 1 << x
                amounts[k] += rows * columns * sizes[x] + sizes[-1]
    return ends[:total], amounts[:total]
