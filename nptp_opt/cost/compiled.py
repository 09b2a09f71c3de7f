"""Compiled: regions, seconds and messages of one segment, as ``regions``, ``pieces`` and
``halo_transfers`` have them, for searches that cost a segment thousands of times.

Legend of shapes: L layers, E reads, T tensors (0 is the output, externals last), X external maps,
n devices. A tile is four integers (y0, y1, x0, x1); an empty one has y1 <= y0 or x1 <= x0.
"""

from __future__ import annotations

import numba
import numpy as np

from nptp_opt.cost.cuts import cut_pieces
from nptp_opt.cost.rims import INCOMING


@numba.njit(cache=True, nogil=True)
def segment_work(reads, tables, seconds, made, outer, sizes, tiles, owners, rims, wanted, rank):  # type: ignore[no-untyped-def]
    """Work of a segment with ``tiles`` (n, 4) of its output and ``owners`` (X, n, 4) of its maps.

    The first arguments are what ``segment_tables.SegmentTables`` has of it.
    ``rims`` is a place in ``RIMS``; ``wanted`` (R, n, 4) is what the devices read of the output in
    its readers; ``rank`` (n) is who gets messages first. Pieces: device (P), seconds (P),
    rectangles (P, 4), in order of devices, then of computing; what a piece is the first to read is
    decoded in its seconds. Messages in order: [src, dst, the first piece that reads it, first part,
    end] (M, 5), their bytes and the seconds that they are encoded in (2, M), and parts [external
    map, rectangle] (K, 5).
    """
    n = len(tiles)
    found = np.zeros((1 + len(made) + len(reads), 4), dtype=np.int64)
    needs = np.zeros((len(outer), n, 4), dtype=np.int64)
    most = n if rims == 0 else 9 * n
    device, times = np.zeros(most, dtype=np.int64), np.zeros(most)
    parts = np.zeros((most, 4), dtype=np.int64)
    reading = np.zeros((most, len(outer), 4), dtype=np.int64)
    first = np.zeros(n + 1, dtype=np.int64)
    count = 0
    for d in range(n):
        first[d] = count
        if tiles[d, 1] <= tiles[d, 0] or tiles[d, 3] <= tiles[d, 2]:
            continue
        _regions(reads, tables, tiles[d], found)
        for x in range(len(outer)):
            needs[x, d] = found[outer[x, 0]]
        if rims > 0:
            inside = tiles[d]
            if rims & INCOMING:
                inside = _interior(reads, tables, outer, owners, tiles[d], d, found)
            cut = cut_pieces(tiles[d], inside, _of_others(wanted, tiles[d], d), rims)
            for part in cut:
                _regions(reads, tables, part, found)
                parts[count], device[count] = part, d
                times[count] = _made_s(seconds, made, d, found)
                for x in range(len(outer)):
                    reading[count, x] = found[outer[x, 0]]
                count += 1
        else:
            parts[count], device[count] = tiles[d], d
            times[count] = _made_s(seconds, made, d, found)
            for x in range(len(outer)):
                reading[count, x] = needs[x, d]
            count += 1
    first[n] = count
    ends, amounts, carried = _messages(needs, owners, outer, sizes, reading, first, rank, times)
    return device[:count], times[:count], parts[:count], ends, amounts, carried


@numba.njit(cache=True, nogil=True)
def segment_reads(reads, tables, made, outer, tiles):  # type: ignore[no-untyped-def]
    """What all devices read (X, n, 4) of a segment's external maps for their ``tiles``."""
    found = np.zeros((1 + len(made) + len(reads), 4), dtype=np.int64)
    needs = np.zeros((len(outer), len(tiles), 4), dtype=np.int64)
    for d in range(len(tiles)):
        if tiles[d, 1] > tiles[d, 0] and tiles[d, 3] > tiles[d, 2]:
            _regions(reads, tables, tiles[d], found)
            for x in range(len(outer)):
                needs[x, d] = found[outer[x, 0]]
    return needs


