"""The tcp transport between two ranks of this process: strangers, broken peers, order."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

import pytest
import torch

from nptp_opt.runtime.transport.base import PeerError, Rendezvous
from nptp_opt.runtime.transport.control import Channel, join
from nptp_opt.runtime.transport.tcp import FRAME, TcpTransport

SECRET = b"s" * 32
Address = tuple[str, int]


def _pair(visit: Callable[[Address], None] = lambda address: None) -> list[TcpTransport]:
    """Two ranks that have met; ``visit`` is called with rank 0's address before rank 1 comes."""
    addresses, barrier = ["", ""], threading.Barrier(2)
    made: dict[int, TcpTransport] = {}

    def start(rank: int) -> None:
        def meet(own: str) -> list[str]:
            addresses[rank] = own
            barrier.wait(10)
            if rank == 1:
                host, _, port = addresses[0].rpartition(":")
                visit((host, int(port)))
            return addresses

        rendezvous = Rendezvous(None, rank, 2, "127.0.0.1", SECRET, meet)
        made[rank] = TcpTransport(rendezvous)

    threads = [threading.Thread(target=start, args=(rank,)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return [made[0], made[1]]


def _exchange(pair: list[TcpTransport]) -> None:
    """One message each way arrives whole."""
    for sender, receiver in ((0, 1), (1, 0)):
        buffer, values = torch.zeros(1000), torch.arange(1000.0) + sender
        coming = pair[receiver].receive(sender, 7, buffer)
        pair[sender].send(receiver, 7, values).wait()
        coming.wait()
        assert torch.equal(buffer, values)


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\n\r\n", b"\0" * 5, b"\xff" * 64], ids=str)
def test_strangers_do_not_hold_up_the_meeting(said: bytes) -> None:
    """Twenty connections that say nothing, half a frame or garbage; one took 10 s before."""
    strangers: list[socket.socket] = []

    def visit(address: Address) -> None:
        for _ in range(20):
            strangers.append(socket.create_connection(address))
            strangers[-1].sendall(said)

    pair = _pair(visit)
    _exchange(pair)
    for transport in pair:
        transport.close()
    for stranger in strangers:
        stranger.close()


@pytest.mark.parametrize(
    ("sent", "words"),
    [(FRAME.pack(7, 99) + bytes(99), "99 bytes instead of 4000"), (FRAME.pack(7, 4000), "closed")],
    ids=["wrong size", "half a message"],
)
def test_broken_peer_is_an_error_and_no_hang(sent: bytes, words: str) -> None:
    """A rank that was let in and then sends something else: whoever waits for it is told."""

    def meet(own: str) -> list[str]:
        host, _, port = own.rpartition(":")
        sock = socket.create_connection((host, int(port)))
        threading.Thread(target=rogue, args=(sock,)).start()
        return [own, ""]

    def rogue(sock: socket.socket) -> None:
        join(Channel(sock), SECRET, {"rank": 1})
        sock.sendall(sent)
        sock.close()

    transport = TcpTransport(Rendezvous(None, 0, 2, "127.0.0.1", SECRET, meet))
    with pytest.raises(PeerError, match=words) as caught:
        transport.receive(1, 7, torch.zeros(1000)).wait()
    assert caught.value.peer == 1
    transport.close()


def test_messages_are_matched_by_their_tag() -> None:
    """Receives posted in another order than the messages are sent."""
    pair = _pair()
    buffers = {tag: torch.zeros(10) for tag in range(4)}
    coming = {tag: pair[1].receive(0, tag, buffers[tag]) for tag in (2, 0, 3, 1)}
    for tag in range(4):
        pair[0].send(1, tag, torch.full((10,), float(tag)))
    for tag in (3, 2, 1, 0):
        coming[tag].wait()
        assert buffers[tag].tolist() == [float(tag)] * 10
    for transport in pair:
        transport.close()


def test_large_messages_arrive_in_order() -> None:
    """Larger than any socket buffer, so that the sending thread takes over; a small one follows."""
    pair = _pair()
    large, small = torch.arange(3e6), torch.ones(3)
    got_large, got_small = torch.zeros(3_000_000), torch.zeros(3)
    coming = [pair[1].receive(0, 1, got_large), pair[1].receive(0, 2, got_small)]
    sent = [pair[0].send(1, 1, large), pair[0].send(1, 2, small)]
    for pending in (*coming, *sent):
        pending.wait()
    assert torch.equal(got_large, large)
    assert torch.equal(got_small, small)
    assert coming[0].ended <= coming[1].ended
    for transport in pair:
        transport.close()


def test_rank_connects_from_its_own_interface_only() -> None:
    """Bug: it listened at the given address, but called others from whichever the routes gave."""
    addresses, barrier, made = ["", ""], threading.Barrier(2), dict[int, TcpTransport]()

    def start(rank: int) -> None:
        def meet(own: str) -> list[str]:
            addresses[rank] = own
            barrier.wait(10)
            return addresses

        host = f"127.0.0.{rank + 5}"
        made[rank] = TcpTransport(Rendezvous(None, rank, 2, host, SECRET, meet))

    threads = [threading.Thread(target=start, args=(rank,)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert made[0].sockets[1].getpeername()[0] == "127.0.0.6"
    for transport in made.values():
        transport.close()
