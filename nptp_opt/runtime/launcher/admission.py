"""Admission to the control channel: its listening end lets in whom it expects, once, nobody
else."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Collection

from nptp_opt import __version__
from nptp_opt.errors import printable
from nptp_opt.runtime.transport.control import (
    Channel,
    ChannelError,
    RefusedError,
    accepted,
    address_of,
    listen,
)
from nptp_opt.runtime.transport.handshake import (
    HANDSHAKE_TIMEOUT_S,
    Keys,
    admit,
    device,
    require,
)

log = logging.getLogger(__name__)

MAX_STRANGERS = 64
"""Connections whose handshake is under way; more are closed at once."""


class Admission:
    """Accepts workers in threads of its own.

    ``welcome(name, channel)`` is called in the connection's thread and keeps it until the worker
    is gone. A connection that fails the handshake is closed and logged; nothing else happens.
    """

    def __init__(
        self,
        address: str,
        keys: Keys,
        expected: Collection[str],
        welcome: Callable[[str, Channel], None],
    ) -> None:
        self.keys, self.welcome = keys, welcome
        self.expected = set(expected)
        self.lock = threading.Lock()
        self.strangers = threading.BoundedSemaphore(MAX_STRANGERS)
        self.sock = listen(address)
        self.address = address_of(self.sock)
        threading.Thread(target=self._accept, daemon=True).start()

    def expect(self, name: str) -> None:
        """Let a worker of this name in once more."""
        with self.lock:
            self.expected.add(name)

    def forget(self, name: str) -> None:
        """Let no worker of this name in any more."""
        with self.lock:
            self.expected.discard(name)

    def close(self) -> None:
        """Accept nobody any more."""
        with contextlib.suppress(OSError):  # not every kind of socket supports it
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()

    def _accept(self) -> None:
        for sock in accepted(self.sock):
            if not self.strangers.acquire(blocking=False):
                sock.close()
                continue
            threading.Thread(target=self._serve, args=(Channel(sock),), daemon=True).start()

    def _serve(self, channel: Channel) -> None:
        try:
            name = self._handshake(channel)
        except ChannelError as error:
            who = f" from {channel.other_host}" if channel.other_host else ""
            log.warning("refused a connection%s: %s", who, printable(str(error)))
            channel.close()
            return
        finally:
            self.strangers.release()
        self.welcome(name, channel)

    def _handshake(self, channel: Channel) -> str:
        channel.settimeout(HANDSHAKE_TIMEOUT_S)
        hello, proof = admit(channel, self.keys)
        if isinstance(hello.get("device"), str):
            require(channel, device(hello["device"]))
        reason = self._objection(hello.get("device"), hello.get("version"))
        if reason is not None:
            channel.send("refused", reason=reason)
            raise RefusedError(reason)
        name = str(hello["device"])
        try:
            channel.send("welcome", mac=proof)
        except ChannelError:
            self.expect(name)  # it may come again
            raise
        channel.settimeout(None)
        channel.be_watched()
        return name

    def _objection(self, device: object, version: object) -> str | None:
        if not isinstance(device, str):
            return "the worker does not say which device it is"
        if version != __version__:
            said = printable(str(version))
            return f"worker has version {said}, launcher {__version__}: install the same one"
        with self.lock:
            if device not in self.expected:
                return f"device {device!r} is not expected, or has joined already"
            self.expected.discard(device)
        return None
