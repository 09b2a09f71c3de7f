"""The process of one device: joins the launcher, takes jobs, executes inputs, reports.

``python -m nptp_opt.runtime.worker.main --name pi-0 --connect unix:/run/control ...``

It needs the plan and the weights as files and nothing of the optimiser. It ends with its
launcher, whatever becomes of it: the control channel closes, and on Linux the kernel kills it.
"""

from __future__ import annotations

import argparse
import os
import queue
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nptp_opt import __version__
from nptp_opt.errors import INTERNAL, ExecutionError, internal_error
from nptp_opt.runtime.children import die_with, fine_timers
from nptp_opt.runtime.trace import Recorder
from nptp_opt.runtime.transport.control import (
    Channel,
    ChannelError,
    Message,
    connect,
    join,
    read_secret,
)

if TYPE_CHECKING:
    from nptp_opt.runtime.worker.job import Job, JobSpec

HEARTBEAT_S = 0.25
CONNECT_TIMEOUT_S = 10.0
PATIENCE_S = 120.0
"""How long a worker on another machine waits for its launcher to be there."""
RETRY_S = 0.5
SWITCH_S = 1e-4
"""How long a thread that brings a message may wait for the one that computes (Python's 5 ms)."""


def main(argv: Sequence[str] | None = None) -> int:
    """Serve a launcher on this machine until it closes the channel; returns the exit status."""
    args = _arguments(argv)
    if args.parent is not None:
        die_with(args.parent)
    try:
        work(args.name, args.connect, args.secret_file, args.interface, args.executor)
    except (ChannelError, ValueError, OSError) as error:
        print(f"nptp-opt worker {args.name}: {error}", file=sys.stderr)
        return ExecutionError.exit_code
    except Exception as error:  # noqa: BLE001 - nobody expected it: one line, as from any command
        print(f"nptp-opt worker {args.name}: {internal_error(error)}", file=sys.stderr)
        return INTERNAL
    return 0


def work(
    name: str,
    address: str,
    secret_file: Path,
    interface: str = "",
    executor: str | None = None,
) -> None:
    """Join the launcher at ``address`` (``unix:PATH`` or ``tcp:HOST:PORT``) and serve it.

    ``interface`` is the only address that is bound for other devices; empty where the launcher
    says which. ``executor`` goes before the launcher's. Raises ChannelError when it does not let
    this worker in, InputError for a secret that cannot be used. The process ends when the launcher
    closes the channel.
    """
    secret = read_secret(secret_file)
    channel = _connect(address, interface)
    join(channel, secret, {"device": name, "version": __version__, "pid": os.getpid()})
    channel.settimeout(None)
    sys.setswitchinterval(SWITCH_S)
    fine_timers()
    Worker(channel, secret, interface, executor).serve()


def _connect(address: str, interface: str) -> Channel:
    """The channel to the launcher; who has to wait for it on another machine is told so, once."""
    deadline = time.monotonic() + (PATIENCE_S if address.startswith("tcp:") else 0.0)
    told = False
    while True:
        try:
            return connect(address, CONNECT_TIMEOUT_S, interface)
        except ChannelError:
            if time.monotonic() >= deadline:
                raise
            if not told:
                print(f"waiting for {address.removeprefix('tcp:')}", file=sys.stderr, flush=True)
                told = True
            time.sleep(RETRY_S)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="nptp-opt worker")
    parser.add_argument("--name", required=True, help="device name in the plan")
    parser.add_argument("--connect", required=True, help="unix:PATH or tcp:HOST:PORT")
    parser.add_argument("--secret-file", required=True, type=Path)
    parser.add_argument("--interface", default="", help="the only address to bind")
    parser.add_argument("--executor", help="before the launcher's")
    parser.add_argument("--parent", type=int, help="end with this process")
    return parser.parse_args(argv)


