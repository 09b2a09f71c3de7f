"""A worker that knows the secret and sends what no worker sends: the launcher names it and ends."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nptp_opt import __version__
from nptp_opt.runtime.launcher.pool import REPORTS, DeviceLostError, WorkerPool, understood
from nptp_opt.runtime.transport.control import (
    HEADER,
    Channel,
    ChannelError,
    Message,
    connect,
)
from nptp_opt.runtime.transport.handshake import Keys, admit, join, write_secret
from tests.fuzz.documents import EXTREMES, GONE, budget, garbled, mutants

RIGHT: dict[str, dict[str, Any]] = {
    "alive": {"phase": "idle", "step": -1, "peer": None},
    "idle": {"executors": ["torch"], "executor": None},
    "listening": {"address": "tcp:127.0.0.1:1"},
    "ready": {"executor": "torch", "notes": []},
    "wanted": {"digests": []},
    "clock": {"now_ns": 1},
    "probing": {"number": 1, "address": "tcp:127.0.0.1:1"},
    "probed": {"number": 1, "arrival": []},
    "done": {
        "start_ns": 1,
        "end_ns": 2,
        "busy_ns": 1,
        "overrun_ns": 0,
        "sent_bytes": 0,
        "shapes": {},
        "spans": [],
    },
    "measured": {
        "executor": "torch",
        "notes": [],
        "samples": {},
        "codec": [],
        "machine": "x86_64",
    },
    "linked": {"link": {}},
    "ringed": {"mbit_per_s": 1.0},
    "failed": {"error": "no", "peer": None},
}

Door = tuple[WorkerPool, Channel]


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    write_secret(tmp_path / "secret")
    return tmp_path / "secret"


def joined(secret_file: Path) -> Iterator[Door]:
    """A launcher that waits for one device, and that device's channel."""
    with WorkerPool(
        ["d0"], 5.0, address="tcp:127.0.0.1:0", secret_file=secret_file, wait=False
    ) as pool:
        channel = connect(pool.admission.address, 5.0)
        join(
            channel,
            pool.admission.keys,
            {"device": "d0", "version": __version__, "pid": 1},
        )
        yield pool, channel
        channel.close()


def wrong(kind: str, name: str, value: Any) -> dict[str, Any]:
    fields = dict(RIGHT[kind])
    if value is GONE:
        del fields[name]
    else:
        fields[name] = value
    return fields


def is_right(kind: str, fields: dict[str, Any]) -> bool:
    try:
        Message(kind, fields).check(REPORTS)
    except ChannelError:
        return False
    return True


def test_every_report_is_checked_for_all_that_is_read_of_it() -> None:
    assert RIGHT.keys() == REPORTS.keys()
    for kind, fields in RIGHT.items():
        assert is_right(kind, fields)
        assert not any(is_right(kind, wrong(kind, name, GONE)) for name in fields)


@budget(8)
@given(data=st.data())
def test_a_wrong_report_ends_the_run_by_the_devices_name(secret: Path, data: st.DataObject) -> None:
    """``alive`` without fields ended the launcher in a KeyError of its failure detector."""
    kind = data.draw(st.sampled_from(sorted(RIGHT)))
    name = data.draw(st.sampled_from(sorted(RIGHT[kind])))
    fields = wrong(kind, name, data.draw(st.sampled_from([*EXTREMES, GONE])))
    if is_right(kind, fields):
        return
    for pool, channel in joined(secret):
        channel.send(kind, **fields)
        with pytest.raises(DeviceLostError, match=r"'d0' closed .*came with"):
            pool.await_idle()


@pytest.mark.parametrize("error", [KeyError("x"), TypeError("x"), ValueError("x")])
def test_a_report_from_which_nothing_can_be_made_names_its_device(error: Exception) -> None:
    with pytest.raises(DeviceLostError, match="'d1' sent a report that is none"), understood("d1"):
        raise error


def frame(content: object) -> bytes:
    text = json.dumps(content).encode()
    return HEADER.pack(len(text), 0) + text


def said(data: bytes) -> Channel:
    """A channel on whose other side somebody has said this, and nothing more."""
    own, other = socket.socketpair()
    other.sendall(data)
    other.shutdown(socket.SHUT_WR)
    channel = Channel(own)
    channel.settimeout(10)
    return channel


HELLO = {"device": "d0", "version": __version__, "pid": 1}

CHALLENGE = {"kind": "challenge", "nonce": "0" * 32}

ANSWERS: list[dict[str, Any]] = [
    {"kind": "welcome", "mac": "0" * 64},
    {"kind": "refused", "reason": "no"},
    {"kind": "hello", "nonce": "0" * 32, "hello": HELLO, "mac": "0" * 64},
]


@budget(80)
@given(data=st.data())
def test_a_handshake_with_anybody_ends_in_a_channel_error(data: st.DataObject) -> None:
    """Of a worker with a false launcher, and of a launcher with a false worker; RefusedError is
    one. What follows from a message that is none is never another exception."""
    answer = data.draw(mutants(data.draw(st.sampled_from(ANSWERS))))
    wire = frame(data.draw(mutants(CHALLENGE))) + frame(answer)
    if data.draw(st.booleans()):
        wire = data.draw(garbled(wire))
    secret = Keys(b"0" * 32)
    for meet in (lambda c: join(c, secret, HELLO), lambda c: admit(c, secret)):
        channel = said(wire)
        with contextlib.closing(channel), pytest.raises(ChannelError) as caught:
            meet(channel)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    ["tcp:127.0.0.1:99999", "tcp:127.0.0.1:\u00b2", "tcp:" + "a" * 300 + ":1",
     "tcp:a..b:1", "tcp:127.0.0.1:" + "9" * 5000, "unix:" + "a" * 300, "unix:a\0b", "smtp:x", ""],
)  # fmt: skip
def test_an_address_that_is_none_is_no_bug(address: str) -> None:
    """`tcp:127.0.0.1:99999` ended in an OverflowError; ValueError is a line, as of any input."""
    with pytest.raises((ChannelError, ValueError)):
        connect(address, 1.0)
