"""The launcher's port under strangers: workers get in all the same, and no escapes are printed."""

from __future__ import annotations

import logging
import socket
import threading
import time
from typing import Any

import pytest

from nptp_opt.errors import printable
from nptp_opt.runtime.launcher.admission import Admission
from nptp_opt.runtime.transport import control
from nptp_opt.runtime.transport.control import Channel, ChannelError, RefusedError, listen
from nptp_opt.runtime.transport.handshake import Keys, join
from nptp_opt.runtime.worker import main as worker

SECRET = Keys(b"a secret of this test alone")


@pytest.fixture
def joined() -> list[str]:
    return []


@pytest.fixture
def gate(joined: list[str]) -> Any:
    made = Admission(
        "tcp:127.0.0.1:0", SECRET, ["d0", "d1"], lambda name, channel: joined.append(name)
    )
    yield made
    made.close()


def test_idle_connections_hold_up_a_worker_but_do_not_end_it(
    gate: Admission, joined: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: with more strangers than places the worker's connection was closed, too, and it ended
    at "closed by the other side"; now it asks again until there is a place."""
    monkeypatch.setattr(worker, "RETRY_S", 0.05)
    address = ("127.0.0.1", int(gate.address.rpartition(":")[2]))
    strangers = [socket.create_connection(address) for _ in range(200)]
    threading.Timer(0.4, lambda: [each.close() for each in strangers]).start()
    channel = worker._join(gate.address, "", "d0", SECRET)
    channel.close()
    while not joined:
        time.sleep(0.01)
    assert joined == ["d0"]


def test_the_gate_stays_open_without_file_descriptors(
    gate: Admission, joined: list[str], few_descriptors: list[int]
) -> None:
    """Bug: after one EMFILE nobody was accepted any more."""
    worker._join(gate.address, "", "d0", SECRET).close()  # the accept that was under way
    worker._join(gate.address, "", "d1", SECRET).close()
    assert few_descriptors == [3]


def test_a_false_launcher_that_trickles_does_not_hold_a_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Bug: a byte every few seconds kept it for ever."""
    monkeypatch.setattr(worker, "HANDSHAKE_TIMEOUT_S", 0.3)
    monkeypatch.setattr(worker, "PATIENCE_S", 0.0)
    server = listen("tcp:127.0.0.1:0")

    def trickle() -> None:
        sock, _ = server.accept()
        for _ in range(50):
            try:
                sock.sendall(b"\0")
            except OSError:
                return
            time.sleep(0.05)

    thread = threading.Thread(target=trickle)
    thread.start()
    with pytest.raises(ChannelError, match="timed out"):
        worker._join(f"tcp:127.0.0.1:{server.getsockname()[1]}", "", "d0", SECRET)
    thread.join()
    server.close()


def test_a_strangers_words_are_spelled_out(caplog: pytest.LogCaptureFixture) -> None:
    """Bug: escape sequences of a launcher without the secret reached the terminal."""
    assert printable("a\x1b[2Jb\r\n") == "a\\x1b[2Jb\\r\\n"
    assert len(printable("x" * 10**6)) < 400
    ours, theirs = (Channel(sock) for sock in socket.socketpair())
    theirs.send("challenge", nonce="1")
    theirs.send("refused", reason="\x1b]0;owned\x07")
    with pytest.raises(RefusedError) as caught:
        join(ours, SECRET, {"device": "d0"})
    assert str(caught.value).isprintable()
    with caplog.at_level(logging.WARNING):
        gate = Admission("tcp:127.0.0.1:0", SECRET, [], lambda *_: None)
        channel = control.connect(gate.address, 5.0)
        with pytest.raises(RefusedError, match="worker has version"):
            join(channel, SECRET, {"device": "d0", "version": "\x1b[31m"})
        while not caplog.records:
            time.sleep(0.01)
        gate.close()
    assert caplog.records[0].getMessage().isprintable()
