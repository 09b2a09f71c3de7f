"""The service over HTTP, asked by the public client of another project and by rude ones."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gevent
import numpy as np
import pytest
import tritonclient.http as triton
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families
from tritonclient.utils import InferenceServerException

from nptp_opt.cli import main
from nptp_opt.cluster import cluster_from_json
from nptp_opt.commands.json_output import output_of
from nptp_opt.deployment.http.server import bind
from nptp_opt.evaluate.usage import evaluated
from nptp_opt.plan.document import write_plan
from tests.deployment.http.served import (
    NAME,
    Served,
    X,
    is_alive,
    json_body,
    outputs_of,
    service_of,
    values_of,
)
from tests.runtime.forked import Template, forking
from tests.runtime.plans import INPUT, five_devices, hand_plan, model_of, tee
from tests.runtime.test_emulate import needs_root
from tests.runtime.test_hosts import _free_port


@pytest.fixture(scope="module")
def served(template: Template) -> Iterator[Served]:
    with forking(template), Served(service_of(in_flight=2, queue=3)) as made:
        yield made


@pytest.fixture
def client(served: Served) -> Iterator[Any]:
    made = triton.InferenceServerClient(f"127.0.0.1:{served.port}", concurrency=4)
    yield made
    made.close()


def _triton_input(x: np.ndarray[Any, Any], *, binary: bool) -> Any:
    given = triton.InferInput(model_of(NAME).signature.inputs[0].name, list(x.shape), "FP32")
    given.set_data_from_numpy(x, binary_data=binary)
    return given


def test_tritons_client_finds_health_and_metadata(client: Any) -> None:
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready(NAME)
    assert client.is_model_ready(NAME, "1") and not client.is_model_ready("other")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    found = client.get_model_metadata(NAME)
    assert [each["shape"] for each in found["inputs"]] == [list(INPUT)]
    assert [(each["name"], each["datatype"]) for each in found["outputs"]] == [
        ("output_0", "FP32"), ("output_1", "FP32"),
    ]  # fmt: skip


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_tritons_client_gets_the_models_outputs(
    client: Any, *, binary_in: bool, binary_out: bool
) -> None:
    """With raw elements and with JSON, either way, in the order that is asked for."""
    names = ["output_1", "output_0"]
    wanted = [triton.InferRequestedOutput(name, binary_data=binary_out) for name in names]
    found = client.infer(NAME, [_triton_input(X, binary=binary_in)], outputs=wanted, request_id="7")
    assert found.get_response()["id"] == "7"
    assert [each["name"] for each in found.get_response()["outputs"]] == names
    for name, expected in zip(("output_0", "output_1"), outputs_of(), strict=True):
        assert np.allclose(found.as_numpy(name), expected, atol=1e-5)
    everything = client.infer(NAME, [_triton_input(X, binary=binary_in)])
    assert np.allclose(everything.as_numpy("output_1"), outputs_of()[1], atol=1e-5)


def test_nan_passes_as_in_the_model(client: Any, served: Served) -> None:
    """As raw elements and as JSON."""
    x = X.copy()
    x[0, 1, 5, 5] = np.nan
    wanted = outputs_of(x)[1].isnan().numpy()
    assert wanted.any() and not wanted.all()
    found = client.infer(NAME, [_triton_input(x, binary=True)]).as_numpy("output_1")
    assert np.array_equal(np.isnan(found), wanted)
    _, answer, _ = served.ask(json_body(x))
    assert np.array_equal(np.isnan(values_of(answer)[1]), wanted)


def test_tritons_client_hears_what_is_wrong(client: Any, served: Served) -> None:
    good = _triton_input(X, binary=True)
    with pytest.raises(InferenceServerException, match="no model 'other' of version 1 is here"):
        client.infer("other", [good])
    with pytest.raises(InferenceServerException, match="of version 2"):
        client.infer(NAME, [good], model_version="2")
    with pytest.raises(InferenceServerException, match="has shape 1x3x24x21"):
        client.infer(NAME, [_triton_input(np.zeros((1, 3, 24, 21), np.float32), binary=True)])
    with pytest.raises(InferenceServerException, match="no output 'z'"):
        client.infer(NAME, [good], outputs=[triton.InferRequestedOutput("z")])
    with pytest.raises(InferenceServerException, match="compressed bodies are not taken"):
        client.infer(NAME, [good], request_compression_algorithm="gzip")
    assert is_alive(served)


@pytest.mark.parametrize(
    ("body", "headers", "status", "words"),
    [
        (b"", {}, 400, "is no JSON"),
        (b"{}", {"Inference-Header-Content-Length": "x"}, 400, "must be a number of bytes"),
        (b"{}", {"Inference-Header-Content-Length": "5"}, 400, "a JSON part of 5 bytes"),
        (b"{}", {}, 400, "is missing"),
        (b" " * 200_000, {}, 413, "the body has more than"),
    ],
)
def test_bad_requests_are_answered_and_the_service_lives(
    served: Served, body: bytes, headers: dict[str, str], status: int, words: str
) -> None:
    found, answer, _ = served.ask(body, headers)
    assert found == status and words in answer["error"]
    assert is_alive(served)


def test_unknown_addresses_and_methods(served: Served) -> None:
    assert served.get("/v2/nothing")[0] == 404
    assert served.get(f"/v2/models/{NAME}/infer")[0] == 405
    assert served.get("/v2/models/other")[0] == 404


def test_a_client_that_leaves_takes_its_input_back(served: Served) -> None:
    """One that waits in the queue is not computed; others are."""
    _stopped(served, "d1", lambda: _leave_in_the_queue(served))
    assert is_alive(served)


def _stopped(served: Served, device: str, what: Any) -> None:
    """Do something while two inputs are stuck on a device that stands still."""
    pid = served.pid(device)
    os.kill(pid, signal.SIGSTOP)
    with ThreadPoolExecutor(2) as threads:
        try:
            stuck = [threads.submit(served.ask, json_body()) for _ in range(2)]
            _until(lambda: served.service.in_flight == 2)
            what()
        finally:
            os.kill(pid, signal.SIGCONT)
        assert [future.result()[0] for future in stuck] == [200, 200]


def _until(true: Any) -> None:
    for _ in range(1000):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError("it never was")


def _leave_in_the_queue(served: Served) -> None:
    head = f"POST /v2/models/{NAME}/infer HTTP/1.1\r\nHost: x\r\n"
    body = json_body()
    with socket.create_connection(("127.0.0.1", served.port)) as sock:
        sock.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        _until(lambda: served.service.waiting == 1)
    future = served.service._waiting[0].future
    _until(future.cancelled)


def test_a_deadline_that_is_over(served: Served) -> None:
    """504, of the request's own timeout."""

    def late() -> None:
        status, answer, _ = served.ask(json_body(timeout=200_000))
        assert status == 504 and "deadline" in answer["error"]

    _stopped(served, "d1", late)
    assert is_alive(served)


