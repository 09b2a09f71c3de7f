"""Rude clients of the service over HTTP: half requests, endless ones, and heads that are none."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from nptp_opt.deployment.http import server as server_module
from tests.deployment.http.served import NAME, Served, is_alive, service_of
from tests.runtime.forked import Template, forking


@pytest.fixture(scope="module")
def served(template: Template) -> Iterator[Served]:
    with forking(template), Served(service_of(in_flight=2, queue=3)) as made:
        yield made


def _talk(served: Served, data: bytes, *, more: bytes = b"", every_s: float = 0.0) -> bytes:
    """What the server says to a client that sends ``data``, then a byte of ``more`` at a time."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=30) as sock:
        sock.sendall(data)
        for k in range(len(more)):
            try:
                sock.sendall(more[k : k + 1])
            except OSError:
                break
            time.sleep(every_s)
        heard = b""
        while chunk := _received(sock):
            heard += chunk
    return heard


def _received(sock: socket.socket) -> bytes:
    try:
        return sock.recv(65536)
    except ConnectionError:
        return b""


def test_bodies_without_end_are_cut_off(served: Served) -> None:
    """Chunks beyond the limit, and a body that arrives a byte now and then."""
    head = f"POST /v2/models/{NAME}/infer HTTP/1.1\r\nHost: x\r\n".encode()
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    chunked = head + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    heard = _talk(served, chunked + 5 * chunk)
    assert b" 413 " in heard.splitlines()[0]
    slow = head + b"Content-Length: 1000\r\nConnection: close\r\n\r\n{"
    heard = _talk(served, slow, more=b" " * 15, every_s=0.1)
    assert b" 408 " in heard.splitlines()[0] and b"has not arrived within 1 s" in heard
    assert is_alive(served)


def test_half_requests_and_garbage_are_dropped(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing, half a head, a head a byte at a time; no such connection is kept."""
    monkeypatch.setattr(server_module, "HEADERS_S", 0.3)
    assert _talk(served, b"") == b""
    assert _talk(served, b"POST /v2/mod") == b""
    assert _talk(served, b"GET / HTTP/1.1\r\n", more=b"X" * 10, every_s=0.1) == b""
    assert _talk(served, b"\x16\x03\x01 no http\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    again = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"
    assert _talk(served, again + b"GET /v2/he").startswith(b"HTTP/1.1 200 ")
    assert is_alive(served)


CHUNKED = b"Transfer-Encoding: chunked\r\n"


@pytest.mark.parametrize(
    "head",
    [
        b"GET /v2 HTTP/1.1\r\n",
        b"GET /v2 HTTP/1.1\r\nHost: x\r\nHost: y\r\n",
        b"GET /v2 HTTP/1.1\r\nHost : x\r\n",
        b"GET /v2 HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n",
        b"GET /v2 HTTP/1.1\r\nHost: x\r\nA: \0\r\n",
        b"GET /v2 HTTP/1.1\nHost: x\n",
        b"GET /v2 /x HTTP/1.1\r\nHost: x\r\n",
        b"GET /v2\r\n",
        b"GET /v2 HTTP/2.0\r\nHost: x\r\n",
        b"POST /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n" + CHUNKED,
        b"POST /v2 HTTP/1.1\r\nHost: x\r\n" + CHUNKED + b"Content-Length: 4\r\n",
        b"POST /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nContent-Length: 5\r\n",
        b"POST /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: -4\r\n",
        b"POST /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n",
        b"POST /v2 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n",
        b"POST /v2 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n",
    ],
)
def test_heads_that_two_servers_may_read_differently_are_refused(
    served: Served, head: bytes
) -> None:
    """Of no host or two, folded, with two lengths, in another version: RFC 9112."""
    assert _talk(served, head + b"\r\n").startswith(b"HTTP/1.1 400 ")
    assert is_alive(served)


@pytest.mark.parametrize(
    "data",
    [
        b"GET /v2 HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 70_000,
        b"GET /v2 HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 12_000,
        b"GET /" + b"v" * 70_000,
        b"POST /v2 HTTP/1.1\r\nHost: x\r\n" + CHUNKED + b"\r\n1;" + b"a" * 70_000,
        b"POST /v2 HTTP/1.1\r\nHost: x\r\n" + CHUNKED + b"\r\n0\r\n" + b"A: b\r\n" * 12_000,
    ],
)
def test_heads_and_trailers_without_end_are_cut_off(served: Served, data: bytes) -> None:
    """The parser keeps what it reads for as long as it takes."""
    _talk(served, data)  # which hears the connection's end, or waits in vain
    assert is_alive(served)


def test_requests_on_one_connection_are_answered_in_turn(served: Served) -> None:
    """Sent at once, and after one another."""
    ask = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n"
    heard = _talk(served, 2 * (ask + b"\r\n") + ask + b"Connection: close\r\n\r\n")
    assert heard.count(b"HTTP/1.1 200 ") == 3
