"""Lower prices of every run of a path, by the levels of the partitions before and after it."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from nptp_opt.bound.ends import End
from nptp_opt.bound.multipliers import Sides, TilePrice, sides_of
from nptp_opt.bound.states import States
from nptp_opt.bound.sums import Least, least_shifted, least_sums, reduced
from nptp_opt.bound.tiles import least_giving, least_of_pairs, least_own, most_needs
from nptp_opt.cost import FloatArray
from nptp_opt.geometry import IntArray

ONE_AFTER_THE_OTHER = np.array([[1.0, 1.0], [1.0, 0.5]])
OVERLAPPED = np.array([[0.0, 1.0], [0.5, 0.5]])
"""Weights of computing and sending whose sum is at most a step's makespan."""

FETCHED = np.array([1.0, 0.0])
"""Parts of the giver's need that are priced; of the other part it needs what it owns at least."""

SOME = 1e-6
"""Fewer pixels than this are none: sums of whole numbers are only rounded."""

WIDEST = 112
"""Longest side of the maps on which messages of more than one sender are looked for."""

Sided = tuple[TilePrice, Sides]
"""A price of tiles, and what cuts cost by it."""


class Runs:
    """Runs that end at one tensor. Arrays over (giver, largest) have a last entry for the giver
    that is the largest, too."""

    def __init__(self, states: States, end: End, starts: IntArray, *, joins: bool = False) -> None:
        self.end, self.starts, self.joins = end, starts, joins
        self.states, self.classes = states, states.classes
        self.chain, self.overlap, self.wait_s = states.chain, states.overlap, states.wait_s
        self.shared = states.cluster.shared
        at = end.at
        self.after = states.owned(at)
        before = [states.owned(start) for start in starts]
        self.least, self.most, self.can = (
            np.array([getattr(own, name) for own in before]) for name in ("least", "most", "can")
        )
        bytes_ = np.array(self.chain.pixel_bytes, dtype=float)[starts, None]
        self.down = bytes_ * self.classes.seconds_per_byte()
        self.up = bytes_ * self.classes.seconds_per_byte(up=True)
        self.areas = np.array(self.chain.areas)[starts]
        self.unread = self.areas - self.end.read[starts]
        nothing = np.zeros((len(self.classes.members), 1))
        self.pixel = np.hstack([nothing, self.classes.pixel_s[:, :at]])
        called = self.classes.fixed_s[:, :at] * end.needed[1:]
        fixed = np.cumsum(called[:, ::-1], axis=1)[:, ::-1].T
        self.fixed = np.ascontiguousarray(fixed[starts])
        self._known: dict[tuple[int, ...], Runs] = {}

    def some(self, which: IntArray) -> Runs:
        """The runs that begin at ``starts[which]``, with what single devices take known."""
        key = tuple(which.tolist())
        if key not in self._known:
            found = Runs(self.states, self.end, self.starts[which])
            found._own = self._own[0][:, which], self._own[1][:, which]
            found._kept = np.ascontiguousarray(self._kept[:, which])
            self._known[key] = found
        return self._known[key]

    def rough(self) -> FloatArray:
        """Seconds [start, before, after] that one device takes at least."""
        found, sent = self._nothing, self._sent
        none = np.zeros((*self.least.shape, self.least.shape[2] + 1))
        for j in np.flatnonzero(self.after.can.any(axis=1)):
            own = self._own[0][j], self._own[1][j]
            gives = self._kept[:, :, :, j], sent, self._no_sends
            found[:, :, j] = least_of_pairs(none, none, *own, *gives, self.can)
        return found

    @property
    def _nothing(self) -> FloatArray:
        return np.full((len(self.starts), self.most.shape[1], len(self.after.most)), np.inf)

    @property
    def _no_sends(self) -> FloatArray:
        return np.zeros((2, *self.least.shape))

    def prices(self) -> FloatArray:
        """Seconds [start, before, after] with the sums over all devices."""
        parts = itertools.pairwise(self.states.first)
        return np.concatenate([self.interval(low, high) for low, high in parts], axis=2)

    def interval(self, low: int, high: int) -> FloatArray:
        """Seconds [start, before, part] for the parts ``low`` to ``high`` of one interval after."""
        found = self._nothing[:, :, low:high]
        inside = [j for j in range(low, high) if self.after.can[j].any()]
        areas = self.after.within(low, high)
        owners = fewest_owners(areas[2], self.classes.counts, self._area)
        if not inside or owners > self.classes.counts.sum():
            return found
        base, comm = self.sums(areas, owners)
        base, comm = self._at_least_joining(base, comm, areas, owners)
        sends = self._no_sends if self.shared else self._sends(areas, owners)
        for j in inside:
            seconds, total = self._own[0][j], self._own[1][j]
            gives = self._kept[:, :, :, j], self._sent, sends
            found[:, :, j - low] = least_of_pairs(base, comm, seconds, total, *gives, self.can)
        return found

    def sums(self, areas: IntArray, owners: int) -> tuple[FloatArray, FloatArray]:
        """Seconds of a run and of its exchange."""
        priced = self._with_medium if self.shared else self._with_links
        return priced(areas, owners)

    @property
    def _area(self) -> int:
        return self.end.size[0] * self.end.size[1]

    # -- the largest on its own ----------------------------------------------------------------

    @cached_property
    def _own(self) -> tuple[FloatArray, FloatArray]:
        """Least seconds of the largest: of computing [after, start, class]; with fetching what it
        cannot own [after, start, before, class]."""
        seconds, total = least_own(
            self.end.rising,
            self.after.least,
            self.starts,
            (self.pixel, self.fixed),
            self._beside,
            (self.most, self._others_most),
            self.down,
            self.wait_s,
            self.overlap,
        )
        after, cls = np.nonzero(~self.after.can)
        seconds[after, :, cls], total[after, :, :, cls] = np.inf, np.inf
        return seconds, total

    @cached_property
    def _beside(self) -> tuple[IntArray, FloatArray, FloatArray, FloatArray, FloatArray]:
        """Layers beside the path as ``least_own`` takes them."""
        extras, classes = self.end.extras, self.classes
        pixel_s = np.array([x.flop_per_pixel / classes.flop_per_s(x) for x in extras.layers])
        most_s = np.array([self.states.balanced_s(layer) for layer in extras.layers])
        pixel_s = pixel_s.reshape(len(most_s), len(classes.members))
        return extras.at, extras.rows, extras.columns, pixel_s, most_s

    @cached_property
    def _others_most(self) -> IntArray:
        """Most pixels [start, before, class] that any other device owns."""
        found = np.zeros_like(self.most)
        for one, count in enumerate(self.classes.counts):
            rest = [c for c in range(len(self.classes.counts)) if c != one or count > 1]
            found[:, :, one] = self.most[:, :, rest].max(axis=2, initial=0)
        return found

    # -- one medium ----------------------------------------------------------------------------

    @cached_property
    def _moving(self) -> Sided:
        """Seconds of the medium, with nothing computed."""
        return self._sided(self._price(0.0, self.down, FETCHED))

    @cached_property
    def _mixed(self) -> Sided:
        """Seconds of the medium, and of computing weighted by share."""
        return self._sided(self._price(self.classes.share, self.down, FETCHED))

    @cached_property
    def _largest(self) -> TilePrice:
        """Of the largest: seconds of the medium with its computing, and without."""
        both = np.concatenate([[1.0], FETCHED])
        joint, still = self._price(1.0, self.down, both), self._price(0.0, self.down, both)
        return replace(
            joint,
            by_work=np.concatenate([joint.by_work, still.by_work]),
            by_need=np.concatenate([joint.by_need, still.by_need]),
        )

    def _with_medium(self, areas: IntArray, owners: int) -> tuple[FloatArray, FloatArray]:
        """On a shared network, seconds of a run and of its exchange [start, before, giver,
        largest]."""
        least = self._reduced(areas, self._moving, self._largest)
        families = len(FETCHED) + 1
        spared = (1 - FETCHED)[:, None, None, None] * self.least - self.areas[:, None, None]
        spared = spared * self.down[:, None] - self._operands_s[:, None, None]
        moved = np.maximum(0.0, self._pairs(least, least.largest[families:], owners, spared))
        some = moved > SOME * self.down.max(axis=1)[:, None, None, None]
        wait = self.wait_s * np.maximum(some, 2 * self._two_messages(areas)[:, :, None, None])
        if self.overlap:
            return moved + wait, np.zeros_like(moved)
        joint_s = self._pairs(least, least.largest[:families], owners, spared)
        mean_s = self._mean(areas, owners, self._mixed, spared)
        return np.maximum(joint_s, mean_s) + wait, moved + wait

    def _two_messages(self, areas: IntArray) -> npt.NDArray[np.bool_]:
        """``[start, before]``: does some device get two messages at least?

        It does if no two devices own as much as any two neighbouring tiles read together. For say
        that nobody gets two, so that no tile reads of more than two owners. Of all tiles the two
        smallest have what the others cannot, and if some device has none, the smallest has. Then
        the parts of two owners are too small for what it reads. If all have tiles:

        * Where three tiles meet, all read a pixel, so its owner alone sends to the others. No two
          neighbours send to each other, or they would own all that they read together. So the owner
          is the same along all cuts that meet, and has what the tiles on either side both read. The
          hull of such cuts is a band between two lines across the map, or borders, that holds two
          tiles or more; their owner has all that the band reads, which is too much.
        * If no three tiles meet, they are strips. Two neighbours read of three owners: one of both,
          who has all that both read, and one of either. So every cut has an owner of its own (else
          one had all that the strip between reads), and both outer strips read of the one that is
          left: its part would reach across those of all others.
        """
        caps = np.sort(np.repeat(areas[2], self.classes.counts))
        two = self._area - int(caps[2:].sum())
        if len(caps) < 3 or two < 2 or max(self.end.size) > WIDEST:
            return np.zeros(self.least.shape[:2], dtype=np.bool_)
        owned = np.sort(np.repeat(self.most, self.classes.counts, axis=2), axis=2)
        pair = self.end.least_pairs(two)[self.starts]
        found = owned[:, :, -2:].sum(axis=2) < pair[:, None]
        return np.asarray(found & self.end.joined[self.starts][:, None])

    # -- a link per device ---------------------------------------------------------------------

    @cached_property
    def _weighted(self) -> Sided:
        """Seconds weighted by share. In a first run the source sends what all others need, and
        needs nothing itself."""
        share, source = self.classes.share, self.classes.source
        price = self._price(share, self.down * share, FETCHED)
        if not self.starts[0]:
            price.by_need[0, 0] += self.up[0, source] * share[source]
            price.by_need[1:, 0] = 0.0
        return self._sided(price)

    @cached_property
    def _sending(self) -> Sided:
        """Pixels that others need; of the giver what it computes, in pixels that it could send."""
        rate = np.divide(1.0, self.up, out=np.zeros_like(self.up), where=self.up > 0)
        work = np.stack([0.0 * rate, 0.0 * rate if self.overlap else rate])
        need = np.stack([np.ones_like(rate), np.zeros_like(rate)])
        joined = np.zeros_like(self._joined)
        return self._sided(TilePrice(self.starts, self.pixel, self.fixed, work, need, joined))

    def _with_links(self, areas: IntArray, owners: int) -> tuple[FloatArray, FloatArray]:
        """On a switched network, seconds of a run [start, before, giver, largest], and no exchange
        apart.

        The mean is weighted by share. The giver fetches what it lacks, or sends what it cannot
        need.
        """
        classes = len(self.classes.members)
        nothing = np.zeros((*self.least.shape, classes + 1))
        if self.overlap:
            return nothing, nothing
        spared = self._spared.copy()
        spared[-1] += self._unneeded(areas[2]) * self.up[:, None] * self.classes.share
        spared -= self._operands_s[:, None, None]
        mean = self._mean(areas, owners, self._weighted, spared)
        return mean + self._waits_s(owners)[:, None, None, None], nothing

    @cached_property
    def _spared(self) -> FloatArray:
        """Weighted seconds [family, start, before, giver] that need not be fetched, at most,
        negative; none of the input."""
        found = np.zeros((len(FETCHED), *self.least.shape))
        for s in np.flatnonzero(self.starts > 0):
            weight = self.down[s] * self.classes.share
            others, marginal = self._others(s, weight)
            for f, part in enumerate(FETCHED):
                own = np.where(part * weight <= marginal, self.least[s], self.most[s])
                found[f, s] = -others - part * weight * own
        return found

    def _others(self, s: int | np.intp, weight: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The most [before, giver] that what all others own is worth, and the least that a pixel
        of it is worth."""
        least, most, counts = self.least[s], self.most[s], self.classes.counts
        value, marginal = np.zeros(least.shape), np.zeros(least.shape)
        for one in range(len(counts)):
            left = np.maximum(0.0, self.areas[s] - least[:, one]).astype(float)
            for c in np.argsort(-weight):
                room = most[:, c] * float(counts[c] - (c == one))
                part = np.minimum(left, room)
                value[:, one] += part * weight[c]
                marginal[:, one] = np.where(part > 0, weight[c], marginal[:, one])
                left -= part
        return value, marginal

    def _unneeded(self, cap: IntArray) -> FloatArray:
        """Pixels [start, before, giver] of the giver's that others read and no tile of its own
        needs; none of the input, of which nothing is spared."""
        found = np.zeros(self.least.shape)
        for s in np.flatnonzero(self.starts > 0):
            most = most_needs(*self.end.most[self.starts[s]], cap[None])[0]
            found[s] = np.maximum(0.0, self.least[s] - most - self.unread[s])
        return found

    def _waits_s(self, owners: int) -> FloatArray:
        """Weighted seconds [start] of waiting: one message less than owners where neighbours read
        something in common."""
        joined = self.end.joined[self.starts]
        return np.asarray((owners - 1) * self.wait_s * self.classes.share.min() * joined)

    def _sends(self, areas: IntArray, owners: int) -> FloatArray:
        """Seconds [2, start, before, giver] in which the giver sends and computes, if every other
        tile needs more than its owner and all others but the giver have."""
        least = self._reduced(areas, self._sending)
        giver = np.stack([least.tiles[1], least.largest[1]])
        shift = self.least - self.areas[:, None, None].astype(float)
        counts = self.classes.counts
        rest = counts, owners, least.must, shift
        pixels = least_shifted(least.fixed, least.ordinary, giver, *rest)
        up = self.up[:, None]
        return np.asarray(np.where(up > 0, pixels, 0.0) * up)

    @property
    def _weights(self) -> FloatArray:
        return OVERLAPPED if self.overlap else ONE_AFTER_THE_OTHER

    @cached_property
    def _kept(self) -> FloatArray:
        """Seconds [2, start, weight, after, giver] of computing, less those of sending what it
        keeps; the second as the largest. None on a shared network."""
        if self.shared:
            return np.zeros((2, len(self.starts), 0, len(self.after.most), self.least.shape[2]))
        tables = self.end.concave_rows, self.end.columns
        prices = self.pixel, self.fixed, self.up
        rates = self.starts, prices, self._weights
        return np.asarray(least_giving(tables, self.end.kept, self.after.areas, *rates))

    @property
    def _sent(self) -> FloatArray:
        """Weighted seconds [weight, start, before, giver] of sending all that others may read."""
        if self.shared:
            return np.zeros((0, *self.least.shape))
        sent = (self.least - self.unread[:, None, None]) * self.up[:, None]
        return np.asarray(self._weights[:, 1, None, None, None] * sent)

    # -- operands of joins ---------------------------------------------------------------------

    @cached_property
    def _joined(self) -> FloatArray:
        """Bytes [operand, start] of a pixel of what joins read that steps before a run made."""
        found = self.end.skips.bytes(np.array(self.chain.pixel_bytes, dtype=float), self.starts)
        return found * self.joins

    @cached_property
    def _joining(self) -> tuple[IntArray, Runs]:
        """Those of the runs that fetch operands, with these counted."""
        plain = np.array(self.chain.pixel_bytes, dtype=float)
        which = np.flatnonzero(self.end.skips.bytes(plain, self.starts).any(axis=0))
        return which, Runs(self.states, self.end, self.starts[which], joins=True)

    def _at_least_joining(
        self, base: FloatArray, comm: FloatArray, areas: IntArray, owners: int
    ) -> tuple[FloatArray, FloatArray]:
        """Prices with operands where these make them dearer: multipliers of a sum of two exchanges
        may prove less than those of one of them."""
        which, runs = self._joining
        if len(which):
            more = runs.sums(areas, owners)
            base[which] = np.maximum(base[which], more[0])
            comm[which] = np.maximum(comm[which], more[1])
        return base, comm

    @property
    def _byte_s(self) -> float:
        """Seconds of the medium, or of any link weighted by share at least, of a byte."""
        each = self.classes.seconds_per_byte()
        return float((each if self.shared else each * self.classes.share).min())

    @property
    def _operands_s(self) -> FloatArray:
        """Seconds [start] of fetching all of the operands: what their owners spare at most."""
        return np.asarray(self.end.skips.pixels @ self._joined * self._byte_s)

    # -- sums over all devices -----------------------------------------------------------------

    def _price(
        self, by_work: float | FloatArray, by_need: FloatArray, parts: FloatArray
    ) -> TilePrice:
        need = parts[:, None, None] * by_need
        work = np.zeros_like(need) + by_work
        joined = self._joined * self._byte_s
        return TilePrice(self.starts, self.pixel, self.fixed, work, need, joined)

    def _sided(self, price: TilePrice) -> Sided:
        return price, sides_of(self.end, self.classes.counts, price)

    def _reduced(self, areas: IntArray, price: Sided, largest: TilePrice | None = None) -> Least:
        return reduced(self.end, areas, self.classes.counts, *price, largest)

    def _mean(self, areas: IntArray, owners: int, price: Sided, spared: FloatArray) -> FloatArray:
        """The mean [start, before, giver, largest] of the devices' seconds weighted by share."""
        least = self._reduced(areas, price)
        giver, largest = least.tiles.copy(), np.concatenate([least.largest[:1], least.largest])
        if not (self.shared or self.starts[0]):  # of the input the source fetches nothing
            giver[0, 0], largest[1, 0] = giver[1, 0], largest[2, 0]
        least = replace(least, tiles=giver)
        beside = self.states.weighted_s[: self.end.at + 1]
        more = np.cumsum(beside[:0:-1])[::-1][self.starts]
        return self._pairs(least, largest, owners, spared) + more[:, None, None, None]

    def _pairs(
        self, least: Least, largest: FloatArray, owners: int, spared: FloatArray
    ) -> FloatArray:
        """Seconds [start, before, giver, largest], with ``spared`` ones [family, start, before,
        giver]."""
        counts = self.classes.counts
        rest = largest, counts, owners, least.must
        sums = least_sums(least.fixed, least.ordinary, least.tiles, *rest)
        return np.asarray((sums[:, :, None] + spared[..., None]).max(axis=0))


def fewest_owners(cap: IntArray, counts: IntArray, area: int) -> int:
    """Fewest devices that can own a map of ``area`` pixels within ``cap`` each."""
    sizes = np.sort(np.repeat(cap, counts))[::-1]
    return int(np.searchsorted(np.cumsum(sizes), area)) + 1
