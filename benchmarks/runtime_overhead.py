"""What the runtime adds to computing and sending: VGG-16 on four local processes.

    python benchmarks/runtime_overhead.py

Protocol. Plans by template and by ``nptp`` for four equal devices are executed by four processes of
this machine with one thread each, at full speed, over each transport. Of the repeats the one with
the median latency counts. Its critical path is the same run if it consisted of nothing but its own
measured computations, bytes over the rate of a local connection, and that connection's latency
(both measured first, over tcp). ``overhead`` is executed / critical path - 1: packing,
putting inputs together, handing messages over, waking up. Waiting for a core counts as computing:
four processes share those that there are. Every result is compared with the model.
"""

from __future__ import annotations

import multiprocessing
import socket
import tempfile
import time
from pathlib import Path

from about import arguments
from runtime_cases import Record, Row, cluster, model_of, plan_of

from nptp_opt.cluster.profiles import Link
from nptp_opt.errors import ExecutionError
from nptp_opt.network.ref import ModelRef
from nptp_opt.runtime.launcher.launch import run_plan
from nptp_opt.runtime.profiling.link import measure_link, serve_link
from nptp_opt.runtime.profiling.timeline import critical_path_s
from nptp_opt.runtime.transport.handshake import Keys, read_keys
from nptp_opt.runtime.transport.registry import TRANSPORTS

REF = ModelRef("vgg16", (1, 3, 224, 224))
PLANS = ("strips", "2x2", "nptp")
REPEATS = 9
GFLOPS, RATE = 20.0, 1000.0
PATIENCE_S = 30.0


def local_link() -> Link:
    """Latency and rate between two processes of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        address = f"127.0.0.1:{sock.getsockname()[1]}"
    with tempfile.TemporaryDirectory() as folder:
        secret = Path(folder) / "secret"
        secret.write_text("a secret of this measurement")
        server = multiprocessing.get_context("spawn").Process(
            target=serve_link, args=(address, read_keys(secret))
        )
        server.start()
        found = _call_link(address, read_keys(secret))
        server.join()
    return found


def _call_link(address: str, keys: Keys) -> Link:
    """The link, as soon as the other process listens."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return measure_link(address, keys)
        except ExecutionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def row(labels: Row, link: Link) -> Row:
    """One plan over one transport."""
    model = model_of(REF)
    plan = plan_of(labels["plan"], REF, model, cluster(4, GFLOPS, RATE, shared=False))
    report = run_plan(plan, model, repeats=REPEATS, warmup=2, transport=labels["transport"])
    assert report.ok, f"error {report.max_abs_error}"
    path = critical_path_s(plan, report.spans, link)
    figures = {"executed_s": report.median_s, "critical_path_s": path}
    return labels | figures | {"overhead": report.median_s / path - 1.0, "overrun_s": 0.0}


def table(record: Record) -> str:
    about, link = record.about, record.settings["link"]
    lines = [
        "# What the runtime adds to computing and sending",
        "",
        f"`python benchmarks/runtime_overhead.py`; {about['cpu']}, {about['cores']} cores, load "
        f"{record.rows[0]['load']:.1f}, commit {about['commit'][:12]}. VGG-16 at 224 on four local "
        f"processes of one thread; connection of {link['latency_ms']:.2f} ms and "
        f"{link['up_mbit_per_s'] / 1e3:.1f} Gbit/s.",
        "",
        "| plan | transport | executed ms | critical path ms | overhead |",
        "|---|---|---|---|---|",
    ]
    for r in record.rows:
        times = f"{r['executed_s'] * 1e3:.1f} | {r['critical_path_s'] * 1e3:.1f}"
        lines.append(f"| {r['plan']} | {r['transport']} | {times} | {r['overhead']:.1%} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    arguments(__doc__).parse_args()
    link = local_link()
    record = Record("runtime_overhead", {"link": link.model_dump(), "repeats": REPEATS})
    for plan in PLANS:
        for transport in TRANSPORTS:
            found = row({"plan": plan, "transport": transport}, link)
            record.add(found, ("plan", "transport", "executed_s", "critical_path_s", "overhead"))
    record.write({"worst": max(r["overhead"] for r in record.rows)}, table(record))


if __name__ == "__main__":
    main()
