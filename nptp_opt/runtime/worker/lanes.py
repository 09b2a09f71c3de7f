"""Several inputs on one device at a time: each in a lane with buffers, messages and a thread of its
own. One computes while the others wait for messages; the oldest input goes first.
"""

from __future__ import annotations

import heapq
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from nptp_opt.kernels.crops import Array
from nptp_opt.runtime.transport.base import Pending, Transport
from nptp_opt.runtime.transport.control import Message

CLOSING_S = 1.0
"""How long a lane may take to end when what it waits for is gone."""


class Turns:
    """Who computes: one at a time, of those that wish to the one with the lowest number."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._wishing: list[int] = []
        self._taken = False

    @contextmanager
    def of(self, number: int) -> Iterator[None]:
        """Wait for the turn, and have it within the block."""
        with self._changed:
            heapq.heappush(self._wishing, number)
            self._changed.wait_for(lambda: not self._taken and self._wishing[0] == number)
            heapq.heappop(self._wishing)
            self._taken = True
        try:
            yield
        finally:
            with self._changed:
                self._taken = False
                self._changed.notify_all()


class LaneTransport:
    """One lane's messages over the transport that all lanes of a job share."""

    def __init__(self, transport: Transport, lane: int, lanes: int) -> None:
        self.transport, self.lane, self.lanes = transport, lane, lanes
        self.posts_ahead = transport.posts_ahead

    def receive(self, peer: int, tag: int, buffer: Array, *, shorter: bool = False) -> Pending:
        tag = tag * self.lanes + self.lane
        return self.transport.receive(peer, tag, buffer, shorter=shorter)

    def send(self, peer: int, tag: int, buffer: Array) -> Pending:
        return self.transport.send(peer, tag * self.lanes + self.lane, buffer)

    def close(self) -> None:
        self.transport.close()


class Lanes:
    """A thread for each lane, which executes the inputs that are put into it one after the other.

    ``failed`` is told, in that thread, what goes wrong; the lane goes on.
    """

    def __init__(
        self,
        count: int,
        execute: Callable[[Message], None],
        failed: Callable[[Message, Exception], None],
    ) -> None:
        self.execute, self.failed = execute, failed
        self.inboxes: list[queue.SimpleQueue[Message | None]] = [
            queue.SimpleQueue() for _ in range(count)
        ]
        self.threads = [
            threading.Thread(target=self._work, args=(inbox,), daemon=True)
            for inbox in self.inboxes
        ]
        for thread in self.threads:
            thread.start()

    def put(self, lane: int, message: Message) -> None:
        """Have an input executed there."""
        self.inboxes[lane].put(message)

    def close(self) -> None:
        """End the threads; what they wait for has to be gone."""
        for inbox in self.inboxes:
            inbox.put(None)
        for thread in self.threads:
            thread.join(CLOSING_S)

    def _work(self, inbox: queue.SimpleQueue[Message | None]) -> None:
        while (message := inbox.get()) is not None:
            try:
                self.execute(message)
            except Exception as error:  # noqa: BLE001 - reported to the launcher, which decides
                self.failed(message, error)
