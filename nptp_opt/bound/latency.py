"""A lower bound on the latency of every plan of a network on a cluster.

Sets. A plan is a list of steps. ``latency_s`` is the sum of their makespans. Take one path through
the DAG, tensors 0 (an input), 1, ..., m (``bound.chain``). Those that are outputs of steps cut it
into runs (a, b]: all path tensors between a and b are hidden in the segment that makes b, because
what reads a hidden tensor is in its segment. So one step computes the run, reads tensor a and
partitions tensor b. Different runs are different steps; so are the tail (collecting, reducing) and
what is apart from the path. The bound adds lower prices of all these.

States. The level of a partition is t = max over devices i of |P_i| / (s_i |map|), with fixed shares
s_i > 0 that sum to 1. So t >= 1; device i owns at most t s_i |map|, hence at least what all others
leave of the map if they own that, and some device owns exactly t s_i |map|. Levels are divided into
intervals. A state is (tensor, interval), an edge a run with the
intervals before and after it, priced by whichever ends of the intervals favour it. Every plan is a
way through this graph that costs no more than the plan, so the shortest way is a bound.

Prices of a run, for tiles Q_i of tensor b that need the rectangles N_i of tensor a, and parts P_i
of tensor a that the devices own:

* Regions: a range's region is at least the hull of the regions of its two ends. The tables hold
  the least over all positions with given border contacts; tiles that leave lines unread are exact.
  An axis' two borders are told apart: a stride makes the tile at one read a line more.
* Compute: the device that attains the level computes a tile of at least t s_i |map| pixels with
  all recomputed rims: the least over contacts, shapes, and the devices that may attain it.
* Two devices apart: the giver attains the level before the run, the largest that after it. They
  may be one. A bound is computed for every pair of their classes; the least counts.
* Bytes: device i fetches |N_i - P_i| >= max(0, |N_i| - |P_i|). The P_i are disjoint, so together
  they fetch at least sum over the others |N_i| + max(|N_a|, |P_a|) - |map| for the giver a, and the
  maximum is at least any mean of both. The largest fetches its need less what the level before
  lets it own. In a first run the giver is the source, which has all.
* Joins: an operand q of layer p, both on the path, with q before the run and p in it, is an output
  of some step, for whatever hid it would hold p as well. Its parts are disjoint, whoever owns them:
  all devices together fetch at least sum of what their tiles need of q, less its map. It is added
  to the run's exchange where that proves more.
* sum |N_i|: the Lagrangian of the configuration LP (docs/bounds.md) over all partitions within
  the level: areas sum to |map|, widths along top and bottom to W each, heights along left and
  right to H each, four corners; at least as many tiles as fill the map within the level. Any
  multipliers prove a bound. For borders and corners those of a unit square whose sides have linear
  prices are proposed, in several scales, and those that take every side for an inner one; they are
  shared between the two borders of an axis by what a tile at each saves. For the area what the
  cheapest pixel of any tile costs. For a fixed width a price is concave in the height (row tables
  that are not concave are lowered), so the ends of the height's range suffice.
* Whole tiles: instead of a multiplier the area may have a concave price G, G(0) = 0, of two lines.
  Tiles of areas a_i within their caps that sum to |map| cost at least sum G(a_i) + the least of
  (price - multipliers - G) over tiles, each. The areas that fill the map in the order of the caps
  majorise all others, so sum G(a_i) is least there. (Three and a half tiles of an LP cost less.)
* A maximum is at least any weighted mean: max_i (comm_i + compute_i) >= sum_i s_i (comm_i +
  compute_i). The same Lagrangian prices the weighted sum, all devices' rims included; on a
  switched network own parts of others than the giver save at most what the best distribution
  within the level saves, and the giver fetches what it lacks or sends what no tile of its own
  within the level needs (less what nobody reads). In a first run the source computes and sends.
  Layers beside the path are added at their balance, weighted alike. On a shared network the
  exchange of all is summed with the largest's computing, too: one Lagrangian for both.
* Sending (switched): let the giver a compute tile Q (or none, if others can fill the map). Every
  pixel of P_a that some output outside Q reads is sent at least once, for outputs outside Q belong
  to others. Read by outputs of Q alone are kept(Q) pixels: its own rows times its own columns,
  which is less than Q's need by a rim on either side. So a sends at least |P_a| - unread - kept(Q),
  and computes Q: the least over all tiles Q within the level after, of the sum and of the sum with
  half of the sending. (Upper bounds of kept rows are made convex by raising, so that the price is
  concave in the height again.) Others' needs and P_a lie in one map: a also sends at least sum of
  max(0, |N_i| + |P_a| - |map|), priced with the Lagrangian, and computes.
* Waits: a run that moves anything has at least one message; a device gets at least as many as the
  largest owners' parts are needed for what it fetches. On a switched network: if any two
  neighbouring outputs read a pixel in common, then so do any two neighbouring tiles; its owner
  sends to one of the two tiles' devices, or to both. So messages connect all owners of tiles: they
  are one less than those at least, and their weighted sum counts in the mean. On a shared network,
  where the most messages of any device count, somebody gets two if no two devices own as much as
  any two neighbouring tiles read together (``Runs._two_messages``).
* Reductions: a device that uses a reduced map's result gets a partial and a message from every
  owner but itself, and finishes.
* Overlap: a step that overlaps takes at least max(comm, compute). Interior and rim are computed
  apart, in at most three pieces along an axis: unread lines between these do not count.

* Levels that no partition has: on small maps a search shows that no rectangles within a level's
  caps cover the map (``bound.fits``): three strips of 14 rows are not even.

Which runs there are: all readers of a hidden tensor are in its segment, whose last output alone
leaves it, so every way from a hidden tensor to the results leads through the segment's last tensor.

Layers beside the path that a run's segment hides are computed for what their reader needs; in steps
of their own they take at least perfect balance: the smaller of the two counts. (Their balance is
that of the weighted mean, which adds up over layers that different devices are fast at.) Perfect
balance of everything is a bound, too; the larger one is taken.

What is missing: the level does not say how many devices own how much, nor along which axis they are
cut (the branches of Inception alternate); sums over all devices are priced for some 30 intervals of
levels; more messages than connect the owners or than two; partitions that satisfy the sums but
cannot be laid out; operands of a join that are off the path; what layers beside the path exchange.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from nptp_opt.bound.path import PathBound
from nptp_opt.cluster import Cluster
from nptp_opt.cost import gather_compute_s
from nptp_opt.geometry import AxisMap
from nptp_opt.network.ir import Layer, Network, external_inputs

Mask = npt.NDArray[np.bool_]


SAFETY = 1e-9
"""Relative margin for the rounding of sums."""


@dataclass(frozen=True, eq=False)
class _Case:
    """One network object on a cluster. Planners of one batch ask for the same bound in turn."""

    network: Network
    cluster: Cluster
    overlap: bool

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, _Case)
            and other.network is self.network
            and (other.cluster, other.overlap) == (self.cluster, self.overlap)
        )

    def __hash__(self) -> int:
        return hash((id(self.network), self.cluster.name, self.overlap))


def latency_bound(network: Network, cluster: Cluster, *, overlap: bool = False) -> float:
    """Seconds below which no plan's latency comes; ``overlap`` where steps may overlap."""
    return _latency_bound(_Case(network, cluster, overlap))


