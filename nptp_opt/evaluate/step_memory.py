"""Memory of spatial steps that the clock knows, from its pieces and messages: as ``step_memory``
counts it, without making the steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from nptp_opt.cluster import Cluster
from nptp_opt.cost import Wire, wire
from nptp_opt.evaluate.assemble import Choice
from nptp_opt.evaluate.memory import (
    StepMemory,
    arriving_bytes,
    inner_peak,
    making,
    weight_bytes,
)
from nptp_opt.evaluate.step_store import StoredStep
from nptp_opt.geometry import IntArray, Tile
from nptp_opt.network.ir import Layer, Network, external_inputs


class SpatialMemory:
    """What tiles take is kept by segment (its last layer and how many) and rectangle."""

    def __init__(self, network: Network, cluster: Cluster) -> None:
        self.network, self.n = network, len(cluster.devices)
        self._wire = partial(wire, cluster, network)
        self._wires: dict[str, Wire] = {}
        self._inner: dict[tuple[str, int, Tile], int] = {}
        self._weights: dict[tuple[str, int, Tile], int] = {}

    def of(self, choice: Choice, maps: Sequence[str], step: StoredStep) -> StepMemory:
        """What the choice takes as this step; ``maps`` are those that its parts number."""
        layers, output = choice.layers, choice.layers[-1].name
        made, weights = (np.zeros(self.n, dtype=np.int64) for _ in range(2))
        pixel, weigh = self.network.pixel_bytes(output), partial(weight_bytes, layers)
        for device, tile in choice.tiles.items():
            if not tile.is_empty:
                made[device] = pixel * tile.area
                weights[device] = _kept(self._weights, layers, tile, weigh)
        working = self._arriving(maps, step)
        measure = partial(inner_peak, self.network, layers)
        inner: dict[int, list[int]] = {}
        for device, sides in zip(step.devices.tolist(), step.tiles.tolist(), strict=True):
            peak = _kept(self._inner, layers, Tile(*sides), measure)
            inner.setdefault(device, []).append(peak)
        for device, peaks in inner.items():
            working[device] += making(int(made[device]), peaks)
        return StepMemory(external_inputs(layers), output, made, working, weights)

    def _arriving(self, maps: Sequence[str], step: StoredStep) -> IntArray:
        found = np.zeros(self.n, dtype=np.int64)
        counts = step.messages[:, 4] - step.messages[:, 3]
        src, dst = np.repeat(step.messages[:, :2], counts, axis=0).T
        numbers, y0, y1, x0, x1 = step.parts.T
        areas = (y1 - y0) * (x1 - x0)
        for number, name in enumerate(maps):
            some = numbers == number
            if not some.any():
                continue
            sending = self._wires.get(name) or self._wires.setdefault(name, self._wire(name))
            pairs, area = (src[some], dst[some]), areas[some]
            sent = np.ceil(area * sending.pixel_bytes[pairs]) + sending.rectangle_bytes[pairs]
            elements = area * self.network.pixel_bytes(name)
            arrived = arriving_bytes(sent.astype(np.int64), elements, sending.encodings[pairs] > 0)
            np.add.at(found, pairs[1], arrived)
        return found


def _kept(
    known: dict[tuple[str, int, Tile], int],
    layers: Sequence[Layer],
    tile: Tile,
    count: Callable[[Tile], int],
) -> int:
    key = layers[-1].name, len(layers), tile
    if key not in known:
        known[key] = count(tile)
    return known[key]
