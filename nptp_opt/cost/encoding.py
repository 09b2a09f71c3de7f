"""How maps are sent: in which bytes, and with which encoding where that pays (docs/cost.md).

A map whose density d is known may be sent as a *bitmask*: a bit per element, then the non-zeros.
Per element of e bytes on a link of rate r that takes

    dense      e / r
    bitmask    encode_i + (d e + 1/8) / r + decode_j

seconds, where the sender i encodes in its own time and the receiver j decodes in its own. Whichever
is shorter is planned, for every pair of devices; without a density it is dense.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from nptp_opt.cluster import Cluster
from nptp_opt.cost.loads import Encoding, FloatArray, Links, Transfer
from nptp_opt.cost.transfer import (
    is_sent_exactly,
    rectangle_bytes,
    sent_bytes,
    wire_element_bytes,
)
from nptp_opt.geometry import Tile
from nptp_opt.network.ir import Network

BITMASK_BYTES = 32
"""What a bitmask rectangle brings beside mask and values: a part of the message's head, padding."""

_CODED_BYTES = 4.0
"""Rates of encoding and decoding are of float32 elements; shorter ones take as long each."""


@dataclass(frozen=True)
class Wire:
    """A map on its way from every device to every other, arrays (n, n) of [sender, receiver].

    Bytes of a pixel, expected, and of a rectangle beside its pixels; seconds of a pixel that the
    sender encodes, and of one that the receiver decodes.
    """

    pixel_bytes: FloatArray
    rectangle_bytes: FloatArray
    encode_s: FloatArray
    decode_s: FloatArray
    bitmask: npt.NDArray[np.bool_]

    @property
    def is_uniform(self) -> bool:
        """Is it the same between all devices?"""
        return bool(self.bitmask.all() or not self.bitmask.any())

    def transfer(self, src: int, dst: int, tensor: str, tile: Tile) -> Transfer:
        """A rectangle that ``src`` sends to ``dst``; its bytes are rounded up."""
        size = math.ceil(tile.area * self.pixel_bytes[src, dst])
        extra = int(self.rectangle_bytes[src, dst])
        encoding: Encoding = "bitmask" if self.bitmask[src, dst] else "dense"
        return Transfer(src, dst, tensor, tile, size + extra, encoding)


_Rates = tuple[tuple[float, ...], ...]
"""By device: into it, out of it, encoding, decoding; bytes per second."""


def wire(cluster: Cluster, network: Network, tensor: str) -> Wire:
    """How the map ``tensor`` is sent between every two devices."""
    n, c = network.shapes[tensor][:2]
    known = network.densities.get(tensor)
    exactly = is_sent_exactly(network, tensor, cluster.transfer_dtype)
    density = 1.0 if known is None or exactly else known.mean
    element, extra = (
        wire_element_bytes(cluster, network, tensor),
        rectangle_bytes(cluster, network, tensor),
    )
    return _wire(n * c, element, extra, density, _rates(cluster))


def _rates(cluster: Cluster) -> _Rates:
    links = Links.of(cluster)
    return (
        tuple(links.down.tolist()),
        tuple(links.up.tolist()),
        tuple(device.encode_bytes_per_s for device in cluster.devices),
        tuple(device.decode_bytes_per_s for device in cluster.devices),
    )


@lru_cache(maxsize=4096)
def _wire(elements: int, element: int, extra: int, density: float, rates: _Rates) -> Wire:
    down, up, encode, decode = map(np.array, rates)
    rate = Links(down, up).rates
    coded = density * element + 1 / 8
    encode_s = np.broadcast_to(_CODED_BYTES / encode[:, None], rate.shape)
    decode_s = np.broadcast_to(_CODED_BYTES / decode[None], rate.shape)
    pays = (coded < element) & (encode_s + coded / rate + decode_s < element / rate)
    return Wire(
        elements * np.where(pays, coded, float(element)),
        np.where(pays, float(extra + BITMASK_BYTES), float(extra)),
        np.where(pays, elements * encode_s, 0.0),
        np.where(pays, elements * decode_s, 0.0),
        pays,
    )


def encode_s(cluster: Cluster, network: Network, move: Transfer) -> float:
    """Seconds that the sender of a transfer takes to encode it."""
    if move.encoding == "dense":
        return 0.0
    return move.tile.area * float(wire(cluster, network, move.tensor).encode_s[move.src, move.dst])


def decode_s(
    cluster: Cluster, network: Network, transfers: Iterable[Transfer], device: int
) -> float:
    """Seconds that ``device`` takes to decode what it receives of ``transfers``."""
    return sum(
        move.tile.area * float(wire(cluster, network, move.tensor).decode_s[move.src, move.dst])
        for move in transfers
        if move.dst == device and move.encoding != "dense"
    )


def dense_bytes(cluster: Cluster, network: Network, move: Transfer) -> int:
    """Bytes of a transfer if nothing were encoded; partials of reductions never are."""
    if move.encoding == "dense":
        return move.bytes
    return sent_bytes(cluster, network, move.tensor, move.tile)
