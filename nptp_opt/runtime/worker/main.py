"""The process of one device: joins the launcher, takes jobs, executes inputs, reports.

``python -m nptp_opt.runtime.worker.main --name pi-0 --connect unix:/run/control ...``

It needs the plan and the weights as files and nothing of the optimiser. It ends with its
launcher, whatever becomes of it: the control channel closes, and on Linux the kernel kills it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import queue
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from nptp_opt import __version__
from nptp_opt.errors import (
    INTERNAL,
    LAUNCHER_LOST,
    REFUSED,
    ExecutionError,
    internal_error,
    printable,
)
from nptp_opt.runtime.children import die_with, fine_timers
from nptp_opt.runtime.trace import Recorder
from nptp_opt.runtime.transport.control import (
    Channel,
    ChannelError,
    Message,
    RefusedError,
    connect,
)
from nptp_opt.runtime.transport.handshake import (
    HANDSHAKE_TIMEOUT_S,
    THE_LAUNCHER,
    Keys,
    device,
    join,
    read_keys,
)
from nptp_opt.runtime.worker.weight_store import Content, WeightStore

if TYPE_CHECKING:
    from nptp_opt.runtime.worker.job import Job, JobSpec
    from nptp_opt.runtime.worker.lanes import Lanes
    from nptp_opt.runtime.worker.material import Material

HEARTBEAT_S = 0.25
CONNECT_TIMEOUT_S = 10.0
PATIENCE_S = 120.0
"""How long a worker on another machine waits for its launcher to be there."""
RETRY_S = 0.5
NO_STORE = WeightStore(Path(), 0)
SWITCH_S = 1e-4
"""How long a thread that brings a message may wait for the one that computes (Python's 5 ms)."""


def main(argv: Sequence[str] | None = None) -> int:
    """Serve a launcher on this machine until it closes the channel; returns the exit status."""
    args = _arguments(argv)
    if args.parent is not None:
        die_with(args.parent)
    store = WeightStore(args.cache, round(args.cache_mib * 2**20))
    try:
        keys = read_keys(args.secret_file, args.tls, device(args.name))
        work(args.name, args.connect, keys, args.interface, args.executor, args.patience, store)
    except RefusedError as error:
        print(f"nptp-opt worker {args.name}: refused: {error}", file=sys.stderr)
        return REFUSED
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
    keys: Keys,
    interface: str = "",
    executor: str | None = None,
    patience_s: float | None = None,
    store: WeightStore = NO_STORE,
) -> None:
    """Join the launcher at ``address`` (``unix:PATH`` or ``tcp:HOST:PORT``) and serve it.

    ``interface`` is the only address that is bound for other devices; empty where the launcher
    says which. ``executor`` goes before the launcher's. It is waited for ``patience_s``,
    ``PATIENCE_S`` where that is None; ``store`` keeps weights that it sends. Raises ChannelError
    when nobody is there, RefusedError when it does not let this worker in. The process ends with
    status 0 when the launcher says so, and with ``LAUNCHER_LOST`` when the channel ends otherwise.
    """
    channel = _join(address, interface, name, keys, patience_s)
    sys.setswitchinterval(SWITCH_S)
    fine_timers()
    Worker(channel, keys, interface, executor, store).serve()


def _join(
    address: str, interface: str, name: str, keys: Keys, patience_s: float | None = None
) -> Channel:
    """The channel to the launcher, which has let us in.

    Who has to wait for it on another machine is told so, once. A launcher that is flooded with
    connections closes ours, too, and is asked again; only what it says in words is an answer.
    """
    patient = PATIENCE_S if patience_s is None else patience_s
    deadline = time.monotonic() + (patient if address.startswith("tcp:") else 0.0)
    hello = {"device": name, "version": __version__, "pid": os.getpid()}
    told = False
    while True:
        try:
            channel = connect(address, CONNECT_TIMEOUT_S, interface)
            try:
                channel.settimeout(HANDSHAKE_TIMEOUT_S)
                join(channel, keys, hello, THE_LAUNCHER)
                channel.settimeout(None)
                channel.be_watched()
            except ChannelError:
                channel.close()
                raise
            return channel
        except RefusedError:
            raise
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
    parser.add_argument("--tls", type=Path, help="this device's certificate")
    parser.add_argument("--interface", default="", help="the only address to bind")
    parser.add_argument("--executor", help="before the launcher's")
    parser.add_argument("--cache", type=Path, default=Path(), help="where weights are kept")
    parser.add_argument("--cache-mib", type=float, default=0.0, help="how much of them")
    parser.add_argument("--patience", type=float, help="seconds to wait for the launcher")
    parser.add_argument("--parent", type=int, help="end with this process")
    return parser.parse_args(argv)


