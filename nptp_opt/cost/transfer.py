"""Bytes of a rectangle on its way: the transfer type's, which need not be the map's own.

A quantised map travels as the whole numbers that it is made of, and one of a model that computes in
a shorter type in that type, without loss, unless the transfer type has fewer bytes.
"""

from __future__ import annotations

from typing import Literal

from nptp_opt.cluster import Cluster, TransferDtype
from nptp_opt.geometry import Tile
from nptp_opt.network.ir import Network

_ELEMENT_BYTES: dict[TransferDtype, int] = {"float16": 2, "bfloat16": 2, "int8": 1}
"""float32 stands for the elements as they are."""

WireDtype = TransferDtype | Literal["uint8"]

SCALE_BYTES = 4
"""The float32 scale that an int8 rectangle brings with it."""


def sent_element_bytes(cluster: Cluster, bytes_per_element: int) -> int:
    """Bytes in which an element of a map of ``bytes_per_element`` is sent."""
    return _ELEMENT_BYTES.get(cluster.transfer_dtype, bytes_per_element)


def wire_dtype(cluster: Cluster, network: Network, tensor: str) -> WireDtype:
    """What elements of ``tensor`` are sent as: an input of uint8 as itself, whatever maps are."""
    return network.input_dtypes.get(tensor, cluster.transfer_dtype)


def wire_element_bytes(cluster: Cluster, network: Network, tensor: str) -> int:
    """Bytes in which an element of ``tensor`` is sent."""
    if wire_dtype(cluster, network, tensor) == "uint8":
        return 1
    if is_sent_exactly(network, tensor, cluster.transfer_dtype):
        return network.exact[tensor].bytes
    return sent_element_bytes(cluster, network.bytes_per_element)


def sent_pixel_bytes(cluster: Cluster, network: Network, tensor: str) -> int:
    """Bytes in which one pixel of a feature map is sent, dense: batch x channels x element."""
    n, c = network.shapes[tensor][:2]
    return n * c * wire_element_bytes(cluster, network, tensor)


def is_sent_exactly(network: Network, tensor: str, dtype: TransferDtype) -> bool:
    """Does a map travel without loss in fewer bytes than its own, and in no more than ``dtype``?"""
    known = network.exact.get(tensor)
    return known is not None and known.bytes <= _ELEMENT_BYTES.get(dtype, known.bytes)


def rectangle_bytes(cluster: Cluster, network: Network, tensor: str) -> int:
    """Bytes that every rectangle of ``tensor`` costs beside its pixels, dense."""
    exactly = is_sent_exactly(network, tensor, cluster.transfer_dtype)
    scaled = wire_dtype(cluster, network, tensor) == "int8" and not exactly
    return SCALE_BYTES if scaled else 0


def sent_bytes(cluster: Cluster, network: Network, tensor: str, tile: Tile) -> int:
    """Bytes in which ``tile`` of a feature map is sent, dense; 0 for an empty one."""
    if tile.is_empty:
        return 0
    pixel = sent_pixel_bytes(cluster, network, tensor)
    return tile.area * pixel + rectangle_bytes(cluster, network, tensor)
