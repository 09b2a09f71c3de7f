"""The control channel between the launcher and its workers: framed JSON.

Frames carry a JSON object and raw bytes, never pickle, and are bounded. ``handshake`` says who may
talk, ``tls`` hides what is said. Standard library alone, so that a worker can report before it
imports torch.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import json
import logging
import select
import socket
import struct
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from nptp_opt.errors import InputError
from nptp_opt.runtime.transport.digits import port_number

if TYPE_CHECKING:
    from nptp_opt.runtime.transport.handshake import Party
    from nptp_opt.runtime.transport.tls import Identity

log = logging.getLogger(__name__)

HEADER = struct.Struct("!II")
MAX_JSON_BYTES = 64 * 2**20
MAX_PAYLOAD_BYTES = 2**31 - 1
SMALL_BYTES = 2**16
STALLED_S = 30.0
TCP_NOTSENT_LOWAT = 25
"""``linux/tcp.h``; Python's ``socket`` does not name it."""


class ChannelError(OSError):
    """The other side is gone, or sent what no worker of ours sends."""


class RefusedError(ChannelError):
    """The handshake failed: a wrong secret, version or device name."""


@dataclass(frozen=True)
class Message:
    """One frame: its kind, the other JSON fields, and raw bytes."""

    kind: str
    fields: dict[str, Any] = field(default_factory=dict)
    payload: bytes | bytearray = b""

    def __getitem__(self, name: str) -> Any:
        """A field; raises ChannelError where the other side, which knows the secret, sent none."""
        if name not in self.fields:
            raise ChannelError(f"{self.kind!r} came without {name!r}")
        return self.fields[name]

    def check(self, kinds: Mapping[str, Mapping[str, Any]]) -> None:
        """Raise ChannelError unless the fields that its kind must have are there and of their
        types (as ``isinstance`` takes them)."""
        for name, kind in kinds.get(self.kind, {}).items():
            if not isinstance(self[name], kind):
                raise ChannelError(f"{self.kind!r} came with {name!r} = {str(self[name])[:40]!r}")


class Stream(Protocol):
    """What is used of a connected socket, with or without TLS; as ``socket.socket`` has it."""

    def recv_into(self, view: memoryview, /) -> int: ...
    def sendall(self, data: bytes | memoryview, /) -> None: ...
    def sendmsg(
        self, buffers: Iterable[bytes | memoryview], ancillary: Iterable[Any], flags: int, /
    ) -> int: ...


class Channel:
    """A connected socket that carries messages; ``send`` may be called from several threads."""

    def __init__(self, sock: socket.socket) -> None:
        if sock.family == socket.AF_INET:  # else what follows a header waits for its receipt
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self.stream: Stream = sock
        """What the bytes go through; whoever has been let in may use it without frames."""
        self.peer: Party | None = None
        """Whom the other side's certificate names, under TLS."""
        self._lock = threading.Lock()
        self._deadline: float | None = None

    def send(self, kind: str, payload: bytes | memoryview = b"", **fields: Any) -> None:
        """Send one message; raises ChannelError when the other side is gone."""
        text = json.dumps({"kind": kind, **fields}).encode()
        with self._lock:
            try:
                head = HEADER.pack(len(text), len(payload)) + text
                if len(payload) <= SMALL_BYTES:  # the other side wakes once
                    self.stream.sendall(head + payload)
                else:
                    self.stream.sendall(head)
                    self.stream.sendall(payload)
            except OSError as error:
                raise ChannelError(f"cannot send {kind}: {error}") from None

    def receive(
        self, max_json: int = MAX_JSON_BYTES, max_payload: int = MAX_PAYLOAD_BYTES
    ) -> Message:
        """The next message; raises ChannelError at the end, on a timeout and on garbage."""
        n_text, n_payload = HEADER.unpack(self._exactly(HEADER.size))
        if n_text > max_json or n_payload > max_payload:
            raise ChannelError(f"frame of {n_text} + {n_payload} bytes is over the limit")
        text, payload = self._exactly(n_text), self._exactly(n_payload)
        try:
            fields = json.loads(text)
            kind = fields.pop("kind")
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
            raise ChannelError("frame is no message") from None
        if not isinstance(kind, str):
            raise ChannelError("frame is no message")
        return Message(kind, fields, payload)

    def secure(self, identity: Identity, *, listens: bool) -> None:
        """Have all that follows go through TLS; returns when both sides know whom the other's
        certificate names. Raises RefusedError for one that is not taken, here or there."""
        from nptp_opt.runtime.transport.tls import TlsStream

        stream = TlsStream(self._sock, identity, listens=listens)
        try:
            self.peer = stream.handshake(self._deadline)
        except ChannelError:
            raise
        except OSError as error:
            raise ChannelError(f"TLS handshake: {error}") from None
        self.stream = stream

    @property
    def other_host(self) -> str:
        """The address of the other side's machine; empty for a Unix socket."""
        with contextlib.suppress(OSError):  # it is gone
            if self._sock.family == socket.AF_INET:
                return str(self._sock.getpeername()[0])
        return ""

    @property
    def own_host(self) -> str:
        """The address of this machine that the connection uses (TCP)."""
        return str(self._sock.getsockname()[0])

    def settimeout(self, seconds: float | None) -> None:
        """Limit of all that is received from now on, in seconds; None waits for ever.

        Who sends a byte now and then gets no longer than who sends nothing.
        """
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self._sock.settimeout(seconds)

    def keep_unsent(self, count: int) -> None:
        """Take no more to send while so many bytes have not left (TCP)."""
        self._sock.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, count)

    def is_writable(self, wait_ms: int | None) -> bool:
        """Does it take more within so many milliseconds (None: wait), or is it closed?"""
        poll = select.poll()
        try:
            poll.register(self._sock, select.POLLOUT)
        except ValueError:
            return True
        return bool(poll.poll(wait_ms))

    def be_watched(self) -> None:
        """End the channel when the other side takes nothing for ``STALLED_S`` (TCP): its machine
        is off, its network gone, or it is stopped. Both sides read all the time."""
        if self._sock.family == socket.AF_INET:
            self._sock.setsockopt(
                socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(STALLED_S * 1e3)
            )

    def close(self) -> None:
        """Close both directions; a reader blocked in ``receive`` wakes up."""
        with contextlib.suppress(OSError):  # the other side may have been faster
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()

    def _exactly(self, count: int) -> bytearray:
        data = bytearray(count)
        view, got = memoryview(data), 0
        while got < count:
            try:
                if self._deadline is not None:
                    self._sock.settimeout(max(1e-3, self._deadline - time.monotonic()))
                n = self.stream.recv_into(view[got:])
            except ChannelError:
                raise
            except OSError as error:
                raise ChannelError(f"receive failed: {error}") from None
            if n == 0:
                raise ChannelError("closed by the other side")
            got += n
        return data


