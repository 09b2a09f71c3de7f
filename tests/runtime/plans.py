"""Plans built by hand from partitions, for execution."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from random import Random

from nptp_opt.cluster import Cluster
from nptp_opt.cost import Ownership, pieces, read_by_others
from nptp_opt.evaluate.assemble import Choice, assemble
from nptp_opt.evaluate.usage import evaluated
from nptp_opt.geometry import EMPTY, Tile
from nptp_opt.network.ir import Layer, external_inputs
from nptp_opt.network.load import LoadedModel, load_model
from nptp_opt.network.ref import ModelRef
from nptp_opt.plan.model import Plan, owned_maps
from nptp_opt.plan.steps import SpatialStep, Step
from tests.builders import make_cluster
from tests.network.partitioned import random_tiles

Partition = Callable[[int, int], Mapping[int, Tile]]
"""Tiles by device number for a map of height x width."""

INPUT = (1, 3, 24, 20)


@cache
def model_of(name: str) -> LoadedModel:
    """A model of ``tests.runtime.models``; nothing changes it, so it is exported once."""
    return load_model(f"tests.runtime.models:{name}", INPUT, 0)


def strips(height: int, width: int) -> dict[int, Tile]:
    """Four equal strips."""
    cuts = [height * i // 4 for i in range(5)]
    return {i: Tile(cuts[i], cuts[i + 1], 0, width) for i in range(4)}


def halves(height: int, width: int) -> dict[int, Tile]:
    """Two strips on devices 0 and 1."""
    return {0: Tile(0, height // 2, 0, width), 1: Tile(height // 2, height, 0, width)}


def unequal(height: int, width: int) -> dict[int, Tile]:
    """Three columns of 1/2, 1/3 and the rest, on devices 3, 1 and 0."""
    a, b = width // 2, width // 2 + width // 3
    return {3: Tile(0, height, 0, a), 1: Tile(0, height, a, b), 0: Tile(0, height, b, width)}


def grid(height: int, width: int) -> dict[int, Tile]:
    """2 x 2."""
    h, w = height // 2, width // 2
    return {
        0: Tile(0, h, 0, w),
        1: Tile(0, h, w, width),
        2: Tile(h, height, 0, w),
        3: Tile(h, height, w, width),
    }


def tee(height: int, width: int) -> dict[int, Tile]:
    """A cut that ends at another one."""
    h, w = height // 3, width // 2
    return {0: Tile(0, h, 0, width), 1: Tile(h, height, 0, w), 2: Tile(h, height, w, width)}


def pinwheel(height: int, width: int) -> dict[int, Tile]:
    """Five tiles, no cut goes through; the middle one belongs to device 2."""
    h, w = max(1, height // 3), max(1, width // 3)
    return {
        0: Tile(0, h, 0, width - w),
        1: Tile(0, height - h, width - w, width),
        2: Tile(h, height - h, w, width - w),
        3: Tile(height - h, height, w, width),
        4: Tile(h, height, 0, w),
    }


def idle(height: int, width: int) -> dict[int, Tile]:
    """The source owns nothing."""
    return {1: Tile(0, height // 2, 0, width), 3: Tile(height // 2, height, 0, width)}


def alternating(height: int, width: int) -> dict[int, Tile]:
    """Everything moves to another device whenever the map shrinks."""
    return {height % 4: Tile(0, height, 0, width)}


PARTITIONS: dict[str, Partition] = {
    f.__name__: f for f in (strips, unequal, grid, tee, pinwheel, idle, alternating)
}


def five_devices(**network: object) -> Cluster:
    """d0 to d4."""
    return make_cluster([1, 2, 3, 4, 5], latency_ms=0.1, **network)


def hand_plan(
    model: LoadedModel, name: str, partition: Partition, cluster: Cluster, *, fuse: int = 1
) -> Plan:
    """Every ``fuse`` spatial layers are one step; a step has to end where others may read."""
    network = model.network
    choices, open_layers = [], list[Layer]()
    for layer in network.layers:
        if layer.kind == "gather":
            break
        if layer.kind == "global":
            choices.append(Choice((layer,)))
            continue
        open_layers.append(layer)
        if len(open_layers) >= fuse or layer is network.spatial[-1]:
            choices.append(Choice(tuple(open_layers), partition(layer.height, layer.width)))
            open_layers = []
    steps = assemble(network, cluster, choices)
    ref = ModelRef(f"tests.runtime.models:{name}", INPUT, 0)
    return Plan(ref, network, cluster, steps, latency_s=1.0)


def in_pieces(plan: Plan, rng: Random | None = None) -> Plan:
    """The plan with every spatial step in pieces: outgoing rim, interior, incoming rim, whether
    that pays or not; with ``rng`` cut anywhere, in any order, and messages in any order."""
    owned = owned_maps(plan.network, plan.cluster, plan.steps)
    steps = []
    for k, step in enumerate(plan.steps):
        cut: Step = step
        if isinstance(step, SpatialStep):
            later = [s for s in plan.steps[k + 1 :] if isinstance(s, SpatialStep)]
            parts = _cut_up(step, rng) if rng else _rims(plan, step, later, owned)
            cut = replace(step, pieces={i: own for i, own in parts.items() if len(own) > 1})
        if rng:
            cut = replace(cut, transfers=tuple(rng.sample(cut.transfers, len(cut.transfers))))
        cost_s = cut.cost_s(plan.network, plan.cluster, owned)
        steps.append(replace(cut, makespan_s=cost_s))
    return evaluated(replace(plan, steps=tuple(steps), bound_s=None))


def _cut_up(step: SpatialStep, rng: Random) -> dict[int, tuple[Tile, ...]]:
    found = {}
    for device in step.devices:
        parts = [part for part in random_tiles(step.tiles[device], 2, rng) if not part.is_empty]
        found[device] = tuple(rng.sample(parts, len(parts)))
    return found


def _rims(
    plan: Plan, step: SpatialStep, later: Sequence[SpatialStep], owned: Mapping[str, Ownership]
) -> dict[int, tuple[Tile, ...]]:
    layers = plan.layers_of(step)
    wanted = read_by_others(
        [(plan.layers_of(s), s.tiles) for s in later], layers[-1].name, step.tiles
    )
    maps = [name for name in external_inputs(layers) if name not in plan.network.replicated]
    return {
        device: pieces(
            layers,
            step.tiles[device],
            "both",
            {name: owned[name].get(device, EMPTY) for name in maps},
            wanted[device],
        )
        for device in step.devices
    }
