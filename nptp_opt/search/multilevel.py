"""``multilevel``: recursive two-way split of map and devices, O(n log n).

A reconstruction of the multilevel partition algorithm of NPTP (Liu et al. 2025) from the paper's
abstract; not theirs, for which we have no pseudo-code. Devices are sorted by speed and split into
two groups of about equal speed; the piece is cut across its longer side (longer in halo bytes)
in proportion to the groups' speeds; both halves are split again. Devices that are left without
room, or that only slow the others down, stay idle: several numbers of devices are tried.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from nptp_opt.cost import LayerCost
from nptp_opt.geometry import Tile
from nptp_opt.search.support import Incumbent

NAME = "multilevel"
ROUNDS = 8
MANY = 100
"""Beyond this many devices the shares are corrected once only."""


@dataclass(frozen=True)
class _Piece:
    """Unit rectangle and the devices, fastest first, that share it."""

    y0: int
    y1: int
    x0: int
    x1: int
    devices: tuple[int, ...]


def improve(cost: LayerCost, best: Incumbent) -> None:
    """Offer ``best`` the recursive splits among the fastest 1, 2, 3, ... devices (geometric).

    Each is repeated with shares corrected by the times that the split before gave.
    """
    order = sorted(range(len(cost.problem.devices)), key=cost.seconds_per_pixel)
    for count in _counts(len(order)):
        share = {i: 1.0 / cost.seconds_per_pixel(i) for i in order[:count]}
        for _ in range(ROUNDS if 1 < count <= MANY else 1 + (count > MANY)):
            tiles = split(cost, share)
            best.offer(tiles, NAME)
            share = _correct_shares(cost, share, tiles)


def _correct_shares(
    cost: LayerCost, share: dict[int, float], tiles: dict[int, Tile]
) -> dict[int, float]:
    """Shares moved half-way (in logarithm) towards equal times."""
    seconds_of = cost.compute_s if cost.cluster.shared else cost.tile_s
    seconds = {i: seconds_of(i, tile) for i, tile in tiles.items()}
    mean = sum(seconds.values()) / len(seconds)
    return {i: s * math.sqrt(mean / seconds[i]) if i in seconds else s for i, s in share.items()}


def _counts(n: int) -> list[int]:
    few = list(range(1, min(n, 12) + 1))
    many = [n // 2**k for k in range(int(math.log2(max(n, 1))))]
    return sorted({*few, *many, n} - {0})


def split(cost: LayerCost, share: dict[int, float]) -> dict[int, Tile]:
    """Tiles of the recursive two-way split in proportion to the devices' shares."""
    ys, xs = cost.problem.cuts_y, cost.problem.cuts_x
    inner = cost.recv_form(0)
    across, along = inner.w or 1.0, inner.h or 1.0
    tiles = {}
    todo = [_Piece(0, len(ys) - 1, 0, len(xs) - 1, tuple(sorted(share, key=lambda i: -share[i])))]
    while todo:
        piece = todo.pop()
        height, width = piece.y1 - piece.y0, piece.x1 - piece.x0
        if len(piece.devices) == 1 or height * width == 1:
            tiles[piece.devices[0]] = Tile(ys[piece.y0], ys[piece.y1], xs[piece.x0], xs[piece.x1])
            continue
        first, second = _halves(piece.devices, share)
        part = sum(share[i] for i in first) / sum(share[i] for i in piece.devices)
        stack = width == 1 or (height > 1 and width * across <= height * along)
        todo += _cut(piece, first, second, part, stack)
    return tiles


def _cut(
    piece: _Piece, first: tuple[int, ...], second: tuple[int, ...], share: float, stack: bool
) -> list[_Piece]:
    lo, hi = (piece.y0, piece.y1) if stack else (piece.x0, piece.x1)
    at = min(hi - 1, max(lo + 1, lo + round((hi - lo) * share)))
    if stack:
        return [
            _Piece(lo, at, piece.x0, piece.x1, first),
            _Piece(at, hi, piece.x0, piece.x1, second),
        ]
    return [
        _Piece(piece.y0, piece.y1, lo, at, first),
        _Piece(piece.y0, piece.y1, at, hi, second),
    ]


def _halves(
    devices: tuple[int, ...], share: dict[int, float]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Two groups of about equal speed; the order within each stays fastest first."""
    groups: tuple[list[int], list[int]] = ([], [])
    total = [0.0, 0.0]
    for device in devices:
        lighter = int(total[1] < total[0])
        groups[lighter].append(device)
        total[lighter] += share[device]
    return tuple(groups[0]), tuple(groups[1])