@dataclass(frozen=True)
class LaneFailure:
    """What went wrong in a thread beside the one that serves the launcher."""

    job: Job
    message: Message
    error: Exception


class Worker:
    """Dispatches the launcher's messages to the current job."""

    def __init__(
        self,
        channel: Channel,
        keys: Keys,
        interface: str = "",
        executor: str | None = None,
        store: WeightStore = NO_STORE,
    ) -> None:
        self.channel, self.keys, self.interface = channel, keys, interface
        self.executor, self.store = executor, store
        self.recorder = Recorder()
        self.inbox: queue.SimpleQueue[Message | LaneFailure] = queue.SimpleQueue()
        self.job: Job | None = None
        self.lanes: Lanes | None = None

    def serve(self) -> None:
        """Work until the launcher closes the channel, which ends the process at once."""
        for target in (self._read, self._beat):
            threading.Thread(target=target, daemon=True).start()
        import nptp_opt.runtime.worker.job  # noqa: F401 - it may take seconds: the beat has begun
        from nptp_opt.kernels.executors import EXECUTORS

        self.recorder.enter("idle")
        there = [name for name, executor in EXECUTORS.items() if executor.available]
        self.channel.send("idle", executors=there, executor=self.executor)
        while True:
            message = self.inbox.get()
            if isinstance(message, LaneFailure):
                if message.job is self.job:
                    self._fail(message.message, message.error)
                continue
            try:
                getattr(self, f"_on_{message.kind}")(message)
            except Exception as error:  # noqa: BLE001 - reported to the launcher, which decides
                self._fail(message, error)

    def _on_job(self, message: Message) -> None:
        from nptp_opt.runtime.worker.job import Job, JobSpec
        from nptp_opt.runtime.worker.lanes import Lanes

        self._drop_job()
        spec = JobSpec(**message["spec"])
        spec = replace(
            spec,
            executor=self.executor or spec.executor,
            interface=self.interface or spec.interface,
        )

        def meet(address: str) -> list[str]:
            self.channel.send("listening", job=message["job"], address=address)
            return list(self._answer("peers")["addresses"])

        job = self.job = Job(spec, self._material(spec, message), self.recorder, self.keys, meet)
        if spec.lanes > 1:
            self.lanes = Lanes(
                spec.lanes,
                self._run_input,
                lambda failed, error: self.inbox.put(LaneFailure(job, failed, error)),
            )
        executor, notes = self.job.executor, list(self.job.notes)
        self.channel.send("ready", job=message["job"], executor=executor, notes=notes)

    def _material(self, spec: JobSpec, message: Message) -> Material:
        """Files of this machine, or what came with the message and is asked for."""
        from nptp_opt.runtime.worker.material import Files, Sent

        if spec.plan:
            return Files(Path(spec.plan), Path(spec.weights))

        def fetch(missing: Sequence[str]) -> Iterator[tuple[str, Content]]:
            self.channel.send("wanted", job=message["job"], digests=list(missing))
            for _ in missing:
                sent = self._answer("weights")
                yield sent["digest"], sent.payload
            self._answer("complete")  # nobody says more while the launcher hears what is wanted

        return Sent(message.payload, message["weights"], self.store, fetch)

    def _answer(self, kind: str) -> Message:
        """What the launcher says next, to a question; raises ChannelError if it is no answer."""
        answer = self.inbox.get()
        while isinstance(answer, LaneFailure):  # of the job before
            answer = self.inbox.get()
        if answer.kind != kind:
            self.inbox.put(answer)
            raise ChannelError("the launcher gave the job up")
        return answer

    def _on_clock(self, message: Message) -> None:
        self.channel.send("clock", job=message["job"], now_ns=time.monotonic_ns())

    def _on_probe(self, message: Message) -> None:
        threading.Thread(target=self._probe, args=(message,), daemon=True).start()

    def _probe(self, message: Message) -> None:
        """Time the way to another device; without ``address`` by waiting for its call."""
        from nptp_opt.runtime.worker.probe import answer, call

        fields = {"job": message["job"], "number": message["number"]}
        interface = self.interface or message["interface"]
        address, peer = message["address"], message["peer"]

        def tell(where: str) -> None:
            self.channel.send("probing", address=where, **fields)

        try:
            if address is None:
                arrival = answer(interface, self.keys, peer, tell)
            else:
                arrival = call(address, interface, self.keys, peer)
            found = [arrival.bytes, arrival.start_ns, arrival.end_ns]
        except OSError:
            found = []  # the other one is gone, or the way to it: the launcher will see
        with contextlib.suppress(ChannelError):
            self.channel.send("probed", arrival=found, **fields)

    def _on_arm(self, message: Message) -> None:
        assert self.job is not None
        self.job.arm(message.payload, finite=message["finite"])
        self.channel.send("armed", job=message["job"])
        if not self.job.is_source:
            self._execute(message)

    def _on_go(self, message: Message) -> None:
        self._execute(message)

    def _on_input(self, message: Message) -> None:
        """One of several inputs in flight: nobody waits until all are armed."""
        if self.job is None:  # another device was lost, and this input comes again
            return
        if self.lanes is None:
            self._run_input(message)
        else:
            self.lanes.put(message["lane"], message)

    def _run_input(self, message: Message) -> None:
        job = self.job
        if job is not None:
            told = {name: message[name] for name in ("number", "lane", "trace", "finite")}
            report, payload = job.run_input(payload=message.payload, **told)
            fields = {"job": message["job"], "number": message["number"]}
            self.channel.send("done", payload, **fields, **report)
            job.arm_ahead(message["lane"])

    def _on_measure(self, message: Message) -> None:
        """How fast this board computes the layers of the job's network, whose weights are here."""
        from nptp_opt.runtime.profiling.layers import measure_codec, measure_network

        job, repeats = self.job, message["repeats"]
        assert job is not None
        self.recorder.enter("compute")
        found = measure_network(job.plan.network, job.weights, job.threads, repeats,
                                lambda _: self.recorder.enter("compute"), job.executor)  # fmt: skip
        codec = measure_codec(repeats)
        self.recorder.enter("idle")
        self.channel.send("measured", job=message["job"], executor=found.executor,
                          notes=list(found.notes), samples=dict(found.samples),
                          chains=found.chains, codec=codec,
                          machine=platform.machine())  # fmt: skip

    def _on_link(self, message: Message) -> None:
        """The way to another device of the job, which does the same at this time."""
        from nptp_opt.runtime.profiling.link import measure_way

        assert self.job is not None
        found = measure_way(self.job.transport, message["peer"], calls=message["calls"],
                            tell=lambda: self.recorder.enter("send"))  # fmt: skip
        self.recorder.enter("idle")
        self.channel.send("linked", job=message["job"], link=found.model_dump(mode="json"))

    def _on_ring(self, message: Message) -> None:
        """The way from one device of the job while every device sends to another."""
        from nptp_opt.runtime.profiling.link import stream

        assert self.job is not None
        rate = stream(self.job.transport, tuple(message["to"]), tuple(message["origin"]),
                      tell=lambda: self.recorder.enter("send"))  # fmt: skip
        self.recorder.enter("idle")
        self.channel.send("ringed", job=message["job"], mbit_per_s=rate)

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
        lanes, self.lanes = self.lanes, None
        self.recorder.enter("idle")
        if job is not None:
            job.close()
        if lanes is not None:
            lanes.close()

    def _read(self) -> None:
        """The process ends with the channel: nothing else can be of use to anybody."""
        try:
            while (message := self.channel.receive()).kind != "leave":
                self.inbox.put(message)
        except ChannelError as error:
            print(f"the launcher was lost: {printable(str(error))}", file=sys.stderr, flush=True)
            os._exit(LAUNCHER_LOST)
        os._exit(0)

    def _beat(self) -> None:
        with contextlib.suppress(ChannelError):  # the one who reads says what has happened
            while True:
                job = self.job
                status = vars(self.recorder.status if job is None else job.status)
                peer = None if job is None else job.name_of(status["peer"])
                self.channel.send("alive", **{**status, "peer": peer})
                time.sleep(HEARTBEAT_S)


if __name__ == "__main__":
    sys.exit(main())
