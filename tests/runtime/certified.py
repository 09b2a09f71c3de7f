"""Certificates for tests, and a relay that notes what goes over a connection."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from nptp_opt.runtime.launcher import certificates
from nptp_opt.runtime.launcher.certificates import AUTHORITY, make_certificates, path_of
from nptp_opt.runtime.transport.handshake import Keys, Party
from nptp_opt.runtime.transport.tls import read_identity

SECRET = "a secret of these tests alone"
DEVICES = ("d0", "d1", "d2")


@cache
def _filled() -> TemporaryDirectory[str]:
    """Made once per process; goes when that ends."""
    made = TemporaryDirectory(prefix="nptp-test-certificates-")
    path = Path(made.name)
    make_certificates(path, DEVICES)
    make_certificates(path / "other", DEVICES)
    (path / "secret").write_text(SECRET)
    return made


def folder() -> Path:
    """Certificates of a launcher and of ``DEVICES``, a secret, and another authority's in
    ``other``."""
    return Path(_filled().name)


def file_of(name: str) -> Path:
    """``launcher``, a device, or one of the ``other`` authority (``other/d0``)."""
    return path_of(folder(), name)


def keys(name: str | None) -> Keys:
    """The keys of such a file; None for a side without a certificate."""
    secret = SECRET.encode()
    return Keys(secret) if name is None else Keys(secret, read_identity(file_of(name)))


def write_certificate(path: Path, party: Party, days: int) -> Path:
    """One more of the authority; with negative ``days`` it has expired."""
    authority = certificates.read_authority(file_of(AUTHORITY))
    certificate, key = certificates._signed(party, authority, days)
    return certificates._write(path, str(party), [certificate, authority.certificate], key)


@dataclass
class Relay:
    """Hands on what comes in at ``port`` to another port of this machine, and remembers it."""

    target: int
    server: socket.socket = field(
        default_factory=lambda: socket.create_server(("127.0.0.1", 0), backlog=16)
    )
    seen: list[bytes] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.server.getsockname()[1])

    def saw(self, pattern: bytes) -> bool:
        """Whether it went by, in either direction."""
        return pattern in b"".join(self.seen)

    def serve(self) -> None:
        with contextlib.suppress(OSError):  # it was closed
            while True:
                caller, _ = self.server.accept()
                called = socket.create_connection(("127.0.0.1", self.target))
                for ends in ((caller, called), (called, caller)):
                    threading.Thread(target=self._hand_on, args=ends, daemon=True).start()

    def _hand_on(self, source: socket.socket, sink: socket.socket) -> None:
        said: list[bytes] = []
        with contextlib.suppress(OSError):
            while data := source.recv(2**16):
                said.append(data)
                sink.sendall(data)
        self.seen.append(b"".join(said))
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def relay(target: int) -> Iterator[Relay]:
    """A relay to that port, which works within the block."""
    made = Relay(target)
    threading.Thread(target=made.serve, daemon=True).start()
    yield made
    with contextlib.suppress(OSError):
        made.server.shutdown(socket.SHUT_RDWR)
    made.server.close()
