"""The control channel between the launcher and its workers: framed JSON behind a mutual handshake.

Both sides prove that they know the run's secret (HMAC-SHA256 over fresh nonces) before either
acts on anything that the other says. Frames carry a JSON object and raw bytes, never pickle, and
are bounded. Standard library alone, so that a worker can report before it imports torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import ipaddress
import json
import secrets
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nptp_opt.errors import InputError

HEADER = struct.Struct("!II")
MAX_JSON_BYTES = 64 * 2**20
MAX_PAYLOAD_BYTES = 2**31 - 1
MAX_HANDSHAKE_BYTES = 4096
HANDSHAKE_TIMEOUT_S = 10.0


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
        return self.fields[name]


class Channel:
    """A connected socket that carries messages; ``send`` may be called from several threads."""

    def __init__(self, sock: socket.socket) -> None:
        if sock.family == socket.AF_INET:  # else what follows a header waits for its receipt
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self._lock = threading.Lock()
        self._deadline: float | None = None

    def send(self, kind: str, payload: bytes | memoryview = b"", **fields: Any) -> None:
        """Send one message; raises ChannelError when the other side is gone."""
        text = json.dumps({"kind": kind, **fields}).encode()
        with self._lock:
            try:
                self._sock.sendall(HEADER.pack(len(text), len(payload)) + text)
                if payload:
                    self._sock.sendall(payload)
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
                n = self._sock.recv_into(view[got:])
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


def check_address(text: str) -> None:
    """Raise InputError unless ``text`` is HOST:PORT with one interface's IPv4 address."""
    host, _, port = text.rpartition(":")
    try:
        address = ipaddress.IPv4Address(host)
    except ValueError:
        raise InputError(f"{text!r} must look like 192.0.2.1:7000 (IPv4 address, port)") from None
    if not port.isdigit() or int(port) > 65535:
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
    if scheme == "tcp" and host and port.isdigit():
        return socket.AF_INET, (host, int(port))
    raise ValueError(f"address {address!r} is neither unix:PATH nor tcp:HOST:PORT")


# -- secret and handshake ----------------------------------------------------------------------


def write_secret(path: Path) -> bytes:
    """A fresh random secret, in a file that its owner alone can read."""
    path.touch(mode=0o600, exist_ok=False)
    path.write_text(secrets.token_hex(32))
    return read_secret(path)


def read_secret(path: Path) -> bytes:
    """The secret of a file; raises InputError when it cannot be read or is too short."""
    try:
        secret = path.read_text(encoding="utf-8").strip().encode()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text: make the secret of letters") from None
    if len(secret) < 16:
        raise InputError(f"{path}: the secret is shorter than 16 characters")
    return secret


def _mac(secret: bytes, role: str, *parts: object) -> str:
    text = json.dumps([role, *parts], sort_keys=True)
    return hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()


def _is_mac(mac: object, expected: str) -> bool:
    """Compared in constant time; ``mac`` is anything that JSON can be."""
    return hmac.compare_digest(str(mac).encode(errors="replace"), expected.encode())


def join(channel: Channel, secret: bytes, hello: dict[str, Any]) -> None:
    """Worker's half of the handshake: ``hello`` says who it is. Raises RefusedError."""
    challenge = channel.receive(MAX_HANDSHAKE_BYTES, 0)
    theirs, ours = challenge.fields.get("nonce"), secrets.token_hex(16)
    mac = _mac(secret, "worker", theirs, ours, hello)
    channel.send("hello", nonce=ours, hello=hello, mac=mac)
    answer = channel.receive(MAX_HANDSHAKE_BYTES, 0)
    if answer.kind == "refused":
        raise RefusedError(str(answer.fields.get("reason")))
    expected = _mac(secret, "launcher", ours, theirs)
    if not _is_mac(answer.fields.get("mac"), expected):
        raise RefusedError("the launcher does not know the secret")


def admit(channel: Channel, secret: bytes) -> tuple[dict[str, Any], str]:
    """Launcher's half up to the proof: what the worker says of itself, and our own proof for it.

    Raises RefusedError for a wrong secret, ChannelError for anything that is no worker.
    """
    ours = secrets.token_hex(16)
    channel.send("challenge", nonce=ours)
    answer = channel.receive(MAX_HANDSHAKE_BYTES, 0)
    theirs, hello = answer.fields.get("nonce"), answer.fields.get("hello")
    expected = _mac(secret, "worker", ours, theirs, hello)
    if not _is_mac(answer.fields.get("mac"), expected):
        channel.send("refused", reason="wrong secret")
        raise RefusedError("wrong secret")
    if not isinstance(hello, dict):
        raise ChannelError("the worker does not say who it is")
    return hello, _mac(secret, "launcher", theirs, ours)
