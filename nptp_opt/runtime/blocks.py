"""A device's tasks between two exchanges, and the tile programs that they make.

A task that receives begins a block, and one that sends ends it: everything between is one program.
A task that overlaps is alone, and each of its pieces is a program; a reduction of partials is
alone, too, and is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from nptp_opt.geometry import Tile
from nptp_opt.kernels.executors.program import Part, TileProgram, tile_program
from nptp_opt.network.ir import Network
from nptp_opt.runtime.device_program import DeviceProgram, Task

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
    alone = block.combines or block.last.overlap or task.overlap
    return not (alone or block.last.sends or task.receives)


def block_program(block: Block, program: DeviceProgram, network: Network) -> TileProgram:
    """What a block computes; handed on is what later blocks, other devices or the result need."""
    parts = [_part(task, network) for task in block.tasks]
    return tile_program(parts, network.shapes, _wanted(block.last, program.results, network))


def programs(program: DeviceProgram, network: Network) -> dict[Key, TileProgram]:
    """All tile programs of a device, in order."""
    found: dict[Key, TileProgram] = {}
    for block in blocks(program, network):
        task = block.first
        for piece in (*task.ahead, *task.rim):
            part = Part(task.layers, piece.tile, piece.needs)
            wanted = [task.layers[-1].name]
            found[task.step, piece.tile] = tile_program([part], network.shapes, wanted)
        if not block.combines and not task.overlap:
            found[task.step, task.tile] = block_program(block, program, network)
    return found


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