@numba.njit(cache=True, nogil=True)
def _of_others(wanted, tile, device):  # type: ignore[no-untyped-def]
    """Parts (R, 4) of a device's tile that other devices read, in order of readers and devices."""
    found = np.zeros((wanted.shape[0] * wanted.shape[1], 4), dtype=np.int64)
    count = 0
    for r in range(wanted.shape[0]):
        for d in range(wanted.shape[1]):
            need = wanted[r, d]
            if d != device and meets(need, tile):
                found[count] = need
                count += 1
    return found[:count]


@numba.njit(cache=True, nogil=True, inline="always")
def meets(one, other):  # type: ignore[no-untyped-def]
    """Do two rectangles have anything in common?"""
    rows = min(one[1], other[1]) - max(one[0], other[0])
    return rows > 0 and min(one[3], other[3]) - max(one[2], other[2]) > 0


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
def _made_s(seconds, made, device, found):  # type: ignore[no-untyped-def]
    """Seconds of the regions of all layers on one device."""
    total = 0.0
    for k in range(len(made)):
        y0, y1, x0, x1 = found[made[k, 0]]
        if y1 > y0 and x1 > x0:
            layer = made[k, 1]
            total += seconds[layer, 0, device] + seconds[layer, 1, device] * ((y1 - y0) * (x1 - x0))
    return total


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
        need, own = found[outer[x, 0]], owners[x, device]
        if need[1] <= need[0] or need[3] <= need[2]:
            continue
        within = need[side] >= own[side] if side % 2 == 0 else need[side] <= own[side]
        if not within:
            return False
    return True


@numba.njit(cache=True, nogil=True)
def _messages(needs, owners, outer, sizes, reading, first, rank, times):  # type: ignore[no-untyped-def]
    """Messages in the order in which they are handed over, their bytes and seconds of encoding,
    and their parts, as ``segment_work`` has them. Decoding is added to the pieces' ``times``."""
    maps, n, _ = needs.shape
    place = np.full((n, n), -1)
    total, found = 0, np.zeros((n * n, 2), dtype=np.int64)
    count, part_of = 0, np.zeros(maps * n * n, dtype=np.int64)
    parts = np.zeros((maps * n * n, 5), dtype=np.int64)
    for x in range(maps):
        for d in range(n):
            need = needs[x, d]
            if need[1] <= need[0] or need[3] <= need[2]:
                continue
            for s in range(n):
                own = owners[x, s]
                if s == d or not meets(need, own):
                    continue
                if place[s, d] < 0:
                    place[s, d] = total
                    found[total] = s, d
                    total += 1
                part_of[count], parts[count, 0] = place[s, d], x
                parts[count, 1:] = _shared(need, own)
                count += 1
    order = np.argsort(rank[found[:total, 1]], kind="mergesort")
    ends, amounts = np.zeros((total, 5), dtype=np.int64), np.zeros((2, total))
    decoding = np.zeros(total)
    carried = np.zeros((count, 5), dtype=np.int64)
    many = np.bincount(part_of[:count], minlength=total)
    at = 0
    for k in range(total):
        src, dst = found[order[k]]
        ends[k] = src, dst, first[dst + 1] - 1, at, at
        place[src, dst] = k
        at += many[order[k]]
    for p in range(count):
        part = parts[p]
        src, dst = found[part_of[p]]
        k = place[src, dst]
        carried[ends[k, 4]] = part
        ends[k, 4] += 1
        area, size = (part[2] - part[1]) * (part[4] - part[3]), sizes[outer[part[0], 1]]
        amounts[0, k] += np.ceil(area * size[0, src, dst]) + size[1, src, dst]
        amounts[1, k] += area * size[2, src, dst]
        decoding[k] += area * size[3, src, dst]
        for piece in range(first[dst], ends[k, 2]):
            if meets(reading[piece, part[0]], part[1:]):
                ends[k, 2] = piece
                break
    for k in range(total):
        times[ends[k, 2]] += decoding[k]
    return ends, amounts, carried


@numba.njit(cache=True, nogil=True, inline="always")
def _shared(one, other):  # type: ignore[no-untyped-def]
    return (max(one[0], other[0]), min(one[1], other[1]),
            max(one[2], other[2]), min(one[3], other[3]))  # fmt: skip
