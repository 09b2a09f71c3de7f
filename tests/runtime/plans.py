"""Plans built by hand from partitions, for execution."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache

from nptp_opt.cluster import Cluster
from nptp_opt.evaluate.assemble import Choice, assemble
from nptp_opt.evaluate.simulate import simulate
from nptp_opt.geometry import Tile
from nptp_opt.network.ir import Layer
from nptp_opt.network.load import LoadedModel, load_model
from nptp_opt.network.ref import ModelRef
from nptp_opt.plan.model import Plan, owned_maps
from tests.builders import make_cluster

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


def overlapped(plan: Plan) -> Plan:
    """The plan with every spatial step overlapping, whether that pays or not."""
    owned = owned_maps(plan.network, plan.cluster, plan.steps)
    steps = []
    for step in plan.steps:
        other = replace(step, overlap=True) if step.kind == "spatial" else step
        cost_s = other.cost_s(plan.network, plan.cluster, owned)
        steps.append(replace(other, makespan_s=cost_s))
    latency_s = simulate(plan.network, plan.cluster, steps)
    return replace(plan, steps=tuple(steps), latency_s=latency_s, bound_s=None)
