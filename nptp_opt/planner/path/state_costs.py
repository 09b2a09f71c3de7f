"""Costs of steps whose states are templates: every candidate on every map, costed at once.

Legend of shapes: P candidates before a step (1 where only the inputs are there), Q candidates of
its output, n devices; a tile is four integers (y0, y1, x0, x1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from nptp_opt.cluster import Cluster
from nptp_opt.cost import (
    CandidateTiles,
    FloatArray,
    LoadArrays,
    StepCosts,
    candidate_array,
    comms_s,
    gather_costs,
    input_ownership,
    reduction_load_arrays,
    segment_costs,
)
from nptp_opt.cost.objectives import Weights, step_costs, step_values
from nptp_opt.evaluate.assemble import Choice
from nptp_opt.geometry import IntArray
from nptp_opt.network.ir import Layer, Network
from nptp_opt.planner.candidates.templates import Template, TemplateStack, snaps
from nptp_opt.planner.path.units import is_segment

Owners = dict[str, IntArray]
"""Owners (P, n, 4) of the tensors that are alive before a step."""

BoolArray = npt.NDArray[np.bool_]


KEPT_BYTES = 1e8
"""Of segments' costs, at most, for other links."""


class StateCosts:
    """``templates`` as partitions of every map of ``network``, and what steps between them cost.

    ``like`` are costs of templates that include these, on a cluster that differs in its links
    alone: what segments read and compute is taken from there.
    """

    def __init__(
        self,
        network: Network,
        cluster: Cluster,
        templates: Sequence[Template],
        weights: Weights | None = None,
        like: StateCosts | None = None,
    ) -> None:
        self.weights = weights
        self.network, self.cluster, self.templates = network, cluster, templates
        self._stack = TemplateStack(templates, len(cluster.devices))
        self._snaps = snaps(network)
        self._arrays: dict[tuple[int, int, int, int], CandidateTiles] = {}
        self._like, self._rows = like, _rows(templates, like.templates) if like else None
        self._kept: dict[tuple[str, ...], StepCosts] = {}
        self._room = KEPT_BYTES

    def step_s(
        self, part: Sequence[Layer], unit: Sequence[Layer], before: Mapping[str, IntArray]
    ) -> FloatArray | None:
        """Makespans (P or 1, Q) of one step inside a unit; None where it can be none."""
        made = {layer.name: layer for layer in unit}
        if len(part) == 1 and part[0].kind == "global":
            return step_costs(self.cluster, self._reduction(part[0], made, before), self.weights)
        if not is_segment(self.network, part):
            return None
        costs, outer, inner = self._reads(part, made, before)
        return costs.makespans(outer, inner, weights=self.weights)

    def whole_s(self, costs: StepCosts, before: Owners, worth: BoolArray) -> FloatArray:
        """Makespans (P, Q) of a segment that reads nothing but what is there ``before`` it."""
        return costs.makespans(_read_owners(costs, before), worth=worth, weights=self.weights)

    def step_values(
        self,
        part: Sequence[Layer],
        unit: Sequence[Layer],
        before: Mapping[str, IntArray],
        rows: Sequence[Weights],
    ) -> FloatArray | None:
        """As ``step_s`` under every one of ``rows``: (P or 1, Q, R)."""
        made = {layer.name: layer for layer in unit}
        if len(part) == 1 and part[0].kind == "global":
            return step_values(self.cluster, self._reduction(part[0], made, before), rows)
        if not is_segment(self.network, part):
            return None
        costs, outer, inner = self._reads(part, made, before)
        return step_values(self.cluster, costs.loads(outer, inner), rows)

    def _reads(
        self, part: Sequence[Layer], made: Mapping[str, Layer], before: Mapping[str, IntArray]
    ) -> tuple[StepCosts, Owners, Owners]:
        """Costs of a segment, and the owners of what it reads: from before, and made inside."""
        costs = self.segment(part)
        outer = _read_owners(costs, before)
        inner = {tensor: self.tiles(made[tensor]) for tensor in costs.needs if tensor in made}
        return costs, outer, inner

    def _reduction(
        self, layer: Layer, made: Mapping[str, Layer], before: Mapping[str, IntArray]
    ) -> LoadArrays:
        count, n = len(self.templates), len(self.cluster.devices)
        owners = np.zeros((1, 1, n, 4), dtype=np.int64)
        if layer.reduces:
            tensor = layer.nodes[0].inputs[0]
            inside = tensor in made
            known = self.tiles(made[tensor])[None] if inside else before[tensor][:, None]
            owners = np.asarray(known)
        users = np.broadcast_to(self._users(layer), (count, n))
        return reduction_load_arrays(self.cluster, self.network, layer, owners, users)

    def _users(self, layer: Layer) -> BoolArray:
        """Which devices use a global layer's result, by candidate: (Q, n)."""
        users = np.zeros((len(self.templates), len(self.cluster.devices)), dtype=bool)
        for reader in (self.network.by_name[name] for name in self.network.consumers[layer.name]):
            if reader.kind == "spatial":
                tiles = self.tiles(reader)
                users |= (tiles[..., 1] > tiles[..., 0]) & (tiles[..., 3] > tiles[..., 2])
            elif reader.kind == "global":
                users |= self._users(reader)
            else:
                users[:, self.cluster.sink] = True
        if layer.name in self.network.spatial_outputs:
            users[:, self.cluster.sink] = True
        return users

    def segment(self, layers: Sequence[Layer]) -> StepCosts:
        """Costs of one segment for all candidates of its output."""
        if self._like is None:
            return segment_costs(self.cluster, self.network, layers, self.candidates(layers[-1]))
        known, rows = self._like.kept(layers), self._rows
        needs = {tensor: tiles[rows] for tensor, tiles in known.needs.items()}
        return StepCosts(self.cluster, self.network, needs, known.compute_s[rows])

    def kept(self, layers: Sequence[Layer]) -> StepCosts:
        """As ``segment``, and kept while there is room."""
        names = tuple(layer.name for layer in layers)
        found = self._kept.get(names) or self.segment(layers)
        if names not in self._kept and self._room > 0:
            self._kept[names] = found
            arrays = (found.compute_s, *found.needs.values())
            self._room -= sum(array.nbytes for array in arrays)
        return found

    def tiles(self, layer: Layer) -> IntArray:
        """All candidates on one layer's map, shape (Q, n, 4)."""
        return self.candidates(layer).array

    def candidates(self, layer: Layer) -> CandidateTiles:
        """All candidates on one layer's map."""
        key = (layer.height, layer.width, *self._snaps[layer.name])
        if key not in self._arrays:
            self._arrays[key] = CandidateTiles(self._stack.place(key[:2], key[2:]))
        return self._arrays[key]

    def inputs(self) -> Owners:
        """Owners (1, n, 4) of the network's inputs."""
        n = len(self.cluster.devices)
        held = input_ownership(self.network, self.cluster)
        return {name: candidate_array([tiles], n) for name, tiles in held.items()}

    def before(self, passed: Sequence[Sequence[Layer]]) -> Owners:
        """Owners of what is alive behind units: (P, n, 4) of the last one's output, and (1, n, 4)
        of the network's inputs, which any layer may read again."""
        if not passed:
            return self.inputs()
        last = passed[-1][-1]
        return self.inputs() | {last.name: self.tiles(last)}

    def followed_s(self) -> FloatArray:
        """Latencies (Q,) of one template on all layers, each a segment of its own."""
        total = np.zeros(len(self.templates)) + self.collect_s()
        return np.asarray(total + np.sum(list(self.layers_s().values()), axis=0))

    def layers_s(self) -> dict[str, FloatArray]:
        """Makespans (Q,) of every layer as a segment of its own, all layers on one template."""
        layers, inputs = self.network.shared_out, self.inputs()
        return {layer.name: self.alone_s(layer, layers, inputs)[0] for layer in layers}

    def alone_s(self, layer: Layer, made: Sequence[Layer], before: Owners) -> FloatArray:
        """Makespans (P or 1, Q) of one layer as a step of its own: see ``step_s``."""
        seconds = self.step_s((layer,), made, before)
        assert seconds is not None, "a single layer is always a segment"
        return seconds

    def exchange_s(self, layer: Layer) -> FloatArray:
        """Seconds (Q, n) of the halos of one spatial layer whose inputs are cut likewise."""
        costs = self.segment((layer,))
        held = {tensor: self._unsnapped(tensor) for tensor in costs.needs}
        return np.asarray(comms_s(self.cluster, costs.loads({}, held))[0])

    def _unsnapped(self, tensor: str) -> IntArray:
        """All candidates on any tensor's map, cuts not snapped: (Q, n, 4)."""
        full, layer = self.network.full(tensor), self.network.by_name.get(tensor)
        if layer is not None and layer.is_whole:
            return self.tiles(layer)
        return self._stack.place((full.y1, full.x1))

    def switched_s(
        self, fused: Sequence[Layer], rest: Sequence[Layer], alone: Mapping[str, FloatArray]
    ) -> FloatArray:
        """Latencies (Q,) of ``fused`` as one segment on template 0, then ``rest`` on template q.

        ``alone`` are the costs of the single layers (``layers_s``).
        """
        last, inputs = fused[-1], self.inputs()
        costs = self.segment(fused)
        first = costs.makespans(_read_owners(costs, inputs))[0, 0]
        held = {last.name: self.tiles(last)[:1]}
        total = np.full(len(self.templates), first) + self.collect_s(held)
        for layer in rest:
            if last.name in layer.inputs:
                total = total + self.alone_s(layer, rest, held | inputs)[0]
            else:
                total = total + alone[layer.name]
        return np.asarray(total)

    def collect_s(self, held: Mapping[str, IntArray] | None = None) -> FloatArray:
        """Seconds (P,) of the last step: the head, or collecting the results, at the sink.

        ``held`` names owners (1, n, 4) of tensors that do not lie on the candidates.
        """
        costs, owners = self._collects(held)
        return np.asarray(costs.makespans(owners, weights=self.weights)[:, 0])

    def collect_values(self, rows: Sequence[Weights]) -> FloatArray:
        """As ``collect_s`` under every one of ``rows``: (P, R)."""
        costs, owners = self._collects()
        return step_values(self.cluster, costs.loads(owners), rows)[:, 0]

    def _collects(self, held: Mapping[str, IntArray] | None = None) -> tuple[StepCosts, Owners]:
        costs = gather_costs(
            self.cluster,
            self.network,
            self.network.head,
            self.cluster.sink,
            self.network.spatial_outputs,
        )
        inputs = self.inputs() | dict(held or {})
        owners = {
            name: inputs[name] if name in inputs else self.tiles(self.network.by_name[name])
            for name in costs.needs
        }
        return costs, owners

    def choice(self, layers: tuple[Layer, ...], template: Template) -> Choice:
        """``template`` on the output of ``layers``."""
        last = layers[-1]
        if last.kind == "global":
            return Choice(layers)
        return Choice(layers, template.at(last.height, last.width, self._snaps[last.name]))


def _rows(some: Sequence[Template], templates: Sequence[Template]) -> IntArray | slice:
    """Places of ``some`` of the templates among all."""
    if len(some) == len(templates):
        return slice(None)
    places = {id(template): k for k, template in enumerate(templates)}
    return np.array([places[id(template)] for template in some], dtype=np.int64)


def _read_owners(costs: StepCosts, before: Mapping[str, IntArray]) -> Owners:
    """Of what is there before a step, that which it reads."""
    return {tensor: owners for tensor, owners in before.items() if tensor in costs.needs}
