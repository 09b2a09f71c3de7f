"""The control channel lets in who knows the secret, and survives everything else."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from nptp_opt import __version__
from nptp_opt.runtime.launcher import admission
from nptp_opt.runtime.launcher.admission import Admission
from nptp_opt.runtime.transport import control
from nptp_opt.runtime.transport.control import (
    HEADER,
    Channel,
    ChannelError,
    RefusedError,
    connect,
)
from nptp_opt.runtime.transport.handshake import Keys, join, read_secret, write_secret
from nptp_opt.runtime.worker import main as worker

SECRET = Keys(b"s" * 32)
HELLO = {"device": "d0", "version": __version__, "pid": 1}


@dataclass
class Door:
    """A gate for d0 that notes who came in."""

    gate: Admission | None = None
    inside: dict[str, Channel] = field(default_factory=dict)
    came: threading.Event = field(default_factory=threading.Event)

    def welcome(self, name: str, channel: Channel) -> None:
        self.inside[name] = channel
        self.came.set()

    def knock(self) -> Channel:
        assert self.gate is not None
        return connect(self.gate.address, 10)


@pytest.fixture(params=["unix", "tcp"])
def door(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Door]:
    made = Door()
    folder = tmp_path_factory.mktemp("c")
    address = f"unix:{folder}/s" if request.param == "unix" else "tcp:127.0.0.1:0"
    made.gate = Admission(address, SECRET, ["d0"], made.welcome)
    yield made
    made.gate.close()


def test_right_secret_joins(door: Door) -> None:
    """A worker that knows the secret is let in and can talk both ways."""
    channel = door.knock()
    join(channel, SECRET, HELLO)
    assert door.came.wait(10)
    channel.send("idle", b"abc", number=3)
    heard = door.inside["d0"].receive()
    assert (heard.kind, heard["number"], bytes(heard.payload)) == ("idle", 3, b"abc")


def test_neither_end_holds_messages_back(door: Door) -> None:
    """Bug: the launcher's end did: each input took 80 ms longer to get to workers elsewhere."""
    channel = door.knock()
    join(channel, SECRET, HELLO)
    assert door.came.wait(10)
    for sock in (channel._sock, door.inside["d0"]._sock):
        if sock.family == socket.AF_INET:
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_wrong_secret_is_refused(door: Door) -> None:
    """It gets no further than the handshake."""
    with pytest.raises(RefusedError, match="wrong secret"):
        join(door.knock(), Keys(b"x" * 32), HELLO)
    assert not door.inside


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"version": "0.0.0"}, "version 0.0.0"), ({"device": "d9"}, "'d9' is not expected")],
)
def test_wrong_version_or_name_is_refused(door: Door, change: dict[str, str], reason: str) -> None:
    """The worker is told why."""
    with pytest.raises(RefusedError, match=reason):
        join(door.knock(), SECRET, HELLO | change)


def test_second_worker_of_a_name_is_refused(door: Door) -> None:
    """A device joins once."""
    join(door.knock(), SECRET, HELLO)
    with pytest.raises(RefusedError, match="joined already"):
        join(door.knock(), SECRET, HELLO)


def test_launcher_without_the_secret_is_refused(tmp_path: Path) -> None:
    """A worker does not take orders from whoever listens at the address."""
    ours, theirs = socket.socketpair()
    impostor = Channel(theirs)
    impostor.send("challenge", nonce="00")
    impostor.send("welcome", mac="00")
    with pytest.raises(RefusedError, match="does not know the secret"):
        join(Channel(ours), SECRET, HELLO)


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        HEADER.pack(2**31, 2**31),
        HEADER.pack(10, 0) + b"not json..",
        HEADER.pack(2, 0) + b"[]",
        HEADER.pack(2, 0) + b"{}",
        HEADER.pack(12, 0) + b'{"kind":[1]}',
        HEADER.pack(100, 0) + b"half",
        b"",
    ],
    ids=["http", "huge", "no-json", "list", "no-kind", "kind-of-list", "half", "nothing"],
)
def test_garbage_keeps_nobody_out(door: Door, sent: bytes) -> None:
    """A stranger that sends garbage, half a message or nothing does not disturb the others."""
    stranger = door.knock()
    stranger._sock.sendall(sent)
    join(door.knock(), SECRET, HELLO)
    assert door.came.wait(10)
    stranger.close()


