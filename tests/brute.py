"""Brute force over every partition of a tiny map, independent of every optimiser.

Each family has a generator of its own that enumerates its partitions from its definition; costs
come from ``LayerCost`` alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

from nptp_opt.cost import LayerCost, messages_of
from nptp_opt.geometry import Tile
from nptp_opt.layer.problem import LayerProblem

Partition = frozenset[Tile]
Cuts = Sequence[int]


def _splits(cuts: Cuts, parts: int) -> Iterator[list[tuple[int, int]]]:
    """All ways to cut the range of ``cuts`` into ``parts`` ranges."""
    for inner in itertools.combinations(cuts[1:-1], parts - 1):
        yield list(itertools.pairwise((cuts[0], *inner, cuts[-1])))


def _turn(partition: Partition) -> Partition:
    return frozenset(Tile(t.x0, t.x1, t.y0, t.y1) for t in partition)


def strips(cuts_y: Cuts, cuts_x: Cuts, n: int) -> Iterator[Partition]:
    for parts in range(1, n + 1):
        for rows in _splits(cuts_y, parts):
            yield frozenset(Tile(y0, y1, 0, cuts_x[-1]) for y0, y1 in rows)
        for columns in _splits(cuts_x, parts):
            yield frozenset(Tile(0, cuts_y[-1], x0, x1) for x0, x1 in columns)


def grids(cuts_y: Cuts, cuts_x: Cuts, n: int) -> Iterator[Partition]:
    for r, c in itertools.product(range(1, n + 1), repeat=2):
        if r * c <= n:
            for rows, columns in itertools.product(_splits(cuts_y, r), _splits(cuts_x, c)):
                yield frozenset(Tile(*y, *x) for y in rows for x in columns)


def _columns(cuts_y: Cuts, cuts_x: Cuts, n: int) -> Iterator[Partition]:
    for c in range(1, n + 1):
        for columns in _splits(cuts_x, c):
            stacks = [[s for k in range(1, n + 1) for s in _splits(cuts_y, k)] for _ in columns]
            for chosen in itertools.product(*stacks):
                if sum(map(len, chosen)) <= n:
                    pairs = zip(columns, chosen, strict=True)
                    yield frozenset(Tile(*y, *x) for x, rows in pairs for y in rows)


def columns(cuts_y: Cuts, cuts_x: Cuts, n: int) -> Iterator[Partition]:
    yield from _columns(cuts_y, cuts_x, n)
    yield from map(_turn, _columns(cuts_x, cuts_y, n))


def _inside(cuts: Cuts, lo: int, hi: int) -> list[int]:
    return [cut for cut in cuts if lo < cut < hi]


def guillotines(cuts_y: Cuts, cuts_x: Cuts, n: int) -> Iterator[Partition]:
    def pieces(tile: Tile, most: int) -> Iterator[Partition]:
        yield frozenset([tile])
        if most < 2:
            return
        halves = [
            (Tile(tile.y0, cut, tile.x0, tile.x1), Tile(cut, tile.y1, tile.x0, tile.x1))
            for cut in _inside(cuts_y, tile.y0, tile.y1)
        ] + [
            (Tile(tile.y0, tile.y1, tile.x0, cut), Tile(tile.y0, tile.y1, cut, tile.x1))
            for cut in _inside(cuts_x, tile.x0, tile.x1)
        ]
        for one, two in halves:
            for first in pieces(one, most - 1):
                for second in pieces(two, most - len(first)):
                    yield first | second

    yield from pieces(Tile(0, cuts_y[-1], 0, cuts_x[-1]), n)


def dissections(cuts_y: Cuts, cuts_x: Cuts, n: int) -> Iterator[Partition]:
    """First fit: the next tile starts at the first cell, row by row, that is still free."""

    def fill(tiles: list[Tile]) -> Iterator[Partition]:
        corner = next(
            (
                (y, x)
                for y in cuts_y[:-1]
                for x in cuts_x[:-1]
                if not any(t.y0 <= y < t.y1 and t.x0 <= x < t.x1 for t in tiles)
            ),
            None,
        )
        if corner is None:
            yield frozenset(tiles)
        elif len(tiles) < n:
            y0, x0 = corner
            for y1, x1 in itertools.product(cuts_y, cuts_x):
                tile = Tile(y0, y1, x0, x1)
                if not tile.is_empty and all(t.intersect(tile).is_empty for t in tiles):
                    yield from fill([*tiles, tile])

    yield from fill([])


FAMILIES: dict[str, Callable[[Cuts, Cuts, int], Iterator[Partition]]] = {
    "strip": strips,
    "grid": grids,
    "column": columns,
    "guillotine": guillotines,
    "dissection": dissections,
}


def partitions(problem: LayerProblem, family: str) -> set[Partition]:
    """Every partition of the family with at most one tile per device."""
    return {*FAMILIES[family](problem.cuts_y, problem.cuts_x, len(problem.devices))}


def assignments(problem: LayerProblem, partition: Partition) -> Iterator[dict[int, Tile]]:
    """Every assignment of the tiles to different devices."""
    tiles = sorted(partition)
    for owners in itertools.permutations(range(len(problem.devices)), len(tiles)):
        yield dict(zip(owners, tiles, strict=True))


def exact_cost(cost: LayerCost, tiles: dict[int, Tile]) -> float | None:
    """Exact makespan; None where a memory limit is exceeded."""
    fits = all(cost.fits(i, tile) for i, tile in tiles.items())
    return cost.makespan_s(tiles) if fits else None


def form_cost(cost: LayerCost, tiles: dict[int, Tile]) -> float | None:
    """Makespan under the bilinear upper costs; None where their memory exceeds a limit."""
    tall, wide, cluster = cost.problem.height, cost.problem.width, cost.cluster
    sizes = {i: (t.contacts(tall, wide), (t.width, t.height)) for i, t in tiles.items()}
    for i, (k, size) in sizes.items():
        if cost.memory_form(k)(*size) > cluster.devices[i].memory_bytes:
            return None
    compute = {i: cost.compute_form(i)(*size) for i, (_, size) in sizes.items()}
    if not cluster.shared:
        return max(compute[i] + cost.comm_form(i, k)(*size) for i, (k, size) in sizes.items())
    sent = sum(cost.recv_form(k)(*size) for k, size in sizes.values())
    messages = max(messages_of(k) for k, _ in sizes.values())
    link = cluster.network
    return sent / link.bytes_per_s + link.latency_s * messages + max(compute.values())


CostOf = Callable[[LayerCost, dict[int, Tile]], float | None]


def optimum(problem: LayerProblem, family: str, cost_of: CostOf = exact_cost) -> float | None:
    """Smallest makespan over the family; None where no partition fits the memory limits."""
    cost = LayerCost(problem)
    costs = (
        cost_of(cost, tiles)
        for partition in partitions(problem, family)
        for tiles in assignments(problem, partition)
    )
    return min((p for p in costs if p is not None), default=None)