@lru_cache(maxsize=4)
def _latency_bound(case: _Case) -> float:
    network, cluster = case.network, case.cluster
    if not network.spatial:  # reductions and whole nodes alone: no path
        return compute_bound(network, cluster)
    path = PathBound(network, cluster, read_pixels(network), overlap=case.overlap)
    return max(compute_bound(network, cluster), path.latency_s() * (1 - SAFETY))


def compute_bound(network: Network, cluster: Cluster) -> float:
    """Latency with perfect balance and free exchange; holds for every plan.

    In any step the makespan is at least max_i flop_i / speed_i >= sum flop_i / sum speed_i, and the
    steps together compute every pixel that something reads. The head runs on the sink alone.
    """
    speed = sum(device.peak_flop_per_s for device in cluster.devices)
    found = {layer.name: layer for layer in network.shared_out}
    pixels = read_pixels(network)
    flop = sum(
        layer.flop_per_pixel * pixels[name] if layer.kind == "spatial" else layer.flop
        for name, layer in found.items()
    )
    return flop / speed + gather_compute_s(cluster, cluster.sink, network.head)


def read_pixels(network: Network) -> dict[str, int]:
    """For every spatial layer a number of output pixels that every plan computes.

    Rows and columns that no window reads (behind a pool on an odd map, or between the pixels of a
    1x1 convolution with stride 2) need not be computed inside a segment. Of several readers the
    one that reads most counts.
    """
    whole = set(network.outputs)
    whole |= set(external_inputs(network.head)) if network.head else set()
    whole |= {layer.nodes[0].inputs[0] for layer in network.shared_out if layer.reduces}
    masks: dict[str, tuple[Mask, Mask]] = {}
    for layer in reversed(network.spatial):
        full = (np.ones(layer.height, dtype=bool), np.ones(layer.width, dtype=bool))
        seen = [] if layer.name not in whole else [full]
        for name in network.consumers[layer.name]:
            if name in masks:
                seen.append(_read_by(network.by_name[name], layer, masks[name]))
        masks[layer.name] = max(seen, key=_area, default=(full[0] & False, full[1] & False))
    return {name: _area(pair) for name, pair in masks.items()}


def _area(pair: tuple[Mask, Mask]) -> int:
    return int(pair[0].sum()) * int(pair[1].sum())


def _read_by(reader: Layer, layer: Layer, wanted: tuple[Mask, Mask]) -> tuple[Mask, Mask]:
    """Rows and columns of ``layer`` that single wanted pixels of ``reader`` read at least."""
    map_y, map_x = reader.maps[layer.name]
    return _axis(map_y, wanted[0], layer.height), _axis(map_x, wanted[1], layer.width)


def _axis(axis: AxisMap, wanted: Mask, length: int) -> Mask:
    read = np.zeros(length, dtype=bool)
    for position in np.flatnonzero(wanted):
        lo, hi = axis.need(int(position), int(position) + 1)
        read[lo:hi] = True
    return read
