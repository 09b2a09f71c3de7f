"""Compiled: regions, seconds and messages of one segment, as ``regions``, ``pieces`` and
``halo_transfers`` have them, for searches that cost a segment thousands of times.

Legend of shapes: L layers, E reads, T tensors (0 is the output, externals last), X external maps,
n devices. A tile is four integers (y0, y1, x0, x1); an empty one has y1 <= y0 or x1 <= x0.
"""

from __future__ import annotations

import numpy as np

from nptp_opt.compiling import compiled, inner
from nptp_opt.cost.cuts import MOST_PIECES, WORK, cut_into, is_empty, set_tile
from nptp_opt.cost.rims import INCOMING


@compiled
def segment_work(reads, tables, seconds, made, outer, sizes, tiles, owners, rims, wanted, rank):  # type: ignore[no-untyped-def]
    """Work of a segment with ``tiles`` (n, 4) of its output and ``owners`` (X, n, 4) of its maps.

    The first arguments are what ``segment_tables.SegmentTables`` has of it.
    ``rims`` is a place in ``RIMS``; ``wanted`` (R, n, 4) is what the devices read of the output in
    its readers; ``rank`` (n) is who gets messages first: from -n on, 0 is all others.

    Pieces: device (P), seconds (P), rectangles (P, 4), in order of devices, then of computing; what
    a piece is the first to read is decoded in its seconds. Messages in order: [src, dst, the first
    piece that reads it, first part, end] (M, 5), their bytes and the seconds that they are encoded
    in (2, M), and parts [external map, rectangle] (K, 5).
    """
    n, maps = len(tiles), len(outer)
    found = np.zeros((1 + len(made) + len(reads), 4), dtype=np.int64)
    needs = np.zeros((maps, n, 4), dtype=np.int64)
    most = n if rims == 0 else MOST_PIECES * n
    device, times = np.zeros(most, dtype=np.int64), np.zeros(most)
    parts = np.zeros((most, 4), dtype=np.int64)
    reading = np.zeros((most, maps, 4), dtype=np.int64)
    first = np.zeros(n + 1, dtype=np.int64)
    work = np.zeros((MOST_PIECES + WORK + 2, 4), dtype=np.int64)
    others = np.zeros((wanted.shape[0] * wanted.shape[1], 4), dtype=np.int64)
    for d in range(n):
        first[d + 1] = first[d]
        if is_empty(tiles[d]):
            continue
        _regions(reads, tables, tiles[d], found)
        _set_needs(outer, found, needs, d)
        count = 1
        set_tile(work[0], tiles[d])
        if rims > 0:
            count = _cut(reads, tables, outer, owners, tiles[d], d, rims, wanted, others, found,
                         work)  # fmt: skip
        for k in range(count):
            at = first[d + 1]
            set_tile(parts[at], work[k])
            if rims > 0:
                _regions(reads, tables, work[k], found)
            device[at], times[at] = d, _made_s(seconds, made, d, found)
            for x in range(maps):
                set_tile(reading[at, x], found[outer[x, 0]])
            first[d + 1] += 1
    ends, amounts, carried = _messages(needs, owners, outer, sizes, reading, first, rank, times)
    return device[: first[n]], times[: first[n]], parts[: first[n]], ends, amounts, carried


@compiled
def segment_reads(reads, tables, made, outer, tiles):  # type: ignore[no-untyped-def]
    """What all devices read (X, n, 4) of a segment's external maps for their ``tiles``."""
    found = np.zeros((1 + len(made) + len(reads), 4), dtype=np.int64)
    needs = np.zeros((len(outer), len(tiles), 4), dtype=np.int64)
    for d in range(len(tiles)):
        if not is_empty(tiles[d]):
            _regions(reads, tables, tiles[d], found)
            _set_needs(outer, found, needs, d)
    return needs


@inner
def _set_needs(outer, found, needs, d):  # type: ignore[no-untyped-def]
    for x in range(len(outer)):
        set_tile(needs[x, d], found[outer[x, 0]])


