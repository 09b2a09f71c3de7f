"""Transport over plain TCP: one connection per pair of ranks, authenticated, nothing copied.

A rank sends its messages one after the other in the order in which they were posted, as the cost
model has it: two messages that share a link would both arrive at the end of the second. So one to
another peer begins when the one before it has left, not when its socket has taken it. Received
bytes go straight into the posted buffer. The peers prove to each other that they know the secret;
what follows is encrypted and authenticated where they have certificates (``tls``), else neither.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import logging
import os
import queue
import socket
import struct
import threading
import time
from collections import defaultdict
from typing import Any

from nptp_opt.errors import printable
from nptp_opt.kernels.crops import Array
from nptp_opt.runtime.transport.base import Arrival, PeerError, Rendezvous
from nptp_opt.runtime.transport.control import Channel, ChannelError, Stream, accepted
from nptp_opt.runtime.transport.handshake import (
    HANDSHAKE_TIMEOUT_S,
    Party,
    admit,
    device,
    join,
    require,
)

log = logging.getLogger(__name__)

FRAME = struct.Struct("!IQ")
SIOCGIFADDR = 0x8915
UNSENT_BYTES = 16 * 2**10
"""A socket takes no more while it has as much that has not left, so less than half of it is left of
a message when the next one begins. By its buffer alone it would take 200 kB and more."""

CLOSING_S = 1.0
"""How long a thread that was woken by the closing of its socket may take to end."""


class _Posted:
    """A receive that is waited for, or a message that is about to leave."""

    def __init__(
        self, peer: int, tag: int, buffer: Array, delay_s: float = 0.0, *, shorter: bool = False
    ) -> None:
        self.peer, self.tag, self.delay_s, self.shorter = peer, tag, delay_s, shorter
        self.buffer = buffer.data.cast("B") if buffer.size else memoryview(b"")
        self.done = threading.Event()
        self.error: str | None = None
        self.sent = 0
        """Bytes of frame and buffer that have left."""
        self.received = 0
        self.arrival: Arrival | None = None

    def wait(self) -> int:
        self.done.wait()
        if self.error is not None:
            raise PeerError(self.peer, self.error)
        rest = self.ended + self.delay_s - time.monotonic()
        if rest > 0:
            time.sleep(rest)
        return self.received

    def end(self, error: str | None = None) -> None:
        self.error, self.ended = error, time.monotonic()
        self.done.set()


class TcpTransport:
    """All pairs of ranks connected: a rank listens to the higher ones and calls the lower ones."""

    posts_ahead = True

    def __init__(self, rendezvous: Rendezvous) -> None:
        self.rank, self.keys = rendezvous.rank, rendezvous.keys
        self.names, self.size = rendezvous.names, rendezvous.size
        self.delay_s = rendezvous.delay_s
        self.channels: dict[int, Channel] = {}
        self.lost: dict[int, str] = {}
        self.posted: dict[tuple[int, int], list[_Posted]] = defaultdict(list)
        self.changed = threading.Condition()
        self.outgoing: queue.SimpleQueue[_Posted | None] = queue.SimpleQueue()
        self.sending = threading.Lock()
        self.behind = 0
        """Messages that the sending thread has yet to finish."""
        self.leaving: Channel | None = None
        """Which connection took the last message."""
        self._meet(rendezvous)
        self.threads = [threading.Thread(target=self._send_all, daemon=True)]
        for peer in self.channels:
            self.threads.append(
                threading.Thread(target=self._receive_all, args=(peer,), daemon=True)
            )
        for thread in self.threads:
            thread.start()

    # -- meeting -------------------------------------------------------------------------------

    def _meet(self, rendezvous: Rendezvous) -> None:
        here = (address_of(rendezvous.interface), 0)
        with socket.create_server(here, backlog=64) as server:
            addresses = rendezvous.meet("{}:{}".format(*server.getsockname()))
            for peer in range(self.rank):
                self._keep(peer, self._call(peer, addresses[peer], here))
            threading.Thread(target=self._accept, args=(server,), daemon=True).start()
            with self.changed:
                while len(self.channels) < rendezvous.size - 1:
                    self.changed.wait()
            server.shutdown(socket.SHUT_RDWR)

    def _party(self, rank: int) -> Party | None:
        """Who a rank has to be, where that is known."""
        return device(self.names[rank]) if self.names else None

    def _call(self, peer: int, address: str, here: tuple[str, int]) -> Channel:
        """Connect from the one interface that this rank may use, whatever the routes are."""
        host, _, port = address.rpartition(":")
        channel = Channel(socket.create_connection((host, int(port)), source_address=here))
        join(channel, self.keys, {"rank": self.rank}, self._party(peer))
        return channel

    def _accept(self, server: socket.socket) -> None:
        """Hear everybody at once: a stranger that says nothing must not keep the others waiting."""
        for sock in accepted(server):  # until all are there
            threading.Thread(target=self._admit, args=(sock,), daemon=True).start()

    def _admit(self, sock: socket.socket) -> None:
        channel = Channel(sock)
        channel.settimeout(HANDSHAKE_TIMEOUT_S)
        try:
            hello, proof = admit(channel, self.keys)
            rank = self._caller(hello)
            party = self._party(rank)
            if party is not None:
                require(channel, party)
            channel.send("welcome", mac=proof)
        except (ChannelError, KeyError, ValueError, TypeError) as error:
            log.warning(
                "refused a connection from %s: %s", channel.other_host, printable(str(error))
            )
            channel.close()
            return
        channel.settimeout(None)
        self._keep(rank, channel)

    def _caller(self, hello: dict[str, Any]) -> int:
        """Which of the ranks that have to call says hello; raises ValueError for any other."""
        rank = int(hello["rank"])
        if not self.rank < rank < self.size:
            raise ValueError(f"rank {rank} of {self.size} does not call rank {self.rank}")
        return rank

    def _keep(self, peer: int, channel: Channel) -> None:
        channel.keep_unsent(UNSENT_BYTES)
        with self.changed:
            self.channels[peer] = channel
            self.changed.notify_all()

    # -- the interface -------------------------------------------------------------------------

    def receive(self, peer: int, tag: int, buffer: Array, *, shorter: bool = False) -> _Posted:
        posted = _Posted(peer, tag, buffer, self.delay_s, shorter=shorter)
        with self.changed:
            if peer in self.lost:
                posted.end(self.lost[peer])
            else:
                self.posted[peer, tag].append(posted)
                self.changed.notify_all()
        return posted

    def send(self, peer: int, tag: int, buffer: Array) -> _Posted:
        posted = _Posted(peer, tag, buffer)
        with self.sending:
            if self.behind or not self._is_free(peer) or not self._sent_at_once(posted):
                self.behind += 1
                self.outgoing.put(posted)
        return posted

    def _is_free(self, peer: int, wait_ms: int | None = 0) -> bool:
        """Has the last message left? One to the same peer follows it on its connection; where
        ``wait_ms`` is None this waits for it."""
        last = self.leaving
        return last is None or last is self.channels[peer] or last.is_writable(wait_ms)

    def _sent_at_once(self, message: _Posted) -> bool:
        """Hand over what the socket takes now: a small message needs no other thread."""
        header = FRAME.pack(message.tag, len(message.buffer))
        try:
            self.leaving = self.channels[message.peer]
            stream = self.leaving.stream
            message.sent = stream.sendmsg([header, message.buffer], [], socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError as error:
            message.end(f"send failed: {error}")
            return True
        if message.sent < len(header) + len(message.buffer):
            return False
        message.end()
        return True

    def close(self) -> None:
        self.outgoing.put(None)
        for channel in self.channels.values():
            channel.close()
        for peer in self.channels:
            self._lose(peer, "closed")
        for thread in self.threads:
            thread.join(CLOSING_S)

    # -- threads -------------------------------------------------------------------------------

    def _send_all(self) -> None:
        while (message := self.outgoing.get()) is not None:
            try:
                self._is_free(message.peer, None)
                self.leaving = self.channels[message.peer]
                _send_rest(self.leaving.stream, message)
                message.end()
            except OSError as error:
                message.end(f"send failed: {error}")
            with self.sending:
                self.behind -= 1

    def _receive_all(self, peer: int) -> None:
        try:
            while True:
                self._receive_one(peer)
        except OSError as error:
            self._lose(peer, str(error))

    def _receive_one(self, peer: int) -> None:
        stream, header = self.channels[peer].stream, bytearray(FRAME.size)
        fill(stream, memoryview(header))
        tag, size = FRAME.unpack(header)
        posted = self._next(peer, tag)
        try:
            most = len(posted.buffer)
            if size > most or (size < most and not posted.shorter):
                raise OSError(f"sent {size} bytes instead of {most}")
            posted.arrival = fill(stream, posted.buffer[:size])
            posted.received = size
        except OSError as error:
            posted.end(str(error))
            raise
        posted.end()

    def _next(self, peer: int, tag: int) -> _Posted:
        with self.changed:
            while not self.posted[peer, tag]:
                if peer in self.lost:
                    raise OSError(self.lost[peer])
                self.changed.wait()
            return self.posted[peer, tag].pop(0)

    def _lose(self, peer: int, reason: str) -> None:
        with self.changed:
            self.lost.setdefault(peer, reason)
            for (sender, _), waiting in self.posted.items():
                for posted in waiting if sender == peer else ():
                    posted.end(self.lost[peer])
            self.changed.notify_all()


def fill(stream: Stream, view: memoryview) -> Arrival:
    """Receive as many bytes as ``view`` has; raises OSError where the connection ends before."""
    got = first = start_ns = 0
    while got < len(view):
        n = stream.recv_into(view[got:])
        if n == 0:
            raise OSError("connection closed")
        got += n
        if not first:
            first, start_ns = n, time.monotonic_ns()
    return Arrival(got - first, start_ns, time.monotonic_ns())


def _send_rest(stream: Stream, message: _Posted) -> None:
    header = FRAME.pack(message.tag, len(message.buffer))
    if message.sent < len(header):
        stream.sendall(header[message.sent :])
        message.sent = len(header)
    stream.sendall(message.buffer[message.sent - len(header) :])


def address_of(interface: str) -> str:
    """The IPv4 address of a network interface; an address is its own."""
    with contextlib.suppress(ValueError):
        return str(ipaddress.IPv4Address(interface))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("256s", os.fsencode(interface)[:15])
        answer: Any = fcntl.ioctl(sock.fileno(), SIOCGIFADDR, request)
    return socket.inet_ntoa(answer[20:24])
