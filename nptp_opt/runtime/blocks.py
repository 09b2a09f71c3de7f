"""A device's tasks between two exchanges, and the tile programs that they make.

A task that receives begins a block, and one that sends ends it: everything between is one program.
A task in several pieces is alone, and each of them is a program. A reduction of partials is
alone, too: every executor puts them together alike, and what is folded onto it is a program.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from nptp_opt.geometry import Tile
from nptp_opt.kernels.executors.program import Part, TileProgram, tile_program
from nptp_opt.network.ir import Layer, Network
from nptp_opt.runtime.device_program import DeviceProgram, Task
from nptp_opt.runtime.trace import Shares, shares_of

Key = tuple[int, Tile]
"""The step of a tile program's first task, and the tile or the piece of it that is computed."""


@dataclass(frozen=True)
class Block:
    """Consecutive tasks; ``combines`` says that it puts the partials of a reduction together."""

    tasks: tuple[Task, ...]
    combines: bool = False

    @property
    def first(self) -> Task:
        return self.tasks[0]

    @property
    def last(self) -> Task:
        return self.tasks[-1]

    @cached_property
    def modelled_s(self) -> float:
        """Compute seconds that the cost model gives its tasks."""
        return sum(task.modelled_s for task in self.tasks)

    @cached_property
    def shares(self) -> Shares:
        """Each task's share of what computing all of them takes, as the model has it."""
        return shares_of([(task.step, task.modelled_s) for task in self.tasks])


def blocks(program: DeviceProgram, network: Network) -> tuple[Block, ...]:
    """All tasks of a device, in blocks that are as long as they can be."""
    found: list[Block] = []
    tiles: dict[str, Tile] = {}
    for task in program.tasks:
        combines = _combines(task, network, tiles)
        tiles |= {layer.name: task.tile for layer in task.layers[-1:]}
        if found and not combines and _follows(found[-1], task):
            found[-1] = Block((*found[-1].tasks, task))
        else:
            found.append(Block((task,), combines))
    return tuple(found)


def _combines(task: Task, network: Network, tiles: dict[str, Tile]) -> bool:
    """Does the task need partials? Not where this device has made the whole map itself."""
    if task.kind != "global" or not task.layers[-1].reduces:
        return False
    source = task.layers[-1].nodes[0].inputs[0]
    return bool(task.receives) or tiles.get(source) != network.full(source)


def _follows(block: Block, task: Task) -> bool:
    """Does nothing travel between a block and the next task?"""
    alone = block.combines or block.last.pieces or task.pieces
    return not (alone or block.last.sends or task.receives)


def block_program(block: Block, program: DeviceProgram, network: Network) -> TileProgram:
    """What a block computes; handed on is what later blocks, other devices or the result need."""
    parts = [_part(task, network) for task in block.tasks]
    wanted = _wanted(block.last, program.results, network)
    return tile_program(parts, network.shapes, wanted, network.exact, network.params)


def programs(program: DeviceProgram, network: Network) -> dict[Key, TileProgram]:
    """All tile programs of a device, in order."""
    found: dict[Key, TileProgram] = {}
    for block in blocks(program, network):
        task = block.first
        for piece in task.pieces:
            part = Part(task.layers, piece.tile, piece.needs)
            wanted = [task.layers[-1].name]
            found[task.step, piece.tile] = tile_program(
                [part], network.shapes, wanted, network.exact, network.params
            )
        if block.combines and len(task.layers[-1].nodes) > 1:
            found[task.step, task.tile] = folded_program(task.layers[-1], network)
        elif not block.combines and not task.pieces:
            found[task.step, task.tile] = block_program(block, program, network)
    return found


def folded_program(layer: Layer, network: Network) -> TileProgram:
    """What is folded onto a reduction, from the reduction's result and other small tensors."""
    anchor, *rest = layer.nodes
    small = [name for name in layer.inputs if name not in anchor.inputs]
    folded = replace(layer, nodes=tuple(rest), inputs=(anchor.name, *small))
    part = Part((folded,), layer.full, {}, whole=True)
    return tile_program([part], {**network.shapes, anchor.name: anchor.shape}, [layer.name])


def _part(task: Task, network: Network) -> Part:
    if task.kind == "spatial":
        return Part(task.layers, task.tile, task.needs)
    return Part(task.layers, task.tile, task.needs, whole=True)


def _wanted(last: Task, results: Sequence[str], network: Network) -> set[str]:
    sent = {part.tensor for message in last.sends for part in message.parts}
    reduced = {
        network.by_name[name].nodes[0].inputs[0]
        for name in sent
        if name in network.by_name and network.by_name[name].reduces
    }
    return {*last.keep, *sent, *reduced, *results}
