"""Compiled: steps known again by all that they depend on, and the work of those that are new.

A step's *key* is a list of whole numbers: its segment, its partition, the place of its rims, the
number of its receivers that come first, the number of its users (of a result that several devices
hold); then for every map that it reads the number of the map's partition; then, where the outgoing
rim is computed first, segment and partition of every step that reads its output. Keys are compared
entire. Step ``i`` of a store is the one with the ``i``-th key.

A plan is an array (S, 5) of the first five of every step.
"""

from __future__ import annotations

import numpy as np

from nptp_opt.compiling import compiled, inner
from nptp_opt.cost.compiled import segment_reads, segment_work
from nptp_opt.cost.cuts import set_tile
from nptp_opt.cost.rims import OUTGOING
from nptp_opt.cost.segment_tables import SegmentTables
from nptp_opt.geometry import IntArray

OWN = 5
"""Numbers of a key before those of the maps that it reads."""


class StepKeys:
    """An exact hash table with room for so many steps, of plans of so many at most."""

    def __init__(self, steps: int, longest_plan: int) -> None:
        self._room = steps + longest_plan
        slots = 1 << (4 * self._room).bit_length()
        self._slots = np.full(slots, -1, dtype=np.int64)
        self._starts = np.zeros(self._room + 1, dtype=np.int64)
        self._numbers = np.zeros(1 << 16, dtype=np.int64)
        self._count = np.zeros(1, dtype=np.int64)

    def __len__(self) -> int:
        return int(self._count[0])

    @property
    def arrays(self) -> tuple[IntArray, IntArray]:
        """First number of every key, and the numbers of all."""
        return self._starts, self._numbers

    def find(
        self, plan: IntArray, segments: SegmentTables, held: IntArray
    ) -> tuple[IntArray, IntArray, IntArray]:
        """Numbers of a plan's steps (S), the places of the steps that make the maps that each reads
        (S, X), -1 for none, and the places of the steps that are new, which get the next numbers.

        ``held`` (tensors): the partition of every map before the first step.
        """
        longest = OWN + segments.most_maps + 2 * len(plan)
        needed = self._starts[len(self)] + len(plan) * longest
        if needed > len(self._numbers):
            self._numbers = np.concatenate((self._numbers, np.zeros(needed, dtype=np.int64)))
        table = self._slots, self._starts, self._numbers, self._count
        reads = segments.first[:, 2], segments.outer[:, 1], segments.output
        numbers, makers, new = find_steps(*table, *reads, plan, held)
        return numbers, makers, new


@compiled
def find_steps(slots, starts, keys, count, first, maps, output, plan, held):  # type: ignore[no-untyped-def]
    """See ``StepKeys.find``; keys that are new are added."""
    most = 0
    for k in range(len(plan)):
        most = max(most, first[plan[k, 0] + 1] - first[plan[k, 0]])
    numbers = np.zeros(len(plan), dtype=np.int64)
    makers, new, found = np.full((len(plan), most), -1), np.zeros(len(plan), dtype=np.int64), 0
    held, place = held.copy(), np.full(len(held), -1)
    for k in range(len(plan)):
        segment, begin = plan[k, 0], starts[count[0]]
        for column in range(OWN):
            keys[begin + column] = plan[k, column]
        end = begin + OWN
        for x in range(first[segment], first[segment + 1]):
            keys[end] = held[maps[x]]
            makers[k, end - begin - OWN] = place[maps[x]]
            end += 1
        made = output[segment]
        if made >= 0:
            if plan[k, 2] & OUTGOING:
                end = _add_readers(keys, end, first, maps, output, plan, k, made)
            held[made], place[made] = plan[k, 1], k
        numbers[k] = _number(slots, starts, keys, count[0], begin, end)
        if numbers[k] == count[0]:
            count[0] += 1
            starts[count[0]] = end
            new[found] = k
            found += 1
    return numbers, makers, new[:found]


@inner
def _add_readers(keys, end, first, maps, output, plan, k, made):  # type: ignore[no-untyped-def]
    """Segment and partition of all steps after ``k`` that read pixels of what it makes."""
    for j in range(k + 1, len(plan)):
        other = plan[j, 0]
        if output[other] < 0:
            continue
        for x in range(first[other], first[other + 1]):
            if maps[x] == made:
                keys[end], keys[end + 1] = other, plan[j, 1]
                end += 2
    return end


