"""Messages of a step: all transfers between two devices, which travel together.

A message leaves when the pieces that it reads from are computed, and is there before the first
piece that reads it begins. A device computes its pieces in order, so of the one side the last piece
counts, of the other the first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nptp_opt.cost import Transfer, first_reader
from nptp_opt.geometry import Tile
from nptp_opt.network.ir import Network
from nptp_opt.plan.steps import SpatialStep, Step


@dataclass(frozen=True)
class StepMessage:
    """What device ``src`` sends to ``dst`` for one step."""

    src: int
    dst: int
    transfers: tuple[Transfer, ...]
    read_from: tuple[tuple[str, Tile], ...]
    """Maps that the sender has to have, and the rectangles of them that it reads."""
    piece: int
    """Number of the receiver's first piece that reads it."""

    @property
    def bytes(self) -> int:
        return sum(move.bytes for move in self.transfers)


def step_messages(network: Network, step: Step) -> list[StepMessage]:
    """The messages of a step, in the order of its transfers."""
    between: dict[tuple[int, int], list[Transfer]] = {}
    for move in step.transfers:
        between.setdefault((move.src, move.dst), []).append(move)
    return [
        StepMessage(
            src, dst, tuple(moves), _read_from(network, step, moves), _piece(network, step, moves)
        )
        for (src, dst), moves in between.items()
    ]


def _read_from(
    network: Network, step: Step, moves: Sequence[Transfer]
) -> tuple[tuple[str, Tile], ...]:
    """A partial of a reduction is read from all that its sender has."""
    found = dict[tuple[str, Tile], None]()
    for move in moves:
        source = step.source_of(network, move.tensor)
        found[source, move.tile if source == move.tensor else network.full(source)] = None
    return tuple(found)


def _piece(network: Network, step: Step, moves: Sequence[Transfer]) -> int:
    parts = step.pieces_of(moves[0].dst)
    return first_reader(step.layers_of(network), parts, moves) if len(parts) > 1 else 0


def complete_after(
    network: Network, makers: Mapping[str, tuple[int, Step]], message: StepMessage
) -> tuple[int, int] | None:
    """Step and number of the piece after which its sender has all that a message carries; None for
    the network's inputs. ``makers`` are the steps that make the maps."""
    last = None
    for tensor, tile in message.read_from:
        if tensor in makers:
            number, step = makers[tensor]
            done = number, _last_piece(step, message.src, tile)
            last = done if last is None else max(last, done)
    return last


def _last_piece(step: Step, device: int, tile: Tile) -> int:
    parts = step.pieces_of(device)
    if not isinstance(step, SpatialStep):
        return 0
    meeting = [k for k, part in enumerate(parts) if not part.intersect(tile).is_empty]
    return max(meeting, default=len(parts) - 1)
