"""Segments as whole numbers, for the compiled code that costs them (``compiled``).

Segments of one network share what they can: the need of an axis, the seconds of a layer and the
sizes of a map are kept once, and a segment says where they are.

Legend of shapes: G segments, L layers of all of them, E reads, X external maps, n devices.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nptp_opt.cluster import Cluster
from nptp_opt.cost.encoding import wire
from nptp_opt.cost.speed import layer_speed
from nptp_opt.geometry import AxisMap, IntArray
from nptp_opt.geometry.need_tables import need_table
from nptp_opt.network.ir import Layer, Network, external_inputs


class SegmentTables:
    """The segments that are added, behind each other in arrays.

    ``first`` (G + 1, 3): where a segment's reads, layers and maps begin. ``reads`` (E, 4): reading
    tensor, read tensor (numbers within the segment: 0 is the output, external ones are last),
    places in ``needs`` of the rows' and the columns' need, in the order of ``regions``. ``made``
    (L, 2): a layer's tensor, and its row in ``seconds``. ``outer`` (X, 2): an external map's
    tensor, and its row in ``sizes``. ``output`` (G): row in ``sizes`` of the map that is made, -1
    where none is.

    ``needs``: need tables, each as its length, ``lo``, ``hi``. ``seconds`` (layers + 1, 2, n):
    of a call, and of a pixel; the last row has those of a program. ``sizes`` (tensors, 4, n, n):
    bytes of a map's pixels and of rectangles, seconds of encoding and decoding a pixel, by sender
    and receiver.
    """

    def __init__(self, network: Network, cluster: Cluster) -> None:
        self.network, self.cluster = network, cluster
        self.layers = {layer.name: k for k, layer in enumerate(network.shared_out)}
        self.tensors = {name: k for k, name in enumerate(network.shapes)}
        n = len(cluster.devices)
        self.seconds = np.zeros((len(self.layers) + 1, 2, n))
        self.seconds[-1, 0] = [device.program_s for device in cluster.devices]
        self.sizes = np.zeros((len(self.tensors), 4, n, n))
        self.first = np.zeros((1, 3), dtype=np.int64)
        self.reads = np.zeros((0, 4), dtype=np.int64)
        self.made, self.outer = (np.zeros((0, 2), dtype=np.int64) for _ in range(2))
        self.output = np.zeros(0, dtype=np.int64)
        self.needs = np.zeros(0, dtype=np.int64)
        self.most_maps = 0
        """Of any segment."""
        self._axes: dict[AxisMap, tuple[int, bool]] = {}
        self._known, self._sent = set[str](), set[str]()

    def add(self, layers: Sequence[Layer], maps: Sequence[str], output: str | None) -> int:
        """Number of a segment of these ``layers``, which ``has_tables``; without layers it only
        reads its ``maps``."""
        numbers = _numbers(layers)
        reads = [
            (numbers[layer.name], numbers[tensor], *map(self._place, layer.maps[tensor]))
            for layer in reversed(layers)
            for tensor in layer.inputs
        ]
        made = [(numbers[layer.name], self._layer(layer)) for layer in layers]
        outer = [(numbers.get(name, -1), self._map(name)) for name in maps]
        self.reads, self.made, self.outer = (
            np.concatenate((known, np.array(rows, dtype=np.int64).reshape(-1, known.shape[1])))
            for known, rows in ((self.reads, reads), (self.made, made), (self.outer, outer))
        )
        self.most_maps = max(self.most_maps, len(maps))
        ends = [[len(self.reads), len(self.made), len(self.outer)]]
        self.first = np.concatenate((self.first, ends))
        self.output = np.append(self.output, -1 if output is None else self.tensors[output])
        return len(self.output) - 1

    @property
    def arrays(self) -> tuple[IntArray, IntArray, IntArray, IntArray, IntArray, IntArray]:
        """``first``, ``reads``, ``made``, ``outer``, ``output`` and ``needs``."""
        return self.first, self.reads, self.made, self.outer, self.output, self.needs

    def has_tables(self, layers: Sequence[Layer]) -> bool:
        """Is what the layers need of their inputs in tables?"""
        return all(place >= 0 for place, _ in self._axes_of(layers))

    def is_blank(self, layers: Sequence[Layer]) -> bool:
        """Do some pixels read padding alone? There interiors are not found by bisection."""
        return any(blank for _, blank in self._axes_of(layers))

    def _axes_of(self, layers: Sequence[Layer]) -> list[tuple[int, bool]]:
        pairs = [layer.maps[tensor] for layer in layers for tensor in layer.inputs]
        return [self._axis(axis) for pair in pairs for axis in pair]

    def _place(self, axis: AxisMap) -> int:
        return self._axis(axis)[0]

    def _axis(self, axis: AxisMap) -> tuple[int, bool]:
        """Place of its need, -1 where it has no table; does some output read nothing?"""
        if axis not in self._axes:
            table, place = need_table(axis), len(self.needs)
            if table is None:
                self._axes[axis] = -1, False
            else:
                self.needs = np.concatenate((self.needs, [axis.n_out + 1], table.reshape(-1)))
                self._axes[axis] = place, bool((table[0, :-1] >= table[1, 1:]).any())
        return self._axes[axis]

    def _layer(self, layer: Layer) -> int:
        row = self.layers[layer.name]
        if layer.name in self._known:
            return row
        self._known.add(layer.name)
        for d, device in enumerate(self.cluster.devices):
            speed = layer_speed(device, layer)
            self.seconds[row, :, d] = speed.overhead_s, layer.flop_per_pixel / speed.flop_per_s
        return row

    def _map(self, name: str) -> int:
        row = self.tensors[name]
        if name not in self._sent:
            self._sent.add(name)
            sent = wire(self.cluster, self.network, name)
            self.sizes[row] = sent.pixel_bytes, sent.rectangle_bytes, sent.encode_s, sent.decode_s
        return row


def _numbers(layers: Sequence[Layer]) -> dict[str, int]:
    """Tensors of a segment, the output first, external ones last."""
    names = dict.fromkeys([layer.name for layer in reversed(layers)])
    names |= dict.fromkeys(external_inputs(layers))
    return {name: k for k, name in enumerate(names)}