@inner
def _number(slots, starts, keys, count, begin, end):  # type: ignore[no-untyped-def]
    """Number of the key from ``begin`` to ``end``: ``count``, and kept, where it is new."""
    mixed = end - begin
    for at in range(begin, end):
        mixed = (mixed ^ keys[at]) * 1099511628211
        mixed ^= (mixed >> 29) & 0x7FFFFFFFF
    slot = mixed & (len(slots) - 1)
    while slots[slot] >= 0:
        known = slots[slot]
        if _equal(keys, starts[known], starts[known + 1], begin, end):
            return known
        slot = (slot + 1) & (len(slots) - 1)
    slots[slot] = count
    return count


@inner
def _equal(keys, begin, end, other, other_end):  # type: ignore[no-untyped-def]
    if end - begin != other_end - other:
        return False
    for k in range(end - begin):  # noqa: SIM110 (compiled)
        if keys[begin + k] != keys[other + k]:
            return False
    return True


@compiled
def add_steps(store, ends, steps, keys, segments, costs, partitions, ranks, rates):  # type: ignore[no-untyped-def]
    """Write the work of steps with tables into a ``store`` that has room for it.

    ``steps``: the first and the end. ``ends``: pieces, messages and parts in the store so far.
    ``costs``: ``seconds`` and ``sizes`` of the segments. ``partitions`` (·, n, 4); ``ranks``
    (·, n): who gets messages first. ``rates`` (n, n): bytes per second between devices.
    """
    first, reads, made, outer, output, needs = segments
    (starts, numbers), (seconds, sizes), n = keys, costs, partitions.shape[1]
    for step in range(*steps):
        begin = starts[step]
        segment, own, rims, ahead, _ = numbers[begin : begin + OWN]
        e0, l0, x0 = first[segment]
        e1, l1, x1 = first[segment + 1]
        owners = np.zeros((x1 - x0, n, 4), dtype=np.int64)
        for x in range(x1 - x0):
            owners[x] = partitions[numbers[begin + OWN + x]]
        readers = (starts[step + 1] - begin - OWN - (x1 - x0)) // 2
        wanted = np.zeros((readers, n, 4), dtype=np.int64)
        for r in range(readers):
            at = begin + OWN + (x1 - x0) + 2 * r
            wanted[r] = _read_of(
                segments, numbers[at], partitions[numbers[at + 1]], output[segment]
            )
        work = segment_work(
            reads[e0:e1], needs, seconds, made[l0:l1], outer[x0:x1], sizes,
            partitions[own], owners, rims, wanted, ranks[ahead],
        )  # fmt: skip
        _write(store, ends, step, work, rates)


@compiled
def _read_of(segments, segment, tiles, tensor):  # type: ignore[no-untyped-def]
    """What the devices read (n, 4) of a tensor in a segment for their tiles."""
    first, reads, made, outer, _, needs = segments
    e0, l0, x0 = first[segment]
    e1, l1, x1 = first[segment + 1]
    found = segment_reads(reads[e0:e1], needs, made[l0:l1], outer[x0:x1], tiles)
    at = 0
    while outer[x0 + at, 1] != tensor:
        at += 1
    return found[at]


@inner
def _write(store, ends, step, work, rates):  # type: ignore[no-untyped-def]
    """A step's work behind that of all before it."""
    bounds, piece_device, piece_s, piece_tile, messages, link_s, parts = store
    device, times, tiles, found, amounts, carried = work
    piece, message, part = ends
    bounds[step, 0], bounds[step, 1] = piece, piece + len(device)
    bounds[step, 2], bounds[step, 3], bounds[step, 4] = message, message + len(found), part
    for p in range(len(device)):
        piece_device[piece + p], piece_s[piece + p] = device[p], times[p]
        set_tile(piece_tile[piece + p], tiles[p])
    for m in range(len(found)):
        for column in range(5):
            messages[message + m, column] = found[m, column]
        link_s[message + m, 0] = amounts[0, m] / rates[found[m, 0], found[m, 1]]
        link_s[message + m, 1] = amounts[1, m]
    for k in range(len(carried)):
        for column in range(5):
            parts[part + k, column] = carried[k, column]
    ends[0] += len(device)
    ends[1] += len(found)
    ends[2] += len(carried)
