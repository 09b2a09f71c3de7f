"""What a deployment adds to a run, and what inputs in flight bring; on emulated clusters.

    python benchmarks/deployment.py rate [--model squeezenet1_1] [--size 224] [--mbit 10]
    python benchmarks/deployment.py http [--model vgg16] [--size 224] [--gflops 4]

``rate``: a throughput plan for four boards of about 1 GFLOP/s (so slow that this machine can be all
of them at once) on a switch, with 1, 2, 4 ... inputs in flight. Told are the rate as a share of
1 / period_s, how many times that of one input at a time it is, and the most that this can be: the
plan's latency over its period. At 100 Mbit/s these boards compute nearly all of the time also for
one input, and no plan can gain more than that leaves; at 10 Mbit/s they wait for each other.

``http``: ``nptp-opt serve`` and the client are processes of their own. Told is what a request with
binary tensors takes over the latency on the devices that its answer tells, and over the median of
``run`` for the same plan: from the first byte sent to the last received, by a client that has the
request's bytes and looks at the answer later, so that it is the service that is timed. Requests of
Python's ``http.client``, which are timed with what it does before and after, come in between. Needs
network namespaces; all answers are compared with the model.
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

import nptp_opt as nptp
from nptp_opt.plan.document import write_plan

IN_FLIGHT = (1, 2, 4, 8)
SPEEDS = np.array([1.2, 1.0, 0.8, 0.8])
NEEDED, LIMIT_S, LIMIT_SHARE = 1.5, 3e-3, 0.05
SIZE = "Inference-Header-Content-Length"


def cluster(gflops: float, mbit_per_s: float = 100.0) -> nptp.Cluster:
    link = {"up_mbit_per_s": mbit_per_s, "down_mbit_per_s": mbit_per_s, "overhead_ms": 0.1}
    devices = [{"name": f"d{i}", "gflops": gflops * s, **link} for i, s in enumerate(SPEEDS)]
    return nptp.Cluster(network={"kind": "switched", "latency_ms": 0.5}, devices=devices)


def measure_rate(model: nptp.LoadedModel, inputs: int, mbit_per_s: float) -> None:
    boards = cluster(1.0, mbit_per_s)
    plan = nptp.solve(model, boards, objective="throughput", time_limit_s=30, bound=False)
    assert plan.period_s is not None
    print(
        f"{mbit_per_s:g} Mbit/s: period {plan.period_s:.4f} s, latency {plan.latency_s:.4f} s: at "
        f"most {plan.latency_s / plan.period_s:.2f} times the rate of one at a time"
    )
    alone = 0.0
    for in_flight in IN_FLIGHT:
        report = nptp.run(plan, model, repeats=inputs, emulate=True, in_flight=in_flight)
        assert report.ok
        alone = alone or report.rate_per_s
        print(
            f"{in_flight} in flight: {report.rate_per_s:.3f} per second, "
            f"{report.rate_per_s * plan.period_s:.2f} of 1 / period_s, "
            f"{report.rate_per_s / alone:.2f} times one at a time ({NEEDED} wanted), median "
            f"latency {report.median_s:.3f} s{', VOID' if report.is_void else ''}",
            flush=True,
        )


@contextmanager
def serving(plan: Path) -> Iterator[int]:
    """The port of ``nptp-opt serve`` on an emulated cluster, in a process of its own."""
    words = ["-m", "nptp_opt", "serve", str(plan), "--emulate", "--fixed", "--http", "127.0.0.1:0"]
    words += ["--allow-other-weights"]
    with subprocess.Popen([sys.executable, *words], stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            found = (re.search(r"at http://127.0.0.1:(\d+)", line) for line in process.stderr)
            yield int(next(match for match in found if match)[1])
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate()


Answered = tuple[float, bytes, bytes]
"""Seconds of a request, and the answer's head and body."""


