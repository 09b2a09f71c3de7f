"""Two devices time their way to each other, beside whatever else they do.

For links that the running plan does not use: one device listens, the other calls, each proves
itself and then sends one message. It says nothing that a plan's own message would not.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from nptp_opt.runtime.transport.base import Arrival
from nptp_opt.runtime.transport.control import Channel
from nptp_opt.runtime.transport.handshake import Keys, admit, device, join, require
from nptp_opt.runtime.transport.tcp import address_of, fill

PROBE_BYTES = 2**17
PROBE_TIMEOUT_S = 10.0
"""For every wait of a probe: its peer may be gone."""


def answer(interface: str, keys: Keys, peer: str, tell: Callable[[str], None]) -> Arrival:
    """Listen, ``tell`` where, and exchange messages with the device ``peer``, which calls; raises
    OSError."""
    with socket.create_server((address_of(interface), 0)) as server:
        server.settimeout(PROBE_TIMEOUT_S)
        tell("{}:{}".format(*server.getsockname()))
        sock, _ = server.accept()
    with sock:
        channel = _timed(sock)
        _, proof = admit(channel, keys)
        require(channel, device(peer))
        channel.send("welcome", mac=proof)
        arrival = fill(channel.stream, memoryview(bytearray(PROBE_BYTES)))
        channel.stream.sendall(bytes(PROBE_BYTES))
        return arrival


def call(address: str, interface: str, keys: Keys, peer: str) -> Arrival:
    """Exchange messages with the device ``peer``, which listens at HOST:PORT; raises OSError."""
    host, _, port = address.rpartition(":")
    here = (address_of(interface), 0)
    with socket.create_connection((host, int(port)), PROBE_TIMEOUT_S, here) as sock:
        channel = _timed(sock)
        join(channel, keys, {"device": "probe"}, device(peer))
        channel.stream.sendall(bytes(PROBE_BYTES))
        return fill(channel.stream, memoryview(bytearray(PROBE_BYTES)))


def _timed(sock: socket.socket) -> Channel:
    channel = Channel(sock)
    channel.settimeout(PROBE_TIMEOUT_S)
    return channel
