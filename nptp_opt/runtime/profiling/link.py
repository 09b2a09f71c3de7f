"""Latency and rates to a peer, measured with the tcp transport that runs use."""

from __future__ import annotations

import logging
import socket
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from nptp_opt.cluster.profiles import Link
from nptp_opt.errors import ExecutionError
from nptp_opt.runtime.transport.base import Arrival, PeerError, Rendezvous, Transport
from nptp_opt.runtime.transport.control import (
    Channel,
    ChannelError,
    check_address,
    connect,
    listen,
)
from nptp_opt.runtime.transport.handshake import HANDSHAKE_TIMEOUT_S, Keys, admit, join
from nptp_opt.runtime.transport.tcp import TcpTransport

log = logging.getLogger(__name__)

SMALL, FIRST, MOST = 16, 2**16, 2**22
"""Elements of a message that measures latency, of the first and the largest that measure rates."""
PINGS, BULKS, STREAMED = 50, 4, 5
BULK_S = 0.1
"""What a message that measures a rate should take on its way."""
PEER_TIMEOUT_S = 120.0
SERVER, CALLER = 0, 1


def serve_link(address: str, keys: Keys) -> None:
    """Wait for one peer at HOST:PORT and answer its measurement; raises ExecutionError."""
    check_address(address)
    try:
        with listen(f"tcp:{address}") as door:
            channel = _admit(door, keys)
        _play(channel, SERVER, channel.own_host, keys)
    except (OSError, PeerError) as error:
        raise ExecutionError(f"measuring the link at {address}: {error}") from None


def _admit(door: socket.socket, keys: Keys) -> Channel:
    """The first who proves himself; strangers before are sent away one by one."""
    deadline = time.monotonic() + PEER_TIMEOUT_S
    while True:
        door.settimeout(max(1e-3, deadline - time.monotonic()))
        channel = Channel(door.accept()[0])
        channel.settimeout(HANDSHAKE_TIMEOUT_S)
        try:
            _, proof = admit(channel, keys)
            channel.send("welcome", mac=proof)
        except ChannelError as error:
            log.warning("refused a connection: %s", error)
            channel.close()
            continue
        channel.settimeout(PEER_TIMEOUT_S)
        return channel


def measure_link(address: str, keys: Keys) -> Link:
    """Latency and rates between here and a peer that serves; raises ExecutionError."""
    check_address(address)
    try:
        channel = connect(f"tcp:{address}", PEER_TIMEOUT_S)
        join(channel, keys, {"device": "profile"})
        return _play(channel, CALLER, channel.own_host, keys)
    except (OSError, PeerError) as error:
        raise ExecutionError(f"measuring the link to {address}: {error}") from None


def _play(channel: Channel, rank: int, host: str, keys: Keys) -> Link:
    """Both sides do the same: small messages to and fro, then large ones, timed at either end."""

    def meet(own: str) -> list[str]:
        channel.send("listening", address=own)
        other = channel.receive()
        if other.kind != "listening":
            raise ChannelError("the peer does not say where it listens")
        return [own, other["address"]] if rank == SERVER else [other["address"], own]

    transport = TcpTransport(Rendezvous(None, rank, 2, host, keys, meet))
    try:
        return measure_way(transport, 1 - rank, calls=rank == CALLER)
    finally:
        transport.close()
        channel.close()


def measure_way(
    transport: Transport, peer: int, *, calls: bool, tell: Callable[[], None] = lambda: None
) -> Link:
    """Latency of messages to and from a rank that does the same at this time, and the rates of
    either direction, taken by who receives.

    One of the two ``calls`` and the other answers: only what the caller returns counts. ``tell``
    hears of every message.
    """
    exchange = partial(_to_and_fro, transport, peer, calls=calls, tell=tell)
    small = exchange(SMALL, PINGS)
    round_trip = statistics.median(each.elapsed_s for each in small)
    handing_s = statistics.median(each.handed_s for each in small)
    first_s = exchange(FIRST, 1)[0].elapsed_s
    asked = elements_for(2 * 4 * FIRST / max(first_s - round_trip, 1e-9) * 8e-6)
    size = int(_hand_over(transport, peer, asked, sends=calls))
    bulk = exchange(size, BULKS)
    down = statistics.median(each.mbit_per_s(4 * size, round_trip) for each in bulk)
    up = _hand_over(transport, peer, down, sends=not calls)
    return Link(
        latency_ms=max(0.0, round_trip / 2 - handing_s) * 1e3,
        message_ms=handing_s * 1e3,
        up_mbit_per_s=up,
        down_mbit_per_s=down,
    )


def elements_for(mbit_per_s: float) -> int:
    """Elements of a message that takes about ``BULK_S`` at a rate."""
    return round(min(MOST, max(FIRST, mbit_per_s * 1e6 / 8 / 4 * BULK_S)))


@dataclass(frozen=True)
class _Exchange:
    """A message there and one back: their seconds, those of handing over, and how one came in."""

    elapsed_s: float
    handed_s: float
    arrival: Arrival | None

    def mbit_per_s(self, size: int, round_trip_s: float) -> float:
        """Of a message of ``size`` bytes that came in; of both where most of it was there at
        once."""
        came = self.arrival
        if came is not None and came.bytes > size / 2 and came.end_ns > came.start_ns:
            return came.bytes / (came.end_ns - came.start_ns) * 8e3
        return 2 * size / max(self.elapsed_s - round_trip_s, 1e-9) * 8e-6


def _hand_over(transport: Transport, peer: int, value: float, *, sends: bool) -> float:
    """``value``, or that of the peer if it is the one who sends."""
    cell = np.array([value], np.float64)
    (transport.send if sends else transport.receive)(peer, 0, cell).wait()
    return float(cell[0])


def _to_and_fro(
    transport: Transport,
    peer: int,
    elements: int,
    count: int,
    *,
    calls: bool,
    tell: Callable[[], None],
) -> list[_Exchange]:
    """Messages of so many elements to and fro; the first is left out."""
    there, back = np.zeros(elements, np.float32), np.empty(elements, np.float32)
    found = []
    for k in range(count + 1):
        tell()
        start = time.monotonic()
        coming = transport.receive(peer, k, back)
        if not calls:
            coming.wait()
        handing = time.monotonic()
        sent = transport.send(peer, k, there)
        handed_s = time.monotonic() - handing
        if calls:
            coming.wait()
        sent.wait()
        found.append(_Exchange(time.monotonic() - start, handed_s, coming.arrival))
    return found[1:]


def stream(
    transport: Transport,
    to: tuple[int, int],
    origin: tuple[int, int],
    tell: Callable[[], None] = lambda: None,
) -> float:
    """Mbit/s from one rank while as many messages are sent to another; each is given with the
    elements of its messages. Between the end of the first message and that of the last."""
    there, back = np.zeros(to[1], np.float32), np.empty(origin[1], np.float32)
    coming = [transport.receive(origin[0], k, back) for k in range(STREAMED)]
    sent = [transport.send(to[0], k, there) for k in range(STREAMED)]
    ends = []
    for each in coming:
        tell()
        each.wait()
        ends.append(time.monotonic())
    for each in sent:
        each.wait()
    return (STREAMED - 1) * 4 * origin[1] / max(ends[-1] - ends[0], 1e-9) * 8e-6