# -- addresses ---------------------------------------------------------------------------------


def listen(address: str) -> socket.socket:
    """Listen on ``unix:PATH`` or ``tcp:HOST:PORT`` (that host alone, port 0 takes a free one)."""
    family, target = _parse(address)
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family == socket.AF_INET:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(target)
        sock.listen(64)
    except OSError:
        sock.close()
        raise
    return sock


SHORTAGES = frozenset(
    (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED, errno.EINTR)
)
"""Errors after which another connection may be accepted."""
SHORTAGE_S = 0.2


def accepted(server: socket.socket) -> Iterator[socket.socket]:
    """Every connection to a listening socket until it is closed; a shortage is waited out."""
    while True:
        try:
            sock, _ = server.accept()
        except OSError as error:
            if error.errno not in SHORTAGES:
                return
            log.warning("cannot accept a connection: %s", error.strerror)
            time.sleep(SHORTAGE_S)
            continue
        yield sock


def check_address(text: str) -> None:
    """Raise InputError unless ``text`` is HOST:PORT with one interface's IPv4 address."""
    host, _, port = text.rpartition(":")
    try:
        address = ipaddress.IPv4Address(host)
    except ValueError:
        raise InputError(f"{text!r} must look like 192.0.2.1:7000 (IPv4 address, port)") from None
    if port_number(port) is None:
        raise InputError(f"{text!r}: the port must be a number up to 65535")
    if address.is_unspecified:
        raise InputError(f"{text!r} means every interface: name the address of one")


def address_of(sock: socket.socket) -> str:
    """The address under which a listening socket is reached."""
    name = sock.getsockname()
    return f"unix:{name}" if sock.family == socket.AF_UNIX else f"tcp:{name[0]}:{name[1]}"


def connect(address: str, timeout_s: float, source: str = "") -> Channel:
    """Connect to a listening launcher, from the address ``source`` if one is given.

    Raises ChannelError.
    """
    family, target = _parse(address)
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.settimeout(timeout_s)
    try:
        if source:
            sock.bind((source, 0))
        sock.connect(target)
    except OSError as error:
        sock.close()
        raise ChannelError(f"cannot connect to {address}: {error}") from None
    return Channel(sock)


def _parse(address: str) -> tuple[socket.AddressFamily, Any]:
    scheme, _, rest = address.partition(":")
    if scheme == "unix" and rest:
        return socket.AF_UNIX, rest
    host, _, port = rest.rpartition(":")
    number = port_number(port)
    if scheme == "tcp" and host and number is not None:
        return socket.AF_INET, (host, number)
    raise ValueError(f"address {address!r} is neither unix:PATH nor tcp:HOST:PORT")
