"""Candidate partitions for a whole network: templates of the families, and what to solve for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from nptp_opt.cluster import Cluster
from nptp_opt.network.ir import Layer, Network
from nptp_opt.planner.assemble import Choice
from nptp_opt.planner.moves import neighbours
from nptp_opt.planner.templates import UNIT, Template, columns, from_tiles, strips

MANY_DEVICES = 12
"""From here on only some numbers of devices are tried, and only balanced columns."""


NEAR_GRID = 28
"""Cut positions per axis that small changes of a template are made on."""


def family_templates(cluster: Cluster) -> Iterator[Template]:
    """Single tiles, strips and columns for every useful number of devices, fastest first."""
    speed = {i: device.gflops for i, device in enumerate(cluster.devices)}
    order = sorted(speed, key=lambda i: (-speed[i], i != cluster.source, i))
    yield from single_templates(cluster)
    for count in _counts(len(order)):
        chosen = sorted(order[:count])
        shares = [speed[i] for i in chosen]
        for vertical in (False, True):
            yield strips(f"strip-{count}", chosen, shares, vertical=vertical)
        for groups in _column_groups(chosen):
            for transpose in (False, True):
                yield columns(f"column-{count}-{len(groups)}", groups, speed, transpose=transpose)


def single_templates(cluster: Cluster) -> Iterator[Template]:
    """One device alone, each in turn."""
    for device in range(len(cluster.devices)):
        yield Template(f"single-{device}", {device: UNIT})


def used_templates(choices: Sequence[Choice]) -> Iterator[Template]:
    """The partitions of a plan as templates."""
    for choice in choices:
        if not choice.is_global:
            last = choice.layers[-1]
            yield from_tiles(last.name, choice.tiles, last.height, last.width)


def near_templates(template: Template, kinds: Sequence[int]) -> Iterator[Template]:
    """Templates with one cut moved a little, or two devices swapped; steps of 1/``NEAR_GRID``."""
    tiles = template.at(NEAR_GRID, NEAR_GRID)
    for moved in neighbours(tiles, NEAR_GRID // 8, kinds):
        yield from_tiles(template.name, moved, NEAR_GRID, NEAR_GRID)


def _counts(n: int) -> list[int]:
    if n <= MANY_DEVICES:
        return list(range(2, n + 1))
    return sorted({n, *(n * k // 8 for k in range(1, 8)), 2, 4, 8} - {0, 1})


def _column_groups(devices: Sequence[int]) -> Iterator[list[Sequence[int]]]:
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


def distinct(templates: Iterable[Template], layers: Sequence[Layer]) -> list[Template]:
    """Templates without those that round to the same partitions on every map."""
    maps = sorted({(layer.height, layer.width) for layer in layers})
    kept: dict[object, Template] = {}
    for template in templates:
        key = tuple(tuple(sorted(template.at(*size).items())) for size in maps)
        kept.setdefault(key, template)
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
