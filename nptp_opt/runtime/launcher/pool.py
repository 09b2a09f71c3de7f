"""The launcher's side of the workers: starts them, hears them, names the one that fails.

A pool outlives a job, so that several plans can run on workers that have loaded torch already.
Whatever happens inside the ``with`` block, no process is left when it ends.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from nptp_opt.errors import ExecutionError
from nptp_opt.runtime.children import WORKER_ENV, child_environment
from nptp_opt.runtime.launcher.admission import Admission
from nptp_opt.runtime.launcher.failure_detector import FailureDetector
from nptp_opt.runtime.launcher.leftovers import FOLDER_PREFIX, claim
from nptp_opt.runtime.launcher.site import LOCAL, Site
from nptp_opt.runtime.transport.control import (
    Channel,
    ChannelError,
    Message,
    read_secret,
    write_secret,
)

POLL_S = 0.05
GRACE_S = 1.0
"""After the first failure: how long to look for the one that caused it."""
RECOVERY_S = 3.0
"""How long survivors have to let a broken job go before they are started anew."""


class DeviceLostError(ExecutionError):
    """A device failed; ``device`` is its name."""

    def __init__(self, device: str, what: str) -> None:
        super().__init__(f"device {device!r} {what}")
        self.device = device


@dataclass
class Member:
    """One device's worker as the launcher knows it."""

    name: str
    process: subprocess.Popen[bytes] | None
    """None for a worker on another machine."""
    log: Path
    channel: Channel | None = None
    failure: Message | None = None
    closed: bool = False
    """The worker's end of the control channel was closed."""

    def fate(self) -> str | None:
        """How the process ended; None while it runs, or may."""
        if self.process is None:
            return "closed its control channel" if self.closed else None
        status = self.process.poll()
        if status is None:
            return None
        how = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
        last = self.log.read_text(errors="replace").strip().splitlines()[-1:]
        return f"died ({how})" + "".join(f": {line}" for line in last)

    def end(self) -> None:
        """End a process of ours; a worker elsewhere ends when its channel is closed."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        if self.channel is not None:
            self.channel.close()


@dataclass
class WorkerPool:
    """Workers for the devices ``names``; use it as a context manager.

    ``timeout_s`` bounds how long a device may stay silent or a run without progress. The thread
    that enters must outlive the pool: the kernel kills workers whose starting thread has ended.
    """

    names: Sequence[str]
    timeout_s: float = 30.0
    site: Site = LOCAL
    address: str | None = None
    """Where workers on other machines join (``tcp:HOST:PORT``); None starts them here."""
    secret_file: Path | None = None
    """A secret that those workers know; None makes one for this run."""
    members: dict[str, Member] = field(default_factory=dict)
    jobs: int = 0

    def __enter__(self) -> WorkerPool:
        self.folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX))
        self.claim = claim(self.folder)
        self.events: queue.SimpleQueue[tuple[Member, Message | None]] = queue.SimpleQueue()
        self.numbers = itertools.count()
        self.failure_detector = FailureDetector(self.timeout_s)
        try:
            self._start()
            self.collect("idle", self.names)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _start(self) -> None:
        if self.secret_file is None:
            secret = write_secret(self.folder / "secret")
        else:
            secret = read_secret(self.secret_file)
        address = self.address or f"unix:{self.folder / 'control'}"
        try:
            self.admission = Admission(address, secret, (), self._read_worker)
        except OSError as error:
            raise ExecutionError(f"cannot listen at {address}: {error.strerror}") from None
        for name in self.names:
            self._add(name)

    def _add(self, name: str) -> None:
        self.failure_detector.expect(name)
        self.admission.expect(name)
        log = self.folder / f"worker-{next(self.numbers)}.log"
        process = None if self.remote else self._spawn(name, log)
        self.members[name] = Member(name, process, log)

    @property
    def remote(self) -> bool:
        """True when the workers run on other machines, without a common disk."""
        return self.address is not None

    def _spawn(self, name: str, log: Path) -> subprocess.Popen[bytes]:
        command = [
            *self.site.prefix(name),
            *(sys.executable, "-m", "nptp_opt.runtime.worker.main"),
            *("--name", name, "--connect", self.admission.address),
            *("--secret-file", str(self.folder / "secret"), "--parent", str(os.getpid())),
        ]
        with log.open("wb") as file:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                cwd=self.folder,
                env=child_environment() | WORKER_ENV,
                start_new_session=True,
            )

    def _read_worker(self, name: str, channel: Channel) -> None:
        """Read what an admitted worker says until it is gone; runs in the connection's thread."""
        while name not in self.members:  # it may join before ``_add`` has noted it
            time.sleep(POLL_S)
        member = self.members[name]
        member.channel = channel
        try:
            while True:
                message = channel.receive()
                if message.kind == "alive":
                    self.failure_detector.heard(name, message.fields)
                else:
                    self.events.put((member, message))
        except ChannelError:
            member.closed = True
            self.events.put((member, None))

    def pids(self, names: Collection[str]) -> dict[str, int]:
        """Process numbers of workers on this machine."""
        processes = {name: self.members[name].process for name in names}
        return {name: process.pid for name, process in processes.items() if process is not None}

    # -- talking -------------------------------------------------------------------------------

    def send(self, name: str, kind: str, payload: bytes | memoryview = b"", **fields: Any) -> None:
        """Send a message of the current job; raises DeviceLostError when the worker is gone."""
        channel = self.members[name].channel
        assert channel is not None
        try:
            channel.send(kind, payload, job=self.jobs, **fields)
        except ChannelError:
            self._blame([name])

    def collect(self, kind: str, names: Collection[str]) -> dict[str, Message]:
        """One message of ``kind`` from each device; raises DeviceLostError naming the culprit."""
        answers: dict[str, Message] = {}
        self.failure_detector.restart_clock()
        while len(answers) < len(names):
            try:
                member, message = self.events.get(timeout=POLL_S)
            except queue.Empty:
                self._check(names)
                continue
            if not self._concerns_us(member, message):
                continue
            if message is None or message.kind == "failed":
                member.failure = message
                self._blame([*names, member.name])
            elif message.kind == kind and member.name in names:
                answers[member.name] = message
        return answers

    def _concerns_us(self, member: Member, message: Message | None) -> bool:
        """False for what a worker that was given up says, or one of a job that is over."""
        current = message is None or message.fields.get("job", self.jobs) == self.jobs
        return current and self.members.get(member.name) is member

    def _check(self, names: Collection[str]) -> None:
        for name in names:
            if self.members[name].fate() is not None:
                self._blame(names)
        sick = self.failure_detector.diagnose(names)
        if sick is not None:
            raise DeviceLostError(*sick)

    def _blame(self, names: Collection[str]) -> None:
        """Find who failed first among all that fail now, and raise.

        One device's death breaks its peers too: a process that ended explains more than an error
        that was reported, and an error of its own more than a lost peer.
        """
        deadline = time.monotonic() + GRACE_S
        while time.monotonic() < deadline:
            for name in names:
                fate = self.members[name].fate()
                if fate is not None:
                    raise DeviceLostError(name, fate)
            try:
                member, message = self.events.get(timeout=POLL_S)
            except queue.Empty:
                continue
            if message is not None and message.kind == "failed":
                member.failure = message if self._concerns_us(member, message) else None
        self._blame_reports(names)

    def _blame_reports(self, names: Collection[str]) -> None:
        reports = {
            name: failure
            for name in dict.fromkeys(names)
            if (failure := self.members[name].failure) is not None
        }
        for name, report in reports.items():
            if report.fields.get("peer") is None:
                raise DeviceLostError(name, f"failed: {report.fields.get('error')}")
        for name, report in reports.items():
            raise DeviceLostError(report["peer"], f"was lost by {name!r}: {report['error']}")
        raise DeviceLostError(next(iter(names)), "closed its control channel")

    def drop(self, name: str) -> None:
        """Give a lost device up and get the others ready for another job.

        The death of its process frees those that wait for it; who hangs all the same (in a
        rendezvous, say) is started anew. Raises DeviceLostError with the next one that is lost:
        give that up, too.
        """
        self.members.pop(name).end()
        stuck = self._stuck()
        for other in stuck:
            fate = self.members[other].fate()
            if fate is not None:
                raise DeviceLostError(other, fate)
            if self.remote:
                raise DeviceLostError(other, "does not let the broken job go")
            self.members[other].end()
            self._add(other)
        self.collect("idle", stuck)

    def _stuck(self) -> list[str]:
        """Who does not drop the current job within the grace; the job's number is used up."""
        self.jobs += 1
        waiting = set(self.members)
        for member in self.members.values():
            member.failure = None
            if member.channel is not None:
                with contextlib.suppress(ChannelError):
                    member.channel.send("end", job=self.jobs)
        deadline = time.monotonic() + RECOVERY_S
        while waiting and time.monotonic() < deadline:
            try:
                member, message = self.events.get(timeout=POLL_S)
            except queue.Empty:
                continue
            if message is not None and message.kind == "ended":
                waiting -= {member.name} if self._concerns_us(member, message) else set()
        return sorted(waiting)

    # -- the end -------------------------------------------------------------------------------

    def close(self) -> None:
        """Kill the workers, stopped ones too, and remove the run's folder."""
        for member in self.members.values():
            member.end()
        if hasattr(self, "admission"):
            self.admission.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.claim.close()
