"""How tensors travel between devices: the interface (``transports`` has what implements it).

A transport joins all ranks of a job when it is made. Messages are matched by (peer, tag) in the
order in which they were posted; a buffer belongs to the transport until ``wait`` returns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


class Pending(Protocol):
    """A message on its way."""

    def wait(self) -> None:
        """Return when the buffer may be used; raises PeerError when the peer is lost."""
        ...


class Transport(Protocol):
    """Point-to-point messages of one rank."""

    def receive(self, peer: int, tag: int, buffer: Tensor) -> Pending:
        """Post a receive of rank ``peer``'s next message with ``tag`` into ``buffer``."""
        ...

    def send(self, peer: int, tag: int, buffer: Tensor) -> Pending:
        """Start to send the contiguous ``buffer`` to rank ``peer``."""
        ...

    def close(self) -> None: ...


class PeerError(Exception):
    """The connection to a rank broke."""

    def __init__(self, peer: int, reason: str) -> None:
        super().__init__(reason)
        self.peer = peer


Meet = Callable[[str], Sequence[str]]
"""Makes a rank's address known and returns those of all ranks, in order."""


@dataclass(frozen=True)
class Rendezvous:
    """Where the ranks of one job meet."""

    path: str | None
    """A path that all ranks can reach and that no other job uses; None without a common disk."""
    rank: int
    size: int
    interface: str
    """Name, or IPv4 address, of the only network interface that is bound."""
    secret: bytes
    """What ranks prove to each other, where the transport can."""
    meet: Meet
    """Tells the others this rank's address."""
    delay_s: float = 0.0
    """Added to every message's way, for a network that cannot delay by itself."""
