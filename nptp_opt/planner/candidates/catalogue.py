"""Candidate partitions for a whole network: templates of the families, and what to solve for."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import numpy as np

from nptp_opt.cluster import Cluster
from nptp_opt.evaluate.assemble import Choice
from nptp_opt.geometry import Tile
from nptp_opt.network.ir import Layer, Network
from nptp_opt.planner.candidates.templates import (
    UNIT,
    Template,
    TemplateStack,
    columns,
    from_tiles,
    strips,
)
from nptp_opt.planner.local_search.moves import Move, moves

MANY_DEVICES = 12
"""From here on only some numbers of devices are tried, and only balanced columns."""


MOST_ALONE = 64
"""Up to so many devices each is tried alone; of more, one of every kind."""

SMALL_MAP = 36
"""Pixels of the largest map up to which every partition is a candidate (three devices at most)."""

NEAR_GRID = 28
"""Cut positions per axis that small changes of a template are made on."""


def family_templates(cluster: Cluster) -> Iterator[Template]:
    """Single tiles, strips and columns for every useful number of devices, fastest first."""
    speed = {i: device.gflops for i, device in enumerate(cluster.devices)}
    order = sorted(speed, key=lambda i: (-speed[i], i != cluster.source, i))
    yield from single_templates(cluster)
    for count in useful_counts(len(order)):
        chosen = sorted(order[:count])
        shares = [speed[i] for i in chosen]
        for vertical in (False, True):
            yield strips(f"strip-{count}", chosen, shares, vertical=vertical)
        for groups in column_groups(chosen):
            for transpose in (False, True):
                yield columns(f"column-{count}-{len(groups)}", groups, speed, transpose=transpose)


def single_templates(cluster: Cluster) -> Iterator[Template]:
    """One device alone, each in turn; of very many one of every kind."""
    n = len(cluster.devices)
    for device in range(n) if n <= MOST_ALONE else cluster.unlike:
        yield Template(f"single-{device}", {device: UNIT})


def used_templates(choices: Sequence[Choice]) -> Iterator[Template]:
    """The partitions of a plan as templates."""
    for choice in choices:
        if not choice.is_global:
            last = choice.layers[-1]
            for snapped in (True, False):
                yield from_tiles(last.name, choice.tiles, last.height, last.width, snapped=snapped)


def near_moves(template: Template, kinds: Sequence[int]) -> Iterator[Callable[[], Template]]:
    """Templates with one cut moved a little, or two devices swapped; steps of 1/``NEAR_GRID``.

    Each is made when it is called.
    """
    tiles = template.at(NEAR_GRID, NEAR_GRID)
    return (partial(_near, template, move) for move in moves(tiles, NEAR_GRID // 8, kinds))


def _near(template: Template, move: Move) -> Template:
    return from_tiles(template.name, move(), NEAR_GRID, NEAR_GRID)


def useful_counts(n: int) -> list[int]:
    """Numbers of devices that are tried: 2 to n, of many devices some."""
    if n <= MANY_DEVICES:
        return list(range(2, n + 1))
    return sorted({n, *(n * k // 8 for k in range(1, 8)), 2, 4, 8} - {0, 1})


def column_groups(devices: Sequence[int]) -> Iterator[list[Sequence[int]]]:
    """Devices dealt into 2, 3, ... columns of as equal counts as possible."""
    n = len(devices)
    numbers = range(2, n) if n <= MANY_DEVICES else _near_square(n)
    for number in numbers:
        base, more = divmod(n, number)
        sizes = [base + 1] * more + [base] * (number - more)
        starts = [sum(sizes[:k]) for k in range(number)]
        yield [devices[s : s + size] for s, size in zip(starts, sizes, strict=True)]


def _near_square(n: int) -> Iterable[int]:
    root = round(n**0.5)
    return sorted(
        {k for k in (2, 3, 4, root // 2, root - 1, root, root + 1, 2 * root) if 1 < k < n}
    )


def small_templates(network: Network, cluster: Cluster) -> list[Template]:
    """Every guillotine partition with every assignment, where maps and cluster are that small.

    Empty for all others. With at most three devices every partition is guillotine.
    """
    height = max((layer.height for layer in network.spatial), default=0)
    width = max((layer.width for layer in network.spatial), default=0)
    n = len(cluster.devices)
    if n > 3 or not 0 < height * width <= SMALL_MAP:
        return []
    whole = Tile(0, height, 0, width)
    return [
        from_tiles("small", dict(zip(owners, tiles, strict=True)), height, width, snapped=False)
        for count in range(1, n + 1)
        for tiles in dict.fromkeys(_guillotine(whole, count))
        for owners in itertools.permutations(range(n), count)
    ]


def _guillotine(tile: Tile, count: int) -> Iterator[tuple[Tile, ...]]:
    """Partitions of a tile into ``count`` by cuts that each cross their own piece."""
    if count == 1:
        yield (tile,)
        return
    halves = [
        *((tile.rows(tile.y0, y), tile.rows(y, tile.y1)) for y in range(tile.y0 + 1, tile.y1)),
        *(
            (tile.columns(tile.x0, x), tile.columns(x, tile.x1))
            for x in range(tile.x0 + 1, tile.x1)
        ),
    ]
    for (one, other), k in itertools.product(halves, range(1, count)):
        for first, second in itertools.product(_guillotine(one, k), _guillotine(other, count - k)):
            yield tuple(sorted((*first, *second)))


def distinct(templates: Iterable[Template], layers: Sequence[Layer]) -> list[Template]:
    """Templates without those that round to the same partitions on every map.

    One whose cuts snap to strides is none of a like one whose cuts do not.
    """
    maps = sorted({(layer.height, layer.width) for layer in layers})
    every, kept = list(templates), dict[bytes, Template]()
    n = 1 + max((device for template in every for device in template.boxes), default=0)
    stack = TemplateStack(every, n)
    nothing = np.zeros((len(every), 0, 4), dtype=np.int32)  # a network may have no maps
    placed = (stack.place(size).astype(np.int32) for size in maps)
    keys = np.concatenate([nothing, *placed], axis=1)
    for template, key in zip(every, keys, strict=True):
        kept.setdefault(key.tobytes() + bytes([template.snapped]), template)
    return list(kept.values())


def layers_by_work(network: Network) -> list[Layer]:
    """One spatial layer of every shape, the heaviest shape (in total FLOP) first."""
    total: dict[object, float] = {}
    first: dict[object, Layer] = {}
    for layer in network.spatial:
        key = (layer.op, layer.shape, tuple(layer.maps.values()))
        total[key] = total.get(key, 0.0) + layer.flop
        first.setdefault(key, layer)
    return [first[key] for key in sorted(total, key=lambda k: -total[k])]


def without(templates: Sequence[Template], devices: Sequence[int]) -> list[Template]:
    """Templates that leave out the first of ``devices`` that any uses; empty if that is all."""
    for device in devices:
        left = [template for template in templates if device not in template.boxes]
        if 0 < len(left) < len(templates):
            return left
    return []