@inner
def _cut(reads, tables, outer, owners, tile, device, rims, wanted, others, found, work):  # type: ignore[no-untyped-def]
    """Write the pieces of a device's tile to the first rows of ``work``, and return how many."""
    inside = work[MOST_PIECES + WORK]
    set_tile(inside, tile)
    if rims & INCOMING:
        part = work[MOST_PIECES + WORK + 1]
        _shrink(reads, tables, outer, owners, inside, device, part, found)
    many = _of_others(wanted, tile, device, others)
    return cut_into(tile, inside, others, many, rims, work, work[MOST_PIECES:])


@inner
def _of_others(wanted, tile, device, found):  # type: ignore[no-untyped-def]
    """Write what other devices read of a device's tile in order of readers and devices, and return
    how many of these there are."""
    count = 0
    for r in range(wanted.shape[0]):
        for d in range(wanted.shape[1]):
            if d != device and meets(wanted[r, d], tile):
                set_tile(found[count], wanted[r, d])
                count += 1
    return count


@inner
def meets(one, other):  # type: ignore[no-untyped-def]
    """Do two rectangles have anything in common?"""
    rows = min(one[1], other[1]) - max(one[0], other[0])
    return rows > 0 and min(one[3], other[3]) - max(one[2], other[2]) > 0


@inner
def _regions(reads, tables, tile, found):  # type: ignore[no-untyped-def]
    """Rectangles (T, 4) of all tensors that a tile of the output takes."""
    for t in range(1, len(found)):
        found[t, 0] = found[t, 1] = found[t, 2] = found[t, 3] = 0
    set_tile(found[0], tile)
    for e in range(len(reads)):
        wanted, known = found[reads[e, 0]], found[reads[e, 1]]
        if is_empty(wanted):
            continue
        at_y, at_x = reads[e, 2], reads[e, 3]
        y0, y1 = tables[at_y + 1 + wanted[0]], tables[at_y + 1 + tables[at_y] + wanted[1]]
        x0, x1 = tables[at_x + 1 + wanted[2]], tables[at_x + 1 + tables[at_x] + wanted[3]]
        if y1 <= y0 or x1 <= x0:
            continue
        if not is_empty(known):
            y0, y1 = min(y0, known[0]), max(y1, known[1])
            x0, x1 = min(x0, known[2]), max(x1, known[3])
        known[0], known[1], known[2], known[3] = y0, y1, x0, x1


@inner
def _made_s(seconds, made, device, found):  # type: ignore[no-untyped-def]
    """Seconds of the regions of all layers on one device, a program."""
    total = seconds[-1, 0, device]
    for k in range(len(made)):
        region = found[made[k, 0]]
        if not is_empty(region):
            area = (region[1] - region[0]) * (region[3] - region[2])
            layer = made[k, 1]
            total += seconds[layer, 0, device] + seconds[layer, 1, device] * area
    return total


@inner
def _shrink(reads, tables, outer, owners, inside, device, part, found):  # type: ignore[no-untyped-def]
    """Make a tile its largest part that needs nothing beyond what its device owns: a start that is
    late enough and an end that is early enough, found by bisection on each side."""
    for side in range(4):
        axis = side // 2 * 2
        low, high = inside[axis], inside[axis + 1]
        while low < high:
            middle = (low + high) // 2 if side % 2 == 0 else (low + high + 1) // 2
            set_tile(part, inside)
            part[side] = middle
            if _held(reads, tables, outer, owners, part, device, side, found):
                low, high = (low, middle) if side % 2 == 0 else (middle, high)
            else:
                low, high = (middle + 1, high) if side % 2 == 0 else (low, middle - 1)
        inside[side] = low


@inner
def _held(reads, tables, outer, owners, part, device, side, found):  # type: ignore[no-untyped-def]
    """Is what a part of a tile needs within what its device owns, on one side?"""
    if is_empty(part):
        return True
    _regions(reads, tables, part, found)
    for x in range(len(outer)):
        need, own = found[outer[x, 0]], owners[x, device]
        if is_empty(need):
            continue
        within = need[side] >= own[side] if side % 2 == 0 else need[side] <= own[side]
        if not within:
            return False
    return True


