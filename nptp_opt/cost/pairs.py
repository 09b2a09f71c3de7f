"""Compiled: what every pair of partitions makes the devices send (matrix form of halo transfers).

Legend of shapes: T tensors, P candidates before a step, Q candidates of it, n devices.
"""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True, nogil=True)
def overlap_bytes(need, own, pixel_bytes, rectangle_bytes):  # type: ignore[no-untyped-def]
    """Bytes of the common rectangle of a need and an own tile, 0 where they do not meet."""
    rows = min(need[1], own[1]) - max(need[0], own[0])
    if rows <= 0:
        return 0.0
    columns = min(need[3], own[3]) - max(need[2], own[2])
    if columns <= 0:
        return 0.0
    return rows * columns * pixel_bytes + rectangle_bytes


@numba.njit(cache=True, nogil=True)
def own_links(needs, owners, pixel_bytes, rectangle_bytes):  # type: ignore[no-untyped-def]
    """Bytes (Q, n, n) to device i from j, where needs and owners (T, Q, n, 4) go together."""
    tensors, count, n, _ = needs.shape
    links = np.zeros((count, n, n))
    for t in range(tensors):
        for q in range(count):
            for i in range(n):
                if needs[t, q, i, 1] <= needs[t, q, i, 0]:
                    continue
                for j in range(n):
                    if i != j:
                        links[q, i, j] += overlap_bytes(
                            needs[t, q, i], owners[t, q, j], pixel_bytes[t], rectangle_bytes
                        )
    return links


@numba.njit(cache=True, nogil=True)
def pair_loads(needs, owners, links, pixel_bytes, rectangle_bytes, worth):  # type: ignore[no-untyped-def]
    """Received, sent and messages (3, P, Q, n) of needs (T, Q, n, 4) and owners (T, P, n, 4).

    ``links`` (Q, n, n) are added for every p. Pairs that are not ``worth`` (P, Q) it are left at 0.
    """
    tensors, count, n, _ = needs.shape
    before = worth.shape[0]
    loads = np.zeros((3, before, count, n))
    asks = links.sum(axis=2) > 0
    for t in range(tensors):
        asks |= needs[t, :, :, 1] > needs[t, :, :, 0]
    for p in range(before):
        for q in range(count):
            if not worth[p, q]:
                continue
            for i in range(n):
                if not asks[q, i]:
                    continue
                for j in range(n):
                    if i == j:
                        continue
                    sent = links[q, i, j]
                    for t in range(tensors):
                        sent += overlap_bytes(
                            needs[t, q, i], owners[t, p, j], pixel_bytes[t], rectangle_bytes
                        )
                    if sent > 0:
                        loads[0, p, q, i] += sent
                        loads[1, p, q, j] += sent
                        loads[2, p, q, i] += 1
    return loads
