"""How tensors travel between devices: the interface (``registry`` has what implements it).

A transport joins all ranks of a job when it is made. Messages are matched by (peer, tag) in the
order in which they were posted; a buffer belongs to the transport until ``wait`` returns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from nptp_opt.kernels.crops import Array

if TYPE_CHECKING:
    from nptp_opt.runtime.transport.handshake import Keys


@dataclass(frozen=True)
class Arrival:
    """How a message came in: bytes between two moments of this machine's monotonic clock (ns).

    What was there at the first look is not counted: when it came is not known.
    """

    bytes: int
    start_ns: int
    end_ns: int


class Pending(Protocol):
    """A message on its way."""

    @property
    def arrival(self) -> Arrival | None:
        """Of a receive that has ended; None where the transport does not know."""
        ...

    def wait(self) -> int | None:
        """Return when the buffer may be used; raises PeerError when the peer is lost.

        Of a receive the bytes that came, None where they are not known.
        """
        ...


class Transport(Protocol):
    """Point-to-point messages of one rank."""

    posts_ahead: bool
    """May a receive be posted of a message that may never come? ``close`` ends it then."""

    def receive(self, peer: int, tag: int, buffer: Array, *, shorter: bool = False) -> Pending:
        """Post a receive of rank ``peer``'s next message with ``tag`` into ``buffer``.

        The message is as long as the buffer, or may be ``shorter``.
        """
        ...

    def send(self, peer: int, tag: int, buffer: Array) -> Pending:
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
    keys: Keys
    """What ranks prove themselves by, where the transport can."""
    meet: Meet
    """Tells the others this rank's address."""
    delay_s: float = 0.0
    """Added to every message's way, for a network that cannot delay by itself."""
    names: Sequence[str] = ()
    """The devices of all ranks, whose certificates they have to show; empty where any will do."""