class Worker:
    """Dispatches the launcher's messages to the current job."""

    def __init__(
        self, channel: Channel, secret: bytes, interface: str = "", executor: str | None = None
    ) -> None:
        self.channel, self.secret, self.interface = channel, secret, interface
        self.executor = executor
        self.recorder = Recorder()
        self.inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self.job: Job | None = None
        self.files: tempfile.TemporaryDirectory[str] | None = None

    def serve(self) -> None:
        """Work until the launcher closes the channel, which ends the process at once."""
        for target in (self._read, self._beat):
            threading.Thread(target=target, daemon=True).start()
        import nptp_opt.runtime.worker.job  # noqa: F401 - torch takes seconds: the beat has begun

        self.recorder.enter("idle")
        self.channel.send("idle")
        while True:
            message = self.inbox.get()
            try:
                getattr(self, f"_on_{message.kind}")(message)
            except Exception as error:  # noqa: BLE001 - reported to the launcher, which decides
                self._fail(message, error)

    def _on_job(self, message: Message) -> None:
        from nptp_opt.runtime.worker.job import Job, JobSpec

        self._drop_job()
        spec = self._with_files(JobSpec(**message["spec"]), message)
        spec = replace(spec, executor=self.executor or spec.executor)

        def meet(address: str) -> list[str]:
            self.channel.send("listening", job=message["job"], address=address)
            answer = self.inbox.get()
            if answer.kind != "peers":
                self.inbox.put(answer)
                raise ChannelError("the launcher gave the job up")
            return list(answer["addresses"])

        self.job = Job(spec, self.recorder, self.secret, meet)
        executor, notes = self.job.executor, list(self.job.notes)
        self.channel.send("ready", job=message["job"], executor=executor, notes=notes)

    def _with_files(self, spec: JobSpec, message: Message) -> JobSpec:
        """The spec with the paths of the files that came as the message's payload, if any did."""
        if spec.plan:
            return spec
        self.files = tempfile.TemporaryDirectory(prefix="nptp-job-")
        plan, weights = (Path(self.files.name) / name for name in ("plan", "weights"))
        content, size = memoryview(message.payload), message["plan_bytes"]
        plan.write_bytes(content[:size])
        weights.write_bytes(content[size:])
        return replace(
            spec, plan=str(plan), weights=str(weights), interface=self.interface or spec.interface
        )

    def _on_clock(self, message: Message) -> None:
        self.channel.send("clock", job=message["job"], now_ns=time.monotonic_ns())

    def _on_arm(self, message: Message) -> None:
        assert self.job is not None
        self.job.arm(message.payload)
        self.channel.send("armed", job=message["job"])
        if not self.job.is_source:
            self._execute(message)

    def _on_go(self, message: Message) -> None:
        self._execute(message)

    def _on_end(self, message: Message) -> None:
        self._drop_job()
        self.channel.send("ended", job=message["job"])

    def _execute(self, message: Message) -> None:
        assert self.job is not None
        report, payload = self.job.execute()
        self.recorder.enter("idle")
        self.channel.send("done", payload, job=message["job"], **report)

    def _fail(self, message: Message, error: Exception) -> None:
        print(f"{message.kind}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        peer = None
        if self.job is not None:
            peer = self.job.peer_of(error)
            self._drop_job()
        text = f"{type(error).__name__}: {error}"
        self.channel.send("failed", job=message.fields.get("job"), peer=peer, error=text)

    def _drop_job(self) -> None:
        job, self.job = self.job, None
        self.recorder.enter("idle")
        if job is not None:
            job.close()
        if self.files is not None:
            self.files.cleanup()
            self.files = None

    def _read(self) -> None:
        try:
            while True:
                self.inbox.put(self.channel.receive())
        except ChannelError:
            if self.files is not None:
                self.files.cleanup()
            os._exit(0)

    def _beat(self) -> None:
        try:
            while True:
                status, job = vars(self.recorder.status), self.job
                peer = None if job is None else job.name_of(status["peer"])
                self.channel.send("alive", **{**status, "peer": peer})
                time.sleep(HEARTBEAT_S)
        except ChannelError:
            os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
