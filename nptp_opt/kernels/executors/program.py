"""Tile programs: what one device computes between two exchanges, with every shape known.

A program is a list of layer calls on named values. Each call makes one rectangle of its layer's
output, or the whole of it; each reads values that hold at least what that takes. A segment's piece
is a program, and so is a run of steps between which the device neither receives nor sends.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from nptp_opt.errors import InputError
from nptp_opt.geometry import EMPTY, Tile
from nptp_opt.network.exact import Exact
from nptp_opt.network.ir import Layer, external_inputs, regions

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Given:
    """A rectangle of a tensor that a program is handed under ``name``; its shape in elements."""

    name: str
    tensor: str
    tile: Tile
    shape: Shape


@dataclass(frozen=True)
class Call:
    """One layer on one rectangle. ``reads`` maps the tensors that it reads to names of values.

    Where ``whole`` is set all inputs are whole tensors, and so is the output.
    """

    layer: Layer
    tile: Tile
    reads: Mapping[str, str]
    whole: bool

    @property
    def shape(self) -> Shape:
        """Of the value that it makes, which has the layer's name."""
        if self.whole:
            return self.layer.shape
        return (*self.layer.shape[:2], self.tile.height, self.tile.width)

    @property
    def weight_keys(self) -> frozenset[str]:
        """State keys of the weights that it reads."""
        return frozenset(key for node in self.layer.nodes for key in node.params.values())


@dataclass(frozen=True)
class TileProgram:
    """Calls in topological order; ``outputs`` are names of values that they make.

    ``exact`` is what is known of every element of a tensor, ``params`` are the shapes of weights by
    state key, where they are known.
    """

    inputs: tuple[Given, ...]
    calls: tuple[Call, ...]
    outputs: tuple[str, ...]
    exact: Mapping[str, Exact] = field(default_factory=dict)
    params: Mapping[str, Shape] = field(default_factory=dict)

    @cached_property
    def regions(self) -> Mapping[str, Tile]:
        """The rectangle of every value, by name; EMPTY for a tensor that is no map."""
        given = {value.name: value.tile for value in self.inputs}
        return given | {call.layer.name: call.tile for call in self.calls}

    @cached_property
    def shapes(self) -> Mapping[str, Shape]:
        """The shape of every value, by name."""
        given = {value.name: value.shape for value in self.inputs}
        return given | {call.layer.name: call.shape for call in self.calls}

    @property
    def rounds(self) -> bool:
        """Does it round to whole numbers or to a shorter type?

        Which of two steps a value takes is for float32 rounding to decide, and what follows is
        moved by it: engines are compared on each call alone.
        """
        return any(node.op in ("round", "cast") for call in self.calls for node in call.layer.nodes)

    @property
    def alone(self) -> Iterator[TileProgram]:
        """Each call as a program, which is handed what the call reads by the names of this one."""
        regions, shapes = self.regions, self.shapes
        for call in self.calls:
            given = {
                name: Given(name, tensor, regions[name], shapes[name])
                for tensor, name in call.reads.items()
            }
            made = (call.layer.name,)
            yield TileProgram(tuple(given.values()), (call,), made, self.exact, self.params)


@dataclass(frozen=True)
class Part:
    """Layers that are computed together: ``tile`` of the last one, or all of them ``whole``.

    ``needs`` are the rectangles of the tensors that they read.
    """

    layers: Sequence[Layer]
    tile: Tile
    needs: Mapping[str, Tile]
    whole: bool = False

    @property
    def regions(self) -> dict[str, Tile]:
        """The rectangle that is computed of every layer."""
        if self.whole:
            return {layer.name: whole_of(layer.shape) for layer in self.layers}
        return regions(self.layers, self.tile)


def whole_of(shape: Shape) -> Tile:
    """All of a map's rows and columns; EMPTY for a tensor that is no map."""
    return Tile(0, shape[2], 0, shape[3]) if len(shape) == 4 else EMPTY


def tile_program(
    parts: Sequence[Part],
    shapes: Mapping[str, Shape],
    wanted: Collection[str],
    exact: Mapping[str, Exact] | None = None,
    params: Mapping[str, Shape] | None = None,
) -> TileProgram:
    """The program of ``parts``, one after the other; ``wanted`` of what they make is handed on.

    ``shapes`` are those of whole tensors, ``exact`` is what is known of their elements, ``params``
    are shapes of weights. A part
    reads what an earlier one made; everything else is given, each rectangle once. Raises InputError
    where a part made less than a later one needs.
    """
    given: dict[tuple[str, Tile], Given] = {}
    made: dict[str, Tile] = {}
    calls: list[Call] = []
    for part in parts:
        found = part.regions
        outside = {
            tensor: _outside(tensor, part.needs, made, given, shapes)
            for tensor in external_inputs(part.layers)
        }
        for layer in part.layers:
            reads = {tensor: outside.get(tensor, tensor) for tensor in layer.inputs}
            calls.append(Call(layer, found[layer.name], reads, part.whole))
        made |= {layer.name: found[layer.name] for layer in part.layers}
    outputs = tuple(name for name in made if name in wanted)
    return TileProgram(tuple(given.values()), tuple(calls), outputs, exact or {}, params or {})


def _outside(
    tensor: str,
    needs: Mapping[str, Tile],
    made: Mapping[str, Tile],
    given: dict[tuple[str, Tile], Given],
    shapes: Mapping[str, Shape],
) -> str:
    """The name of the value in which a part finds a tensor that it does not make itself."""
    shape = shapes[tensor]
    need = needs.get(tensor, whole_of(shape))
    if tensor in made:
        if not made[tensor].contains(need):
            raise InputError(f"{need} of {tensor!r} is needed, and only {made[tensor]} was made")
        return tensor
    if (tensor, need) not in given:
        size = (*shape[:2], need.height, need.width) if len(shape) == 4 else shape
        given[tensor, need] = Given(f"{tensor}@{len(given)}", tensor, need, size)
    return given[tensor, need].name
