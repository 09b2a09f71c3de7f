"""Transport over plain TCP: one connection per pair of ranks, authenticated, nothing copied.

A rank sends its messages one after the other in the order in which they were posted, as the cost
model has it: two messages that share a link would both arrive at the end of the second. Received
bytes go straight into the posted buffer. The peers prove to each other that they know the secret;
what follows is neither encrypted nor signed.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import os
import queue
import socket
import struct
import threading
import time
from collections import defaultdict
from typing import Any

from torch import Tensor

from nptp_opt.runtime.transport.base import PeerError, Rendezvous
from nptp_opt.runtime.transport.control import (
    HANDSHAKE_TIMEOUT_S,
    Channel,
    ChannelError,
    admit,
    join,
)

FRAME = struct.Struct("!IQ")
SIOCGIFADDR = 0x8915
SEND_BUFFER_BYTES = 128 * 2**10
"""Small, so that a message has nearly left before the next one begins."""

CLOSING_S = 1.0
"""How long a thread that was woken by the closing of its socket may take to end."""


class _Posted:
    """A receive that is waited for, or a message that is about to leave."""

    def __init__(self, peer: int, tag: int, buffer: Tensor, delay_s: float = 0.0) -> None:
        self.peer, self.tag, self.delay_s = peer, tag, delay_s
        self.buffer = buffer.numpy().data.cast("B") if buffer.numel() else memoryview(b"")
        self.done = threading.Event()
        self.error: str | None = None
        self.sent = 0
        """Bytes of frame and buffer that have left."""

    def wait(self) -> None:
        self.done.wait()
        if self.error is not None:
            raise PeerError(self.peer, self.error)
        rest = self.ended + self.delay_s - time.monotonic()
        if rest > 0:
            time.sleep(rest)

    def end(self, error: str | None = None) -> None:
        self.error, self.ended = error, time.monotonic()
        self.done.set()


class TcpTransport:
    """All pairs of ranks connected: a rank listens to the higher ones and calls the lower ones."""

    def __init__(self, rendezvous: Rendezvous) -> None:
        self.rank, self.secret = rendezvous.rank, rendezvous.secret
        self.delay_s = rendezvous.delay_s
        self.sockets: dict[int, socket.socket] = {}
        self.lost: dict[int, str] = {}
        self.posted: dict[tuple[int, int], list[_Posted]] = defaultdict(list)
        self.changed = threading.Condition()
        self.outgoing: queue.SimpleQueue[_Posted | None] = queue.SimpleQueue()
        self.sending = threading.Lock()
        self.behind = 0
        """Messages that the sending thread has yet to finish."""
        self._meet(rendezvous)
        self.threads = [threading.Thread(target=self._send_all, daemon=True)]
        for peer in self.sockets:
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
                self._keep(peer, self._call(addresses[peer], here))
            threading.Thread(target=self._accept, args=(server,), daemon=True).start()
            with self.changed:
                while len(self.sockets) < rendezvous.size - 1:
                    self.changed.wait()
            server.shutdown(socket.SHUT_RDWR)

    def _call(self, address: str, here: tuple[str, int]) -> socket.socket:
        """Connect from the one interface that this rank may use, whatever the routes are."""
        host, _, port = address.rpartition(":")
        sock = socket.create_connection((host, int(port)), source_address=here)
        join(Channel(sock), self.secret, {"rank": self.rank})
        return sock

    def _accept(self, server: socket.socket) -> None:
        """Hear everybody at once: a stranger that says nothing must not keep the others waiting."""
        while True:
            try:
                sock, _ = server.accept()
            except OSError:  # all are there
                return
            threading.Thread(target=self._admit, args=(sock,), daemon=True).start()

    def _admit(self, sock: socket.socket) -> None:
        channel = Channel(sock)
        channel.settimeout(HANDSHAKE_TIMEOUT_S)
        try:
            hello, proof = admit(channel, self.secret)
            rank = int(hello["rank"])
            channel.send("welcome", mac=proof)
        except (ChannelError, KeyError, ValueError, TypeError):
            channel.close()
            return
        channel.settimeout(None)
        self._keep(rank, sock)

    def _keep(self, peer: int, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        with self.changed:
            self.sockets[peer] = sock
            self.changed.notify_all()

    # -- the interface -------------------------------------------------------------------------

    def receive(self, peer: int, tag: int, buffer: Tensor) -> _Posted:
        posted = _Posted(peer, tag, buffer, self.delay_s)
        with self.changed:
            if peer in self.lost:
                posted.end(self.lost[peer])
            else:
                self.posted[peer, tag].append(posted)
                self.changed.notify_all()
        return posted

    def send(self, peer: int, tag: int, buffer: Tensor) -> _Posted:
        posted = _Posted(peer, tag, buffer)
        with self.sending:
            if self.behind or not self._sent_at_once(posted):
                self.behind += 1
                self.outgoing.put(posted)
        return posted

    def _sent_at_once(self, message: _Posted) -> bool:
        """Hand over what the socket takes now: a small message needs no other thread."""
        header = FRAME.pack(message.tag, len(message.buffer))
        try:
            sock = self.sockets[message.peer]
            message.sent = sock.sendmsg([header, message.buffer], [], socket.MSG_DONTWAIT)
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
        for sock in self.sockets.values():
            Channel(sock).close()
        for peer in self.sockets:
            self._lose(peer, "closed")
        for thread in self.threads:
            thread.join(CLOSING_S)

    # -- threads -------------------------------------------------------------------------------

    def _send_all(self) -> None:
        while (message := self.outgoing.get()) is not None:
            try:
                _send_rest(self.sockets[message.peer], message)
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
        sock, header = self.sockets[peer], bytearray(FRAME.size)
        _fill(sock, memoryview(header))
        tag, size = FRAME.unpack(header)
        posted = self._next(peer, tag)
        try:
            if size != len(posted.buffer):
                raise OSError(f"sent {size} bytes instead of {len(posted.buffer)}")
            _fill(sock, posted.buffer)
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


def _fill(sock: socket.socket, view: memoryview) -> None:
    got = 0
    while got < len(view):
        n = sock.recv_into(view[got:])
        if n == 0:
            raise OSError("connection closed")
        got += n


def _send_rest(sock: socket.socket, message: _Posted) -> None:
    header = FRAME.pack(message.tag, len(message.buffer))
    if message.sent < len(header):
        sock.sendall(header[message.sent :])
        message.sent = len(header)
    sock.sendall(message.buffer[message.sent - len(header) :])


def address_of(interface: str) -> str:
    """The IPv4 address of a network interface; an address is its own."""
    with contextlib.suppress(ValueError):
        return str(ipaddress.IPv4Address(interface))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("256s", os.fsencode(interface)[:15])
        answer: Any = fcntl.ioctl(sock.fileno(), SIOCGIFADDR, request)
    return socket.inet_ntoa(answer[20:24])
