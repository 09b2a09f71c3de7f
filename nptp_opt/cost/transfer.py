"""Bytes of a rectangle on its way: the transfer type's, which need not be the map's own."""

from __future__ import annotations

from nptp_opt.cluster import Cluster, TransferDtype
from nptp_opt.geometry import Tile
from nptp_opt.network.ir import Network

_ELEMENT_BYTES: dict[TransferDtype, int] = {"float16": 2, "bfloat16": 2, "int8": 1}
"""float32 stands for the elements as they are."""

SCALE_BYTES = 4
"""The float32 scale that an int8 rectangle brings with it."""


def sent_element_bytes(cluster: Cluster, bytes_per_element: int) -> int:
    """Bytes in which an element of a map of ``bytes_per_element`` is sent."""
    return _ELEMENT_BYTES.get(cluster.transfer_dtype, bytes_per_element)


def sent_pixel_bytes(cluster: Cluster, network: Network, tensor: str) -> int:
    """Bytes in which one pixel of a feature map is sent: batch x channels x element."""
    n, c = network.shapes[tensor][:2]
    return n * c * sent_element_bytes(cluster, network.bytes_per_element)


def rectangle_bytes(cluster: Cluster) -> int:
    """Bytes that every rectangle costs beside its pixels."""
    return SCALE_BYTES if cluster.transfer_dtype == "int8" else 0


def sent_bytes(cluster: Cluster, network: Network, tensor: str, tile: Tile) -> int:
    """Bytes in which ``tile`` of a feature map is sent; 0 for an empty one."""
    if tile.is_empty:
        return 0
    return tile.area * sent_pixel_bytes(cluster, network, tensor) + rectangle_bytes(cluster)
