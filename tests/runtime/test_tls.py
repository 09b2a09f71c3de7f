"""TLS: who is let in by which certificate, and that nothing can be read on the way."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from nptp_opt import __version__
from nptp_opt.cli import main
from nptp_opt.errors import InputError
from nptp_opt.runtime.launcher import admission
from nptp_opt.runtime.launcher.admission import Admission
from nptp_opt.runtime.launcher.request import RunRequest
from nptp_opt.runtime.profiling.link import measure_link, serve_link
from nptp_opt.runtime.transport import tls
from nptp_opt.runtime.transport.base import PeerError, Rendezvous
from nptp_opt.runtime.transport.control import Channel, ChannelError, RefusedError, connect
from nptp_opt.runtime.transport.gloo import GlooTransport
from nptp_opt.runtime.transport.handshake import (
    DEVICE,
    LAUNCHER,
    THE_LAUNCHER,
    Keys,
    Party,
    device,
    join,
    read_keys,
)
from nptp_opt.runtime.transport.tcp import TcpTransport, fill
from nptp_opt.runtime.transport.tls import read_identity
from nptp_opt.runtime.worker import probe
from nptp_opt.runtime.worker.start import WorkerRequest
from tests.runtime.certified import SECRET, file_of, folder, keys, relay, write_certificate
from tests.runtime.test_hosts import _free_port

HELLO = {"device": "d0", "version": __version__, "pid": 1}
YEAR_S = 365 * 24 * 3600


@pytest.fixture
def inside() -> dict[str, Channel]:
    return {}


@pytest.fixture
def gate(inside: dict[str, Channel]) -> Iterator[Admission]:
    """A launcher that takes TLS alone."""
    made = Admission("tcp:127.0.0.1:0", keys("launcher"), ["d0"], inside.__setitem__)
    yield made
    made.close()


def until(holds: Callable[[], Any]) -> None:
    """Return as soon as it holds; nothing is asserted of how long that takes."""
    deadline = time.monotonic() + 180
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(1e-3)


def knock(gate: Admission, who: Keys) -> Channel:
    """Join as d0 does."""
    channel = connect(gate.address, 10.0)
    channel.settimeout(10.0)
    join(channel, who, HELLO, THE_LAUNCHER)
    return channel


def test_both_sides_know_each_other_and_talk_at_once(
    gate: Admission, inside: dict[str, Channel]
) -> None:
    """Megabytes both ways at a time: one thread of each side writes while another reads."""
    ours = knock(gate, keys("d0"))
    until(lambda: inside)
    theirs = inside["d0"]
    assert (ours.peer, theirs.peer) == (THE_LAUNCHER, device("d0"))
    said = np.random.default_rng(0).bytes(3_000_001)
    senders = [threading.Thread(target=each.send, args=("x", said)) for each in (ours, theirs)]
    for sender in senders:
        sender.start()
    assert [bytes(each.receive().payload) == said for each in (ours, theirs)] == [True, True]
    theirs.close()
    with pytest.raises(ChannelError, match="closed"):
        ours.receive()


REFUSED = {
    "plain": (None, "takes TLS alone: give this one its certificate", "does not speak TLS"),
    "other authority": ("other/d0", "certificate is of another authority", "another authority"),
    "other device": ("d1", "is that of device 'd1', not of device 'd0'", "is that of device 'd1'"),
    "the launcher's": ("launcher", "that of the launcher, not of device", "is that of the launch"),
}
"""By what is wrong with who knocks: its certificate, what it is told, what the launcher logs."""


@pytest.mark.parametrize("wrong", REFUSED)
def test_wrong_certificates_are_refused_in_words(
    gate: Admission, inside: dict[str, Channel], caplog: pytest.LogCaptureFixture, wrong: str
) -> None:
    """Both sides are told, and who comes next is let in."""
    name, told, logged = REFUSED[wrong]
    with caplog.at_level(logging.WARNING), pytest.raises(RefusedError, match=told):
        knock(gate, keys(name))
    until(lambda: logged in caplog.text)
    assert "refused a connection from 127.0.0.1: " in caplog.text
    assert not inside
    knock(gate, keys("d0"))
    until(lambda: inside)


def outdated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Keys:
    """Keys of a d0 whose certificate has expired, and who does not notice it himself."""
    path = write_certificate(tmp_path / "old.pem", device("d0"), -1)
    with pytest.raises(InputError, match=r"old.pem: .* 'd0' expired on 20\d\d-.*: make another"):
        read_identity(path)
    then = SimpleNamespace(time=lambda: time.time() - YEAR_S, monotonic=time.monotonic)
    monkeypatch.setattr(tls, "time", then)
    return Keys(SECRET.encode(), replace(read_identity(path), ends_s=float("inf")))


def test_an_expired_certificate_is_refused(
    gate: Admission,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By its owner, who is told its name and day, and by everybody else."""
    old = outdated(tmp_path, monkeypatch)
    monkeypatch.undo()
    with caplog.at_level(logging.WARNING):
        with pytest.raises(RefusedError, match=r"the other side finds that this .* has expired"):
            knock(gate, old)
        until(lambda: "the other side's certificate has expired" in caplog.text)


