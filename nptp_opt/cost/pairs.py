"""Compiled: what every pair of partitions makes the devices send (matrix form of halo transfers).

``pair_loads`` meets every need with every owner: n^2 rectangles per pair of candidates.
``covered_loads`` does with n where one tensor moves. Its owners cover the map exactly, so a device
receives its need less what it holds; who else a need or an own tile meets is counted once for every
distinct rectangle, and candidates that are neighbours of one partition share nearly all of them.

Legend of shapes: T tensors, P candidates before a step, Q candidates of it, n devices, R distinct
needs, S distinct own tiles.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nptp_opt.compiling import compiled, inner
from nptp_opt.geometry import IntArray


@inner
def overlap_bytes(need, own, pixel_bytes, rectangle_bytes):  # type: ignore[no-untyped-def]
    """Bytes of the common rectangle of a need and an own tile, 0 where they do not meet."""
    rows = min(need[1], own[1]) - max(need[0], own[0])
    if rows <= 0:
        return 0.0
    columns = min(need[3], own[3]) - max(need[2], own[2])
    if columns <= 0:
        return 0.0
    return np.ceil(rows * columns * pixel_bytes) + rectangle_bytes


@inner
def _own_bytes(needs, owners, pixel_bytes, rectangle_bytes, q, i, j):  # type: ignore[no-untyped-def]
    """Bytes of all tensors to device i from j in candidate q: see ``own_links``."""
    sent = 0.0
    if i != j:
        for t in range(len(needs)):
            sent += overlap_bytes(
                needs[t, q, i], owners[t, q, j], pixel_bytes[t, j, i], rectangle_bytes[t, j, i]
            )
    return sent


@compiled
def own_links(needs, owners, pixel_bytes, rectangle_bytes):  # type: ignore[no-untyped-def]
    """Bytes (Q, n, n) to device i from j, where needs and owners (T, Q, n, 4) go together.

    Bytes of pixels and rectangles (T, n, n) are by sender and receiver.
    """
    _, count, n, _ = needs.shape
    links = np.zeros((count, n, n))
    for q in range(count):
        for i in range(n):
            for j in range(n):
                links[q, i, j] = _own_bytes(needs, owners, pixel_bytes, rectangle_bytes, q, i, j)
    return links


@compiled
def own_loads(needs, owners, pixel_bytes, rectangle_bytes):  # type: ignore[no-untyped-def]
    """Received, sent and messages (3, 1, Q, n) of ``own_links`` alone, without holding these."""
    _, count, n, _ = needs.shape
    loads = np.zeros((3, 1, count, n))
    for q in range(count):
        for i in range(n):
            for j in range(n):
                sent = _own_bytes(needs, owners, pixel_bytes, rectangle_bytes, q, i, j)
                if sent > 0:
                    loads[0, 0, q, i] += sent
                    loads[1, 0, q, j] += sent
                    loads[2, 0, q, i] += 1
    return loads


@compiled
def pair_loads(needs, owners, links, pixel_bytes, rectangle_bytes, worth):  # type: ignore[no-untyped-def]
    """Received, sent and messages (3, P, Q, n) of needs (T, Q, n, 4) and owners (T, P, n, 4).

    Bytes of pixels and rectangles (T, n, n) are by sender and receiver. ``links`` (Q, n, n) are
    added for every p. Pairs that are not ``worth`` (P, Q) it are left at 0.
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
                            needs[t, q, i],
                            owners[t, p, j],
                            pixel_bytes[t, j, i],
                            rectangle_bytes[t, j, i],
                        )
                    if sent > 0:
                        loads[0, p, q, i] += sent
                        loads[1, p, q, j] += sent
                        loads[2, p, q, i] += 1
    return loads


def covered_loads(
    needs: IntArray,
    owners: IntArray,
    pixel_bytes: float,
    rectangle_bytes: float,
    worth: npt.NDArray[np.bool_],
) -> npt.NDArray[np.float64]:
    """As ``pair_loads`` for one tensor: needs (Q, n, 4), owners (P, n, 4) that cover its map.

    It is sent alike between all devices. Expected bytes are not rounded up for each rectangle.
    """
    exact = _exact(needs, owners)
    need_rects, need_of = _distinct(needs)
    own_rects, own_of = _distinct(owners)
    senders = _common_pixels(need_rects.T.astype(exact, order="C"), owners.astype(exact))
    askers = _common_pixels(own_rects.T.astype(exact, order="C"), needs.astype(exact))
    sides = (senders, need_of, askers, own_of)
    loads = _covered_loads(needs, owners, sides, pixel_bytes, rectangle_bytes, worth)
    return np.asarray(loads)


def _exact(needs: IntArray, owners: IntArray) -> npt.DTypeLike:
    """The shortest float that adds up pixels of the map, each as often as there are devices."""
    height, width = (max(int(a[..., s].max(initial=1)) for a in (needs, owners)) for s in (1, 3))
    return np.float32 if height * width * needs.shape[1] < 1 << 24 else np.float64


def _distinct(rectangles: IntArray) -> tuple[IntArray, IntArray]:
    """Distinct rectangles (R, 4), and which one each is; no map has 2^15 rows or columns."""
    keys = rectangles[..., 0]
    for side in range(1, 4):
        keys = keys << 15 | rectangles[..., side]
    _, first, place = np.unique(keys, return_index=True, return_inverse=True)
    flat = rectangles.reshape(-1, 4)
    return np.ascontiguousarray(flat[first]), place.reshape(keys.shape)


@compiled
def _common_pixels(rectangles, others):  # type: ignore[no-untyped-def]
    """Common pixels and number (2, P, R) of the tiles (P, n, 4) that rectangles (4, R) meet."""
    zero, one = rectangles.dtype.type(0), rectangles.dtype.type(1)
    common = np.zeros((2, len(others), rectangles.shape[1]), dtype=rectangles.dtype)
    for p in range(len(others)):
        pixels, number = common[0, p], common[1, p]
        for j in range(others.shape[1]):
            y0, y1, x0, x1 = others[p, j]
            if y1 <= y0:
                continue
            for r in range(len(pixels)):  # without a branch, so that it runs on vectors
                rows = min(rectangles[1, r], y1) - max(rectangles[0, r], y0)
                columns = min(rectangles[3, r], x1) - max(rectangles[2, r], x0)
                area = max(rows, zero) * max(columns, zero)
                pixels[r] += area
                number[r] += one if area > zero else zero
    return common


@compiled
def _covered_loads(needs, owners, sides, pixel_bytes, rectangle_bytes, worth):  # type: ignore[no-untyped-def]
    senders, need_of, askers, own_of = sides
    count, n, _ = needs.shape
    before = len(owners)
    loads = np.zeros((3, before, count, n))
    for p in range(before):
        for q in range(count):
            if not worth[p, q]:
                continue
            for i in range(n):
                own = overlap_bytes(needs[q, i], owners[p, i], 1.0, 0.0)
                here = 1.0 if own > 0 else 0.0
                need, tile = need_of[q, i], own_of[p, i]
                messages = senders[1, p, need] - here
                received, asked = senders[0, p, need] - own, askers[0, q, tile] - own
                times = askers[1, q, tile] - here
                loads[0, p, q, i] = pixel_bytes * received + rectangle_bytes * messages
                loads[1, p, q, i] = pixel_bytes * asked + rectangle_bytes * times
                loads[2, p, q, i] = messages
    return loads