@compiled
def _messages(needs, owners, outer, sizes, reading, first, rank, times):  # type: ignore[no-untyped-def]
    """Messages in the order in which they are handed over, their bytes and seconds of encoding,
    and their parts, as ``segment_work`` has them. Decoding is added to the pieces' ``times``."""
    maps, n, _ = needs.shape
    place = np.full((n, n), -1)
    pairs, many = np.empty((n * n, 2), dtype=np.int64), np.zeros(n * n, dtype=np.int64)
    parts = np.empty((maps * n * n, 6), dtype=np.int64)
    total, count = _meetings(needs, owners, place, pairs, many, parts)
    ends, amounts = np.zeros((total, 5), dtype=np.int64), np.zeros((2, total))
    carried = np.empty((count, 5), dtype=np.int64)
    _put_in_order(pairs, many, rank, place, first, ends)
    decoding_s = np.zeros(total)
    _carry(parts, pairs, place, outer, sizes, reading, first, ends, amounts, carried, decoding_s)
    for k in range(total):
        times[ends[k, 2]] += decoding_s[k]
    return ends, amounts, carried


@inner
def _meetings(needs, owners, place, pairs, many, parts):  # type: ignore[no-untyped-def]
    """How many messages and parts there are, in the order of maps, receivers and senders.

    Writes a message's number to ``place`` (n, n), its [src, dst] to ``pairs``, how many parts it
    has to ``many``, and parts [external map, rectangle, message].
    """
    maps, n, _ = needs.shape
    total = count = 0
    for x in range(maps):
        for d in range(n):
            need = needs[x, d]
            if is_empty(need):
                continue
            for s in range(n):
                own = owners[x, s]
                if s == d or not meets(need, own):
                    continue
                if place[s, d] < 0:
                    place[s, d] = total
                    pairs[total, 0], pairs[total, 1] = s, d
                    total += 1
                many[place[s, d]] += 1
                parts[count, 0], parts[count, 5] = x, place[s, d]
                for side in range(0, 4, 2):
                    parts[count, 1 + side] = max(need[side], own[side])
                    parts[count, 2 + side] = min(need[side + 1], own[side + 1])
                count += 1
    return total, count


@inner
def _put_in_order(pairs, many, rank, place, first, ends):  # type: ignore[no-untyped-def]
    """Write the messages to ``ends``, receivers of a lower rank first, as if the last piece were
    the first to read them, none of their parts there yet; and to ``place`` where they stand."""
    ahead = at = parts = 0
    for d in range(len(rank)):
        ahead += rank[d] < 0
    for turn in range(ahead + 1):
        wanted = turn - len(rank) if turn < ahead else 0
        for k in range(len(ends)):
            src, dst = pairs[k, 0], pairs[k, 1]
            if rank[dst] != wanted:
                continue
            ends[at, 0], ends[at, 1], ends[at, 2] = src, dst, first[dst + 1] - 1
            ends[at, 3] = ends[at, 4] = parts
            place[src, dst] = at
            at += 1
            parts += many[k]


@inner
def _carry(  # type: ignore[no-untyped-def]
    parts, pairs, place, outer, sizes, reading, first, ends, amounts, carried, decoding_s
):
    """Put the parts into their messages: what these hold, and which piece is the first to read
    them."""
    for p in range(len(carried)):
        part, number = parts[p], parts[p, 5]
        src, dst = pairs[number, 0], pairs[number, 1]
        k = place[src, dst]
        for side in range(5):
            carried[ends[k, 4], side] = part[side]
        ends[k, 4] += 1
        area, size = (part[2] - part[1]) * (part[4] - part[3]), sizes[outer[part[0], 1]]
        amounts[0, k] += np.ceil(area * size[0, src, dst]) + size[1, src, dst]
        amounts[1, k] += area * size[2, src, dst]
        decoding_s[k] += area * size[3, src, dst]
        for piece in range(first[dst], ends[k, 2]):
            if meets(reading[piece, part[0]], part[1:5]):
                ends[k, 2] = piece
                break