def test_a_full_queue_asks_to_come_again(served: Served) -> None:
    """503 with Retry-After; who waits is answered."""

    def fill() -> None:
        with ThreadPoolExecutor(3) as threads:
            waiting = [threads.submit(served.ask, json_body()) for _ in range(3)]
            _until(lambda: served.service.waiting == 3)
            status, answer, headers = served.ask(json_body())
            assert status == 503 and "3 inputs wait already" in answer["error"]
            assert int(headers["retry-after"]) >= 1
            os.kill(served.pid("d1"), signal.SIGCONT)
            assert [future.result()[0] for future in waiting] == [200, 200, 200]

    _stopped(served, "d1", fill)


def test_metrics_are_prometheus_text(served: Served) -> None:
    """What has happened is counted: requests by status, latencies, bytes, queue, busy share."""
    assert is_alive(served)
    status, text = served.get("/metrics")
    found = {family.name: family for family in text_string_to_metric_families(text.decode())}
    assert status == 200
    ok = sum(s.value for s in found["nptp_requests"].samples if s.labels.get("status") == "200")
    counts = {s.name: s.value for s in found["nptp_latency_seconds"].samples}
    assert ok >= 1 and counts["nptp_latency_seconds_count"] >= ok
    busy = {s.labels["device"]: s.value for s in found["nptp_device_busy_share"].samples}
    assert set(busy) == {"d0", "d1", "d2"} and all(0 < share <= 1 for share in busy.values())
    for name in ("nptp_device_sent_bytes", "nptp_device_busy_seconds"):
        assert sum(s.value for s in found[name].samples if s.name.endswith("_total")) > 0
    for name in ("nptp_queue_length", "nptp_in_flight", "nptp_replans"):
        assert found[name].samples[0].value == 0
    assert found["nptp_ready"].samples[0].value == 1


