"""How maps are sent: in which bytes, and with which encoding where that pays (docs/cost.md).

A map whose density d is known may be sent as a *bitmask*: a bit per element, then the non-zeros;
or so that these have their first bytes in *Huffman* codes of b bits in the mean (float32 and
bfloat16). Per element of e bytes on a link of rate r that takes

    dense      e / r
    bitmask    encode_i + (d e + 1/8) / r + decode_j
    huffman    encode_i + d code_i + (d (e - 1 + b/8) + 1/8) / r + d uncode_j + decode_j

seconds, where the sender i encodes in its own time and the receiver j decodes in its own. Whichever
is shortest is planned, for every pair of devices; without a density it is dense.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import get_args

import numpy as np
import numpy.typing as npt

from nptp_opt.cluster import Cluster
from nptp_opt.cost.loads import Encoding, FloatArray, Links, Transfer
from nptp_opt.cost.transfer import (
    is_sent_exactly,
    rectangle_bytes,
    sent_bytes,
    wire_dtype,
    wire_element_bytes,
)
from nptp_opt.geometry import Tile
from nptp_opt.network.ir import Network

BITMASK_BYTES = 32
"""What a bitmask rectangle brings beside mask and values: a part of the message's head, padding."""

HUFFMAN_BYTES = BITMASK_BYTES + 16
"""Likewise with codes: more padding, and the table of the codes."""

_ENCODINGS: tuple[Encoding, ...] = get_args(Encoding)

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
    encodings: npt.NDArray[np.int64]
    """Places in the list of encodings; 0 is dense."""

    @cached_property
    def is_uniform(self) -> bool:
        """Is it the same between all devices?"""
        return bool((self.encodings == self.encodings[0, 0]).all())

    def transfer(self, src: int, dst: int, tensor: str, tile: Tile) -> Transfer:
        """A rectangle that ``src`` sends to ``dst``; its bytes are rounded up."""
        size = math.ceil(tile.area * self.pixel_bytes[src, dst])
        extra = int(self.rectangle_bytes[src, dst])
        encoding = _ENCODINGS[self.encodings[src, dst]]
        return Transfer(src, dst, tensor, tile, size + extra, encoding)


_Rates = tuple[tuple[float, ...], ...]
"""By device: into it, out of it, encoding, decoding, Huffman codes both ways; bytes per second."""


def wire(cluster: Cluster, network: Network, tensor: str) -> Wire:
    """How the map ``tensor`` is sent between every two devices."""
    n, c = network.shapes[tensor][:2]
    known = network.densities.get(tensor)
    exactly = is_sent_exactly(network, tensor, cluster.transfer_dtype)
    density = 1.0 if known is None or exactly else known.mean
    with_codes = wire_dtype(cluster, network, tensor) in ("float32", "bfloat16")
    bits = 8.0 if known is None or exactly or not with_codes else known.first_byte_bits
    element, extra = (
        wire_element_bytes(cluster, network, tensor),
        rectangle_bytes(cluster, network, tensor),
    )
    if (density, bits) == (1.0, 8.0):
        return _dense(n * c, element, extra, len(cluster.devices))
    return _wire(n * c, element, extra, (density, bits), _rates(cluster))


@lru_cache(maxsize=4096)
def _dense(elements: int, element: int, extra: int, n: int) -> Wire:
    """Where no encoding can pay: one number each, whatever the links, seen as arrays (n, n)."""
    pixel, rectangle, nothing, dense = (
        np.broadcast_to(value, (n, n)) for value in (1.0 * elements * element, 1.0 * extra, 0.0, 0)
    )
    return Wire(pixel, rectangle, nothing, nothing, dense)


def _rates(cluster: Cluster) -> _Rates:
    links = Links.of(cluster)
    return (
        tuple(links.down.tolist()),
        tuple(links.up.tolist()),
        tuple(device.encode_bytes_per_s for device in cluster.devices),
        tuple(device.decode_bytes_per_s for device in cluster.devices),
        tuple(device.huffman_encode_bytes_per_s for device in cluster.devices),
        tuple(device.huffman_decode_bytes_per_s for device in cluster.devices),
    )


@lru_cache(maxsize=4096)
def _wire(
    elements: int, element: int, extra: int, sparse: tuple[float, float], rates: _Rates
) -> Wire:
    """``sparse``: density, and bits of the first byte of a non-zero."""
    down, up, encode, decode, code, uncode = map(np.array, rates)
    (density, bits), rate = sparse, Links(down, up).rates
    masked = density * element + 1 / 8
    size = np.array([element, masked, masked - density * (1 - bits / 8)])
    there = np.array([0 * code, _CODED_BYTES / encode, _CODED_BYTES / encode + density / code])
    back = np.array([0 * code, _CODED_BYTES / decode, _CODED_BYTES / decode + density / uncode])
    seconds = there[:, :, None] + size[:, None, None] / rate + back[:, None, :]
    useless = size >= np.array([np.inf, element, min(element, masked)])
    seconds[useless] = np.inf
    best = np.argmin(seconds, axis=0)
    src, dst = np.indices(best.shape)
    return Wire(
        elements * size[best],
        extra + np.array([0.0, BITMASK_BYTES, HUFFMAN_BYTES])[best],
        elements * there[best, src],
        elements * back[best, dst],
        best,
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
