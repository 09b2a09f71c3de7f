"""Requests that nobody means, to a service that runs: each is answered in JSON, and the next one is
answered rightly."""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import socket
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nptp_opt.network.signature import TensorSpec
from tests.deployment.http.served import NAME, Served, X, is_alive, json_body, service_of
from tests.fuzz.documents import budget, garbled, mutants
from tests.runtime.forked import Template, forking

HEADER = "Inference-Header-Content-Length"

NUMBERS = ["", "0", "-1", "1", "50", "\u00b2", "1e3", "9" * 30, "9" * 5000, "x"]
"""Of headers; SUPERSCRIPT TWO is a digit to ``str.isdigit``, and no number to ``int``."""

VALUES: list[Any] = [
    10**400, -(10**400), [1.5, 10**400], 1e308, float("nan"), "\ud800", "1", None, True, [[]], {},
    [[1.0], 2.0], [[[[[]]]]],
]  # fmt: skip

PATHS = [
    "/", "/v2", "/v2/", "//v2", "/v2/models", "/v2/models/", f"/v2/models/{NAME}/versions/\u0661",
    f"/v2/models/{NAME}/versions/1/infer", f"/v2/models/%00/{NAME}", "/v2/models/%ff/infer",
    f"/v2/models/{NAME}/infer?x=%", "/v2/models/../../etc/passwd", "/" + "a" * 5000, "*",
    "/metrics",
]  # fmt: skip


@pytest.fixture(scope="module")
def served(template: Template) -> Iterator[Served]:
    with forking(template), Served(service_of(in_flight=2, queue=3)) as made:
        yield made


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What the server logs: an exception in the application is an error there."""
    with caplog.at_level(logging.ERROR):
        yield caplog


def answered(served: Served, body: bytes, headers: dict[str, str], path: str, method: str) -> int:
    """The status of a request; what is refused says why in a line of JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
    with contextlib.closing(connection):
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            connection.putheader(name, value.encode("latin-1", "replace"))
        connection.endheaders()
        with contextlib.suppress(OSError):  # it may have answered and hung up
            connection.send(body)
        answer = connection.getresponse()
        content = answer.read()
    if answer.status >= 400 and "json" in answer.headers.get("Content-Type", ""):
        assert "\n" not in json.loads(content)["error"]
    return answer.status


def raw_body(x: np.ndarray[Any, Any] = X) -> tuple[bytes, int]:
    """A request whose elements follow its JSON, and the bytes of that."""
    entry = json.loads(json_body())["inputs"][0]
    del entry["data"]
    entry["parameters"] = {"binary_data_size": x.nbytes}
    text = json.dumps({"inputs": [entry], "parameters": {"binary_data_output": True}}).encode()
    return text + x.tobytes(), len(text)


def small_json() -> dict[str, Any]:
    """A request as a document, with few of the input's elements."""
    content: dict[str, Any] = json.loads(json_body())
    content["inputs"][0]["data"] = content["inputs"][0]["data"][:5]
    return content | {
        "id": "7", "outputs": [{"name": "output_0", "parameters": {"binary_data": True}}],
        "parameters": {"timeout": 10_000_000, "binary_data_output": False},
    }  # fmt: skip


@budget(60)
@given(data=st.data())
def test_any_json_is_answered(
    data: st.DataObject, served: Served, quiet: pytest.LogCaptureFixture
) -> None:
    content = data.draw(mutants(small_json()))
    if data.draw(st.booleans()) and content.get("inputs"):
        with contextlib.suppress(TypeError):
            content["inputs"][0]["data"] = data.draw(st.sampled_from(VALUES))
    status = answered(served, json.dumps(content).encode(), {}, f"/v2/models/{NAME}/infer", "POST")
    assert status in (200, 400, 413)
    assert not quiet.records


@budget(60)
@given(data=st.data())
def test_any_bytes_and_headers_are_answered(
    data: st.DataObject, served: Served, quiet: pytest.LogCaptureFixture
) -> None:
    body, size = raw_body()
    body = data.draw(st.one_of(st.just(body), garbled(body[:400]), st.just(body[:size])))
    headers = {HEADER: data.draw(st.sampled_from([str(size), *NUMBERS]))}
    name = data.draw(st.sampled_from(["Content-Encoding", "Accept", "Content-Type", HEADER]))
    headers[name] = data.draw(st.sampled_from([str(size), *NUMBERS, "gzip", "identity"]))
    status = answered(served, body, headers, f"/v2/models/{NAME}/infer", "POST")
    assert status in (200, 400, 413, 415)
    assert not quiet.records


@budget(30)
@given(
    path=st.sampled_from(PATHS),
    method=st.sampled_from(["GET", "POST", "PUT", "HEAD", "OPTIONS", "BREW"]),
)
def test_any_path_and_method_is_answered(
    path: str, method: str, served: Served, quiet: pytest.LogCaptureFixture
) -> None:
    status = answered(served, b"", {}, path.encode().decode("latin-1"), method)
    assert status < 500
    assert not quiet.records


@budget(20)
@given(data=st.data())
def test_garbled_requests_leave_the_service_well(
    data: st.DataObject, served: Served, quiet: pytest.LogCaptureFixture
) -> None:
    """Heads and bodies on the socket, as no client writes them; then half of what is sent."""
    body = json_body()[:200]
    whole = (
        f"POST /v2/models/{NAME}/infer HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    with socket.create_connection(("127.0.0.1", served.port), timeout=60) as sock:
        sock.sendall(data.draw(garbled(whole)))
        sock.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            while sock.recv(65536):
                pass
    assert not quiet.records


def test_the_service_is_alive_after_all_that(served: Served) -> None:
    assert is_alive(served)
    body, size = raw_body()
    path = f"/v2/models/{NAME}/infer"
    assert answered(served, body, {HEADER: str(size)}, path, "POST") == 200
    assert served.service.in_flight == 0


def test_elements_that_a_type_cannot_hold_are_refused() -> None:
    """300 of an input of uint8 was taken for 44."""
    import torch

    from nptp_opt.deployment.http.protocol import RequestError, _from_json

    spec = TensorSpec("x", (2,), torch.uint8)
    assert _from_json([0, 255], spec).tolist() == [0, 255]
    for data in ([0, 256], [-1, 0], [0, 10**30]):
        with pytest.raises(RequestError, match="numbers of UINT8"):
            _from_json(data, spec)