def _hello(text: str) -> bytes:
    return HEADER.pack(len(text.encode()), 0) + text.encode()


@pytest.mark.parametrize(
    "sent",
    [
        _hello('{"kind": "hello", "nonce": "1", "hello": {}, "mac": "\u00e9"}'),
        _hello('{"kind": "hello", "nonce": "1", "hello": {}, "mac": "\\ud800"}'),
        _hello('{"kind": "hello", "hello": %s}' % ("[" * 1900 + "]" * 1900)),
        _hello('{"kind": "hello", "nonce": 1, "hello": [], "mac": null}'),
    ],
    ids=["no-ascii", "surrogate", "deep", "no-object"],
)
def test_cunning_garbage_is_refused(
    door: Door, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: proofs beyond ASCII and deeply nested frames ended the gate's thread with a traceback,
    and the connection stayed open."""
    crashes: list[object] = []
    monkeypatch.setattr(threading, "excepthook", crashes.append)
    stranger = door.knock()
    stranger._sock.sendall(sent)
    with pytest.raises(ChannelError, match=r"closed|reset"):
        while True:
            stranger.receive()
    assert crashes == [] and not door.inside


def test_dribbling_stranger_is_dropped(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: a byte now and then kept a connection for hours: the limit was that of every read."""
    monkeypatch.setattr(admission, "HANDSHAKE_TIMEOUT_S", 0.3)
    stranger = door.knock()
    with pytest.raises(OSError):
        while True:
            stranger._sock.sendall(HEADER.pack(4000, 0)[:1])
            time.sleep(0.05)


def test_worker_that_did_not_hear_its_welcome_may_come_again(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: a connection that broke within the handshake used up the device's name."""
    send = Channel.send

    def break_off(channel: Channel, kind: str, *args: Any, **fields: Any) -> None:
        if kind == "welcome":
            monkeypatch.setattr(Channel, "send", send)
            raise ChannelError("cannot send welcome: broken")
        send(channel, kind, *args, **fields)

    monkeypatch.setattr(Channel, "send", break_off)
    with pytest.raises(ChannelError):
        join(door.knock(), SECRET, HELLO)
    join(door.knock(), SECRET, HELLO)
    assert door.came.wait(10)


def test_secret_file_is_private(tmp_path: Path) -> None:
    """Only its owner can read it; a short one is refused."""
    path = tmp_path / "secret"
    secret = write_secret(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_secret(path) == secret
    path.write_text("short")
    with pytest.raises(ValueError, match="shorter"):
        read_secret(path)


def test_busy_port_is_an_error() -> None:
    """Two launchers on one port: the second is told."""
    gate = Admission("tcp:127.0.0.1:0", SECRET, [], lambda *_: None)
    with pytest.raises(OSError, match="in use"):
        Admission(gate.address, SECRET, [], lambda *_: None)
    gate.close()


def test_a_worker_that_ends_unexpectedly_says_so_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Bug: a traceback, and status 1; what is expected (a launcher that is gone) is status 6."""
    write_secret(tmp_path / "secret")
    words = ["--name", "d0", "--connect", "unix:/nowhere"]
    words += ["--secret-file", str(tmp_path / "secret")]
    assert worker.main(words) == 6

    def fail(*_: object) -> None:
        raise ImportError("no torch here")

    monkeypatch.setattr(worker, "work", fail)
    assert worker.main(words) == 7
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and said[1].startswith(
        "nptp-opt worker d0: internal error (ImportError: no torch here)"
    )


def test_closed_channel_raises() -> None:
    """The end of the other side is an error, never an empty message."""
    ours, theirs = socket.socketpair()
    theirs.close()
    with pytest.raises(ChannelError):
        Channel(ours).receive()


def test_a_channel_whose_other_side_takes_nothing_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: a worker that was stopped while it was sent weights held its launcher for ever, and a
    worker whose launcher's machine was off waited for the kernel: a quarter of an hour."""
    monkeypatch.setattr(control, "STALLED_S", 0.2)
    server = control.listen("tcp:127.0.0.1:0")
    channel = control.connect(control.address_of(server), 5.0)
    deaf, _ = server.accept()
    channel.settimeout(None)
    channel.be_watched()
    with pytest.raises(ChannelError, match="cannot send much"):
        channel.send("much", bytes(64 * 2**20))
    for sock in (channel, deaf, server):
        sock.close()