def request(port: int, name: str, x: torch.Tensor) -> tuple[str, dict[str, str], bytes]:
    """Address, headers and body of one."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", f"/v2/models/{name}")
    described = json.loads(connection.getresponse().read())
    connection.close()
    raw = x.numpy().tobytes()
    entry = {**described["inputs"][0], "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [entry], "parameters": {"binary_data_output": True}}).encode()
    return f"/v2/models/{name}/infer", {SIZE: str(len(head))}, head + raw


def by_socket(port: int, path: str, headers: dict[str, str], body: bytes) -> Answered:
    """By a client that does nothing else meanwhile."""
    lines = {"Host": "127.0.0.1", "Content-Length": str(len(body)), **headers}
    head = "".join(f"{key}: {value}\r\n" for key, value in lines.items())
    data = f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body
    with socket.create_connection(("127.0.0.1", port)) as sock:
        start, heard, missing = time.perf_counter(), b"", 1
        sock.sendall(data)
        while missing > 0:
            heard += sock.recv(2**20)
            before, end, after = heard.partition(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", before.lower()) if end else None
            missing = int(length[1]) - len(after) if length else 1
        return time.perf_counter() - start, before, after


def by_library(port: int, path: str, headers: dict[str, str], body: bytes) -> Answered:
    """By Python's own client."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.connect()
    start = time.perf_counter()
    connection.request("POST", path, body, headers)
    answer = connection.getresponse()
    after = answer.read()
    took_s = time.perf_counter() - start
    connection.close()
    return took_s, str(answer.headers).encode(), after


def devices_s(answered: Answered, expected: np.ndarray[Any, Any]) -> float:
    """The latency on the devices that a right answer tells."""
    _, head, body = answered
    found = re.search(rf"{SIZE}: (\d+)".lower().encode(), head.lower())
    assert found is not None, head
    n = int(found[1])
    assert np.allclose(np.frombuffer(body[n:], "<f4"), expected, atol=1e-3), "a wrong answer"
    return float(json.loads(body[:n])["parameters"]["latency_s"])


def measure_http(model: nptp.LoadedModel, name: str, requests: int, gflops: float) -> None:
    plan = nptp.solve(model, cluster(gflops), time_limit_s=15, bound=False)
    (spec,) = model.signature.inputs
    x = torch.randn(spec.shape, generator=torch.Generator().manual_seed(0))
    expected = model.witness.outputs(x)[0].numpy().ravel()
    report = nptp.run(plan, model, repeats=requests, emulate=True)
    ways = {"a socket": by_socket, "http.client": by_library}
    asked: dict[str, list[Answered]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plan.json"
        write_plan(plan, path)
        with serving(path) as port:
            for _ in range(requests + 1):
                for way, ask in ways.items():
                    asked[way].append(ask(port, *request(port, name, x)))
    void = ", VOID" if report.is_void else ""
    print(
        f"plan {plan.latency_s:.4f} s, {report.median_s:.4f} s by run{void}; at most "
        f"{LIMIT_S * 1e3:g} ms and {LIMIT_SHARE:.0%} are to be added"
    )
    for way, answers in asked.items():
        del answers[0]  # the first one warms up, as run's does
        whole = statistics.median(each[0] for each in answers)
        added = [each[0] - devices_s(each, expected) for each in answers]
        over = whole - report.median_s
        print(
            f"by {way}: {whole:.4f} s, {over * 1e3:+.2f} ms, {over / report.median_s:+.1%}; over "
            f"the devices' own latency {statistics.median(added) * 1e3:.2f} ms in the median, "
            f"{min(added) * 1e3:.2f} at least"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=["rate", "http"])
    parser.add_argument("--model", help="squeezenet1_1 for rate, vgg16 for http, if left out")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--inputs", type=int, default=24)
    parser.add_argument("--mbit", type=float, default=10.0)
    parser.add_argument("--gflops", type=float, default=4.0)
    args = parser.parse_args()
    name = args.model or {"rate": "squeezenet1_1", "http": "vgg16"}[args.what]
    model = nptp.load_model(name, (1, 3, args.size, args.size))
    if args.what == "rate":
        measure_rate(model, args.inputs, args.mbit)
    else:
        measure_http(model, name, args.inputs, args.gflops)


if __name__ == "__main__":
    main()