@pytest.mark.usefixtures("forked")
def test_a_hundred_clients_at_once() -> None:
    """Each gets its own answer, once."""
    inputs = [np.float32(k % 10) * X for k in range(100)]
    wanted = [outputs_of(x) for x in inputs[:10]]
    with Served(service_of(queue=100)) as served, ThreadPoolExecutor(100) as threads:
        answers = list(threads.map(lambda x: served.ask(json_body(x)), inputs))
        assert [status for status, _, _ in answers] == [200] * 100
        for k, (_, answer, _) in enumerate(answers):
            for found, expected in zip(values_of(answer), wanted[k % 10], strict=True):
                assert np.allclose(found, expected, atol=1e-4)
        assert served.service.counts.answered == 100


@pytest.mark.usefixtures("forked")
def test_requests_that_a_busy_server_had_not_read_at_its_end_are_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They lie in the kernel's queues: it closed the connections over them, which resets those."""
    with Served(service_of()) as served:
        began = threading.Event()

        def slow() -> bytes:
            began.set()
            time.sleep(0.5)
            return b""

        monkeypatch.setattr(served.metrics, "text", slow)
        with ThreadPoolExecutor(1) as threads:
            scraped = threads.submit(served.get, "/metrics")
            assert began.wait(10)
            asked = [http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
                     for _ in range(8)]  # fmt: skip
            for connection in asked:
                connection.request("POST", f"/v2/models/{NAME}/infer", json_body())
            served.server.stop()
            assert [connection.getresponse().status for connection in asked] == [200] * 8
            assert scraped.result()[0] == 200
        for connection in asked:
            connection.close()


@pytest.mark.usefixtures("forked")
def test_a_service_that_ends_by_itself_ends_the_server() -> None:
    """A device is lost and nothing is to be planned anew: requests hear its name, and it stops."""
    with Served(service_of(fixed=True)) as served:
        os.kill(served.pid("d2"), signal.SIGKILL)
        heard: list[tuple[int, Any]] = []
        while served.thread.is_alive():
            try:
                status, answer, _ = served.ask(json_body())
            except (OSError, http.client.HTTPException):
                break
            heard.append((status, answer))
        served.thread.join(20)
        assert not served.thread.is_alive()
        assert all("'d2'" in answer["error"] for status, answer in heard if status != 200)
        assert "'d2'" in str(served.service.error)


