"""What a step reads: a map's tiles as they are owned before it, and the halos that are sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nptp_opt.plan.model import Plan, owned_maps
from nptp_opt.plot.partition import draw_partition

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_halos(plan: Plan, number: int, ax: Axes | None = None) -> Axes:
    """The map of which step ``number`` sends most, hatched in the receivers' colours what it sends.

    Raises ValueError for a step that sends no part of a map.
    """
    step, network = plan.steps[number], plan.network
    sent: dict[str, list[tuple[int, int]]] = {}
    parts = [move for move in step.transfers if step.source_of(network, move.tensor) == move.tensor]
    for k, move in enumerate(parts):
        sent.setdefault(move.tensor, []).append((move.bytes, k))
    if not sent:
        raise ValueError(f"step {number} sends no part of a map")
    tensor = max(sent, key=lambda name: sum(count for count, _ in sent[name]))
    _, _, height, width = network.shapes[tensor]
    halos = [(parts[k].dst, parts[k].tile) for _, k in sent[tensor]]
    owned = owned_maps(network, plan.cluster, plan.steps)[tensor]
    names = [device.name for device in plan.cluster.devices]
    total = sum(count for count, _ in sent[tensor])
    title = f"step {number} reads {tensor}, {height} x {width}: {total / 1e3:.3g} kB sent"
    return draw_partition(owned, height, width, names, halos=halos, title=title, ax=ax)


def most_sent(plan: Plan) -> int | None:
    """The step of which parts of maps with most bytes are sent; None where none has any."""
    network = plan.network
    sizes = {
        number: sum(
            m.bytes for m in step.transfers if step.source_of(network, m.tensor) == m.tensor
        )
        for number, step in enumerate(plan.steps)
    }
    best = max(sizes, key=lambda number: sizes[number], default=None)
    return best if best is not None and sizes[best] else None