def test_a_certificate_that_expires_meanwhile_is_told_at_the_next_connection(
    gate: Admission, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon runs for years; a board without a clock wakes up in 1970."""
    ours = keys("d0")
    late = SimpleNamespace(time=lambda: time.time() + 20 * YEAR_S, monotonic=time.monotonic)
    early = SimpleNamespace(time=lambda: 0.0, monotonic=time.monotonic)
    for clock, told in ((late, "'d0' expired on"), (early, "clock says 1970-01-01 00:00 UTC: set")):
        monkeypatch.setattr(tls, "time", clock)
        with pytest.raises(RefusedError, match=told):
            knock(gate, ours)


def test_a_launcher_without_its_certificate_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    """The worker does not go on in the clear, and the launcher is told what it lacks."""
    gate = Admission("tcp:127.0.0.1:0", keys(None), ["d0"], lambda name, channel: None)
    with caplog.at_level(logging.WARNING):
        with pytest.raises(RefusedError, match=r"has no certificate \(--tls\), and this one"):
            knock(gate, keys("d0"))
        until(lambda: "give this one a certificate (--tls)" in caplog.text)
    gate.close()


def test_a_device_does_not_pass_for_the_launcher() -> None:
    """It knows the secret, and has a certificate of the right authority."""
    gate = Admission("tcp:127.0.0.1:0", keys("d1"), ["d0"], lambda name, channel: None)
    with pytest.raises(RefusedError, match="is that of device 'd1', not of the launcher"):
        knock(gate, keys("d0"))
    gate.close()


@pytest.mark.parametrize(
    ("said", "logged"),
    [
        (b"", "timed out"),
        (b"\x16\x03\x01", "timed out"),
        (b"GET / HTTP/1.1\r\n\r\n", "HTTP"),
        (b"\xff" * 64, "does not speak TLS"),
    ],
    ids=["nothing", "half a hello", "http", "garbage"],
)
def test_strangers_are_dropped_in_words(
    inside: dict[str, Channel],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    said: bytes,
    logged: str,
) -> None:
    """Within the handshake's limit; a worker that comes meanwhile does not wait for them."""
    monkeypatch.setattr(admission, "HANDSHAKE_TIMEOUT_S", 0.5)
    gate = Admission("tcp:127.0.0.1:0", keys("launcher"), ["d0"], inside.__setitem__)
    with caplog.at_level(logging.WARNING):
        host, _, port = gate.address.removeprefix("tcp:").partition(":")
        stranger = socket.create_connection((host, int(port)))
        stranger.sendall(said)
        until(lambda: logged in caplog.text)
    stranger.close()
    monkeypatch.setattr(admission, "HANDSHAKE_TIMEOUT_S", 10.0)
    knock(gate, keys("d0"))
    until(lambda: inside)
    gate.close()


def test_what_is_there_at_the_first_look_comes_at_once(
    gate: Admission, inside: dict[str, Channel]
) -> None:
    """As without TLS: by record, a link's rate was measured as that of decryption."""
    ours = knock(gate, keys("d0"))
    until(lambda: inside)
    ours.stream.sendall(bytes(40_000))  # three records
    theirs = inside["d0"]._sock
    until(lambda: len(theirs.recv(2**18, socket.MSG_PEEK)) > 40_000)
    assert fill(inside["d0"].stream, memoryview(bytearray(40_000))).bytes == 0


def test_a_byte_changed_on_the_way_ends_the_connection(
    gate: Admission, inside: dict[str, Channel]
) -> None:
    """Nothing of a record that was tampered with is handed on."""
    ours = knock(gate, keys("d0"))
    until(lambda: inside)
    sealed = bytearray(ours.stream._sealed(b"0123456789"))  # type: ignore[attr-defined]
    sealed[-1] ^= 1
    ours._sock.sendall(sealed)
    with pytest.raises(ChannelError, match=r"TLS: .*bad record mac"):
        inside["d0"].receive()


# -- between devices ---------------------------------------------------------------------------


def pair(
    mine: str | None, other: str | None, way: Callable[[int], int] = lambda port: port
) -> list[TcpTransport]:
    """Ranks 0 and 1, which expect d0 and d1 of each other; ``way`` is the port to rank 0."""
    addresses, barrier = ["", ""], threading.Barrier(2)
    made: dict[int, TcpTransport] = {}
    failed: list[Exception] = []

    def start(rank: int, name: str | None) -> None:
        def meet(own: str) -> list[str]:
            port = int(own.rpartition(":")[2])
            addresses[rank] = f"127.0.0.1:{way(port) if rank == 0 else port}"
            barrier.wait(10)
            return addresses

        where = Rendezvous(None, rank, 2, "127.0.0.1", keys(name), meet, names=["d0", "d1"])
        try:
            made[rank] = TcpTransport(where)
        except ChannelError as error:
            failed.append(error)

    threads = [threading.Thread(target=start, args=each, daemon=True)
               for each in enumerate((mine, other))]  # fmt: skip
    for thread in threads:
        thread.start()
    threads[1].join(60)
    if failed:  # rank 0 waits for a rank that is let in
        raise failed[0]
    threads[0].join(60)
    return [made[0], made[1]]


def exchange(ranks: list[TcpTransport], values: np.ndarray[Any, Any]) -> None:
    """The same message both ways, and a short one behind it."""
    got, short = [np.empty_like(values) for _ in ranks], [np.zeros(3) for _ in ranks]
    pending = []
    for rank, transport in enumerate(ranks):
        pending += [transport.receive(1 - rank, 1, got[rank]),
                    transport.receive(1 - rank, 2, short[rank])]  # fmt: skip
    for rank, transport in enumerate(ranks):
        pending += [transport.send(1 - rank, 1, values),
                    transport.send(1 - rank, 2, np.full(3, 7.0))]  # fmt: skip
    for each in pending:
        each.wait()
    assert all(np.array_equal(each, values) for each in got)
    assert all(each.tolist() == [7.0] * 3 for each in short)


@pytest.mark.parametrize("certified", [False, True])
def test_messages_between_devices_are_readable_without_tls_alone(*, certified: bool) -> None:
    """What goes by a relay is recorded: large messages, small ones, in both directions."""
    values = np.arange(200_000, dtype=np.float32)
    relays = []

    def way(port: int) -> int:
        opened = relay(port)
        relays.append((opened, opened.__enter__()))
        return relays[-1][1].port

    ranks = pair(*(("d0", "d1") if certified else (None, None)), way)
    exchange(ranks, values)
    for transport in ranks:
        transport.close()
    opened, recorder = relays[0]
    until(lambda: len(recorder.seen) == 2)
    assert sum(map(len, recorder.seen)) > 2 * values.nbytes
    for start in (0, 100_000):
        assert recorder.saw(values[start : start + 16].tobytes()) is not certified
    assert recorder.saw(np.full(3, 7.0).tobytes()) is not certified
    opened.__exit__(None, None, None)


@pytest.mark.parametrize(
    ("mine", "other", "words"),
    [
        ("d2", "d1", "is that of device 'd2', not of device 'd0'"),
        ("d0", "d2", "is that of device 'd2', not of device 'd1'"),
        ("d0", "other/d1", "of another authority"),
        ("d0", None, "takes TLS alone"),
        (None, "d1", "has no certificate"),
    ],
)
def test_a_device_that_is_another_is_refused(
    mine: str | None, other: str | None, words: str
) -> None:
    """The launcher says where d0 listens, and d0 has to prove that it is d0; so does who calls."""
    with pytest.raises(RefusedError, match=words):
        pair(mine, other)


def test_a_peer_that_is_gone_is_an_error_and_no_hang() -> None:
    """In the middle of a message, under TLS as without."""
    ranks = pair("d0", "d1")
    waiting = ranks[1].receive(0, 1, np.zeros(10**6))
    ranks[0].channels[1].stream.sendall(b"\0\0\0\1" + (8 * 10**6).to_bytes(8, "big") + b"half")
    ranks[0].close()
    with pytest.raises(PeerError, match="closed"):
        waiting.wait()
    ranks[1].close()


def test_gloo_has_no_tls() -> None:
    where = Rendezvous(None, 0, 1, "lo", keys("d0"), lambda own: [own])
    with pytest.raises(InputError, match="'gloo' has no TLS: use transport 'tcp'"):
        GlooTransport(where)


def test_probes_go_over_tls() -> None:
    """And to the device that is meant alone."""
    addresses: list[str] = []
    answered: list[Any] = []

    def answer(expected: str) -> None:
        try:
            answered.append(probe.answer("127.0.0.1", keys("d1"), expected, addresses.append))
        except ChannelError as error:
            answered.append(str(error))

    for expected in ("d0", "d2"):
        addresses.clear()
        thread = threading.Thread(target=answer, args=(expected,))
        thread.start()
        until(lambda: addresses)
        if expected == "d0":
            probe.call(addresses[0], "127.0.0.1", keys("d0"), "d1")
        else:
            with pytest.raises(RefusedError, match="is that of device 'd0', not of device 'd2'"):
                probe.call(addresses[0], "127.0.0.1", keys("d0"), "d1")
        thread.join()
    assert answered[0].end_ns > 0 and "device 'd0', not of device 'd2'" in answered[1]


def test_links_are_measured_over_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    """`profile --serve` and `--peer`, each with its own certificate."""
    address = f"127.0.0.1:{_free_port()}"
    server = threading.Thread(target=serve_link, args=(address, keys("d1")))
    server.start()
    found: list[Any] = []

    def measured() -> bool:
        try:
            found.append(measure_link(address, keys("d0")))
        except Exception as error:  # noqa: BLE001 - nobody listens yet
            assert "cannot connect" in str(error)
        return bool(found)

    until(measured)
    server.join()
    assert found[0].up_mbit_per_s > 0


# -- files and options -------------------------------------------------------------------------


def test_files_of_no_use_are_named(tmp_path: Path) -> None:
    """Before anything is started: what is wrong, where, and what to do."""
    own, other = file_of("d0").read_text(), file_of("d1").read_text()
    key = own[own.index("-----BEGIN PRIVATE") :]
    foreign = other[other.index("-----BEGIN PRIVATE") :]
    cases = {
        "missing": (None, "cannot be read"),
        "empty": ("", "has no certificate with that of its authority"),
        "alone": (own.partition("-----END CERTIFICATE-----")[0], "has no certificate"),
        "keyless": (own.replace(key, ""), "certificate and key cannot be used"),
        "foreign": (own.replace(key, foreign), "the key is not that of the certificate"),
    }
    for name, (text, words) in cases.items():
        path = tmp_path / name
        if text is not None:
            path.write_text(text)
        with pytest.raises(InputError, match=words) as caught:
            read_identity(path)
        assert str(path) in str(caught.value)
    end = "-----END CERTIFICATE-----\n"
    strange = file_of("other/d0").read_text().split(end)[1]
    mixed = tmp_path / "mixed"
    mixed.write_text(own.split(end)[0] + end + strange + end + key)
    with pytest.raises(InputError, match="mixed: its certificate is of no use"):
        read_identity(mixed)


def test_a_certificate_is_its_owners(tmp_path: Path) -> None:
    """d1's file on d0's board, and a device's file at the launcher: told at once."""
    secret = folder() / "secret"
    with pytest.raises(InputError, match=r"d1.pem: is the certificate of device 'd1', not of dev"):
        WorkerRequest("127.0.0.1:1", "d0", secret, tls=file_of("d1"))
    with pytest.raises(InputError, match=r"d1.pem: .* of device 'd1', not of the launcher"):
        RunRequest(hosts="127.0.0.1:1", secret_file=secret, tls=file_of("d1"))
    with pytest.raises(InputError, match=r"`tls` .* belongs to `hosts`"):
        RunRequest(tls=file_of("launcher"))
    with pytest.raises(InputError, match="cannot be read"):
        read_keys(secret, tmp_path / "nowhere")
    assert RunRequest(hosts="127.0.0.1:1", secret_file=secret, tls=file_of("launcher")).tls
    request = WorkerRequest("127.0.0.1:1", "d0", secret, tls=file_of("d0"))
    assert ["--tls", str(file_of("d0"))] == request.options()[4:6]
    assert (Party(DEVICE, "launcher"), str(Party(LAUNCHER, "x"))) != (THE_LAUNCHER, "")


def test_a_worker_says_which_certificate_is_wrong() -> None:
    """`nptp-opt worker` checks it before it becomes a worker: status 2."""
    words = ["--connect", "127.0.0.1:1", "--name", "d0", "--secret-file", str(folder() / "secret")]
    result = CliRunner().invoke(main, ["worker", *words, "--tls", str(file_of("other/d1"))])
    assert result.exit_code == 2 and "is the certificate of device 'd1'" in result.stderr


def test_ssl_is_imported_for_tls_alone() -> None:
    """A worker without it starts as fast as before."""
    code = "import sys, nptp_opt.runtime.worker.start, nptp_opt.runtime.transport.tcp; " \
        "sys.exit('ssl' in sys.modules)"  # fmt: skip
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
