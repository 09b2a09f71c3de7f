"""Latency and rate to a peer, measured with the tcp transport that runs use."""

from __future__ import annotations

import logging
import socket
import statistics
import time
from pathlib import Path

import torch

from nptp_opt.cluster.profiles import Link
from nptp_opt.errors import ExecutionError
from nptp_opt.runtime.transport.base import PeerError, Rendezvous
from nptp_opt.runtime.transport.control import (
    HANDSHAKE_TIMEOUT_S,
    Channel,
    ChannelError,
    admit,
    check_address,
    connect,
    join,
    listen,
    read_secret,
)
from nptp_opt.runtime.transport.tcp import TcpTransport

log = logging.getLogger(__name__)

SMALL, LARGE = 16, 2**20
"""Elements of a message that measures latency, and of one that measures the rate (4 MiB)."""
PINGS, BULKS = 50, 4
PEER_TIMEOUT_S = 120.0
SERVER, CALLER = 0, 1


def serve_link(address: str, secret_file: Path) -> None:
    """Wait for one peer at HOST:PORT and answer its measurement; raises ExecutionError."""
    check_address(address)
    secret = read_secret(secret_file)
    try:
        with listen(f"tcp:{address}") as door:
            channel = _admit(door, secret)
        _play(channel, SERVER, channel.own_host, secret)
    except (OSError, PeerError) as error:
        raise ExecutionError(f"measuring the link at {address}: {error}") from None


def _admit(door: socket.socket, secret: bytes) -> Channel:
    """The first who knows the secret; strangers before are sent away one by one."""
    deadline = time.monotonic() + PEER_TIMEOUT_S
    while True:
        door.settimeout(max(1e-3, deadline - time.monotonic()))
        channel = Channel(door.accept()[0])
        channel.settimeout(HANDSHAKE_TIMEOUT_S)
        try:
            _, proof = admit(channel, secret)
            channel.send("welcome", mac=proof)
        except ChannelError as error:
            log.warning("refused a connection: %s", error)
            channel.close()
            continue
        channel.settimeout(PEER_TIMEOUT_S)
        return channel


def measure_link(address: str, secret_file: Path) -> Link:
    """Latency and rates between here and a peer that serves; raises ExecutionError."""
    check_address(address)
    secret = read_secret(secret_file)
    try:
        channel = connect(f"tcp:{address}", PEER_TIMEOUT_S)
        join(channel, secret, {"device": "profile"})
        return _play(channel, CALLER, channel.own_host, secret)
    except (OSError, PeerError) as error:
        raise ExecutionError(f"measuring the link to {address}: {error}") from None


def _play(channel: Channel, rank: int, host: str, secret: bytes) -> Link:
    """Both sides do the same: small messages to and fro, then large ones, timed at either end."""

    def meet(own: str) -> list[str]:
        channel.send("listening", address=own)
        other = channel.receive()
        if other.kind != "listening":
            raise ChannelError("the peer does not say where it listens")
        return [own, other["address"]] if rank == SERVER else [other["address"], own]

    transport = TcpTransport(Rendezvous(None, rank, 2, host, secret, meet))
    try:
        small = _to_and_fro(transport, rank, SMALL, PINGS)
        round_trip, handing_s = (statistics.median(times) for times in zip(*small, strict=True))
        latency_s = max(0.0, round_trip / 2 - handing_s)
        bulk = min(times[0] for times in _to_and_fro(transport, rank, LARGE, BULKS))
    finally:
        transport.close()
        channel.close()
    rate = 2 * 4 * LARGE / max(bulk - round_trip, 1e-9) * 8e-6
    return Link(
        latency_ms=latency_s * 1e3,
        message_ms=handing_s * 1e3,
        up_mbit_per_s=rate,
        down_mbit_per_s=rate,
    )


def _to_and_fro(
    transport: TcpTransport, rank: int, elements: int, count: int
) -> list[tuple[float, float]]:
    """Round trip of a message, and how long this side took to hand it over; the first left out."""
    peer, there, back = 1 - rank, torch.zeros(elements), torch.empty(elements)
    times = []
    for k in range(count + 1):
        start = time.monotonic()
        coming = transport.receive(peer, k, back)
        if rank == SERVER:
            coming.wait()
        handing = time.monotonic()
        sent = transport.send(peer, k, there)
        handed_s = time.monotonic() - handing
        if rank == CALLER:
            coming.wait()
        sent.wait()
        times.append((time.monotonic() - start, handed_s))
    return times[1:]