def test_the_command_serves_drains_at_sigterm_and_ends_well(tmp_path: Path) -> None:
    """What is under way is answered, the exit status is 0, and the sum is one JSON object."""
    model = model_of(NAME)
    plan = hand_plan(model, NAME, tee, five_devices())
    write_plan(
        evaluated(plan),
        tmp_path / "plan.json",
    )
    words = ["serve", str(tmp_path / "plan.json"), "--http", "127.0.0.1:0", "--json"]
    lines = tmp_path / "answers.ndjson"
    process = subprocess.Popen(
        [sys.executable, "-m", "nptp_opt.cli", *words, "--ndjson", lines],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    said = ""
    while "serving" not in said:
        said = process.stderr.readline()
        assert said, process.communicate()
    found = re.search(r"serving together at http://127\.0\.0\.1:(\d+) ", said)
    assert found is not None, said
    port = int(found[1])
    busy = CliRunner().invoke(main, [*words[:3], f"127.0.0.1:{port}"])
    assert busy.exit_code == 2 and "cannot listen there: Address already in use" in busy.stderr
    client = triton.InferenceServerClient(f"127.0.0.1:{port}", concurrency=8)
    pending = [client.async_infer(NAME, [_triton_input(X, binary=True)]) for _ in range(8)]
    first = pending[0].get_result()
    while _requests_known(port) < len(pending):
        gevent.sleep(0.01)  # the client's requests are sent by greenlets
    process.send_signal(signal.SIGTERM)
    for each in (first, *(rest.get_result() for rest in pending[1:])):
        assert np.allclose(each.as_numpy("output_1"), outputs_of()[1], atol=1e-5)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert output_of(json.loads(out)).model_dump()["answered"] == 8 and "closing" in err
    written = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [each["input"] for each in written] == list(range(8))
    assert all(each["latency_s"] > 0 and each["bytes"] > 0 for each in written)


def _requests_known(port: int) -> float:
    """Answered, on the devices and in the queue."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    names = ("nptp_requests_total", "nptp_in_flight", "nptp_queue_length")
    return sum(sample.value for family in text_string_to_metric_families(text)
               for sample in family.samples if sample.name in names)  # fmt: skip


def _ask_once(port: int, over: threading.Event) -> None:
    """One request as soon as the service is there; SIGTERM for this process whatever it hears."""
    try:
        while not over.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            try:
                connection.request("POST", f"/v2/models/{NAME}/infer", json_body())
                if connection.getresponse().status == 200:
                    return
            except OSError:
                over.wait(0.05)
            finally:
                connection.close()
    finally:
        if not over.is_set():
            os.kill(os.getpid(), signal.SIGTERM)


@needs_root
@pytest.mark.usefixtures("forked")
def test_a_service_on_an_emulation_of_too_fast_boards_is_void(tmp_path: Path) -> None:
    """Bug: ``serve`` said nothing where its latencies were this machine's and not the plan's."""
    content = five_devices().to_json()
    for device in content["device"]:
        device["gflops"] = 1e7
    plan, port = tmp_path / "plan.json", _free_port()
    write_plan(evaluated(hand_plan(model_of(NAME), NAME, tee, cluster_from_json(content))), plan)
    words = ["serve", str(plan), "--emulate", "--http", f"127.0.0.1:{port}"]
    over = threading.Event()
    asking = threading.Thread(target=_ask_once, args=(port, over))
    asking.start()
    done = CliRunner().invoke(main, [*words, "--ndjson", str(tmp_path / "lines")])
    over.set()
    asking.join()
    assert done.exit_code == 6, done.stderr
    assert done.stdout.splitlines()[0].startswith("VOID: this machine was too slow")
    assert "VOID" in done.stderr and f"{plan}: VOID" in done.stderr
    (line,) = (tmp_path / "lines").read_text().splitlines()
    assert json.loads(line)["overrun_s"] > 0.02 * json.loads(line)["latency_s"]


@pytest.mark.parametrize("address", ["8000", "127.0.0.1:port", "127.0.0.1:70000", "nowhere.x:1"])
def test_addresses_that_cannot_be(address: str) -> None:
    done = CliRunner().invoke(main, ["serve", "plan.json", "--http", address])
    assert done.exit_code == 2 and f"--http {address}" in done.stderr.replace("'", "")


def test_connections_send_without_delay() -> None:
    """An answer's body waited for the acknowledgement of its head: 40 ms on every request."""
    with (
        bind("127.0.0.1:0") as listening,
        socket.create_connection(listening.getsockname()),
        listening.accept()[0] as connection,
    ):
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what installs it."""
    for name in [name for name in sys.modules if name.startswith("nptp_opt.deployment.http")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    done = CliRunner().invoke(main, ["serve", "plan.json"])
    assert done.exit_code == 2
    assert "uvicorn, which is not installed: pip install 'nptp-opt[serve]'" in done.stderr
