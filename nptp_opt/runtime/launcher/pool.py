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
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from nptp_opt.errors import ExecutionError, last_lines
from nptp_opt.runtime.children import WORKER_ENV, child_environment, undisturbed
from nptp_opt.runtime.launcher.admission import Admission
from nptp_opt.runtime.launcher.failure_detector import FailureDetector
from nptp_opt.runtime.launcher.leftovers import FOLDER_PREFIX, claim, remove_abandoned_folders
from nptp_opt.runtime.launcher.site import LOCAL, Site
from nptp_opt.runtime.transport.control import Channel, ChannelError, Message
from nptp_opt.runtime.transport.handshake import THE_LAUNCHER, read_keys, write_secret

if TYPE_CHECKING:
    from nptp_opt.runtime.launcher.shipment import Shipment

POLL_S = 0.05
REMIND_S = 5.0
"""How often it is told who is waited for."""
GRACE_S = 1.0
"""After the first failure: how long to look for the one that caused it."""
ASIDES = frozenset(("probing", "probed"))
"""What devices say beside the work on inputs."""
RECOVERY_S = 3.0
"""How long survivors have to let a broken job go before they are started anew."""


REPORTS: Mapping[str, Mapping[str, Any]] = {
    "alive": {"phase": str, "step": int, "peer": str | None},
    "idle": {"executors": list, "executor": str | None},
    "listening": {"address": str},
    "ready": {"executor": str, "notes": list},
    "wanted": {"digests": list},
    "clock": {"now_ns": int},
    "probing": {"number": int, "address": str},
    "probed": {"number": int, "arrival": list},
    "done": {"start_ns": int, "end_ns": int, "busy_ns": int, "overrun_ns": int,
             "sent_bytes": int, "shapes": dict, "spans": list},
    "measured": {"executor": str, "notes": list, "samples": dict, "codec": list, "machine": str},
    "linked": {"link": dict},
    "ringed": {"mbit_per_s": float},
    "failed": {"error": str, "peer": str | None},
}  # fmt: skip
"""What a worker must say with each kind of message, by type."""


@contextlib.contextmanager
def understood(name: str) -> Iterator[None]:
    """Raises DeviceLostError for a report of a device from which nothing can be made."""
    try:
        yield
    except (ChannelError, KeyError, TypeError, ValueError) as error:
        raise DeviceLostError(name, f"sent a report that is none: {last_lines(error)}") from None


def no_room(place: Path, error: Exception) -> ExecutionError:
    """What to raise where a run's folder cannot be written."""
    what = getattr(error, "strerror", None) or last_lines(error)
    return ExecutionError(
        f"{place}: a run's files cannot be written: {what}; set TMPDIR to a folder with room"
    )


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
    executors: tuple[str, ...] = ()
    """What it can compute with."""
    own_executor: str | None = None
    """What it was told to compute with, whatever the launcher says."""
    closed: bool = False
    """The worker's end of the control channel was closed."""
    ended_by: str = ""
    """Why nothing more is read from it."""

    def fate(self) -> str | None:
        """How the process ended; None while it runs, or may."""
        if self.process is None:
            return f"closed its control channel: {self.ended_by}" if self.closed else None
        status = self.process.poll()
        if status is None:
            return None
        how = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
        last = self.log.read_text(errors="replace").strip().splitlines()[-1:]
        return f"died ({how})" + "".join(f": {line}" for line in last)

    def dismiss(self) -> None:
        """Tell a worker elsewhere that all is done: its channel is about to be closed."""
        if self.process is None and self.channel is not None:
            with contextlib.suppress(ChannelError):
                self.channel.send("leave")

    def end(self) -> None:
        """End a process of ours, whose log nobody reads any more; a worker elsewhere ends when its
        channel is closed."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.log.unlink(missing_ok=True)
        if self.channel is not None:
            self.channel.close()


NOBODY = Member("", None, Path())
"""Whose events concern no pool."""


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
    tls: Path | None = None
    """The launcher's certificate, where those workers have theirs."""
    progress: Callable[[str], None] = lambda text: None
    """Is told which devices are waited for, and what to do about them."""
    wait: bool = True
    """Enter only when all are there; else ``await_idle`` is for whoever wants to outlive a loss."""
    members: dict[str, Member] = field(default_factory=dict)
    absent: dict[str, Member] = field(default_factory=dict)
    """Lost devices that may come back (``recall``); they take part in nothing."""
    returned: list[str] = field(default_factory=list)
    """Those of them that have, and are ready for a job."""
    shipment: Shipment | None = None
    """Weights of the last job that workers of other machines were sent."""
    asides: deque[tuple[str, Message]] = field(default_factory=lambda: deque(maxlen=16))
    """Who said what beside the work on inputs, for whoever asked."""
    jobs: int = 0

    def __enter__(self) -> WorkerPool:
        self.events: queue.SimpleQueue[tuple[Member, Message | None]] = queue.SimpleQueue()
        self.numbers = itertools.count()
        self.idle: set[str] = set()
        """Who has said that it is ready for a first job."""
        self.failure_detector = FailureDetector(self.timeout_s, self.address or "")
        try:
            with undisturbed():
                self._make_folder()
            self._start()
            if self.wait:
                self.await_idle()
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

    def _make_folder(self) -> None:
        remove_abandoned_folders()
        try:
            self.folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX))
            self.claim = claim(self.folder)
        except OSError as error:
            raise no_room(Path(tempfile.gettempdir()), error) from None

    def _start(self) -> None:
        if self.secret_file is None:
            write_secret(self.folder / "secret")
        keys = read_keys(self.secret_file or self.folder / "secret", self.tls, THE_LAUNCHER)
        address = self.address or f"unix:{self.folder / 'control'}"
        try:
            self.admission = Admission(address, keys, (), self._read_worker)
        except OSError as error:
            raise ExecutionError(f"cannot listen at {address}: {error.strerror}") from None
        for name in self.names:
            self._add(name)

    def await_idle(self) -> None:
        """Return when all members are ready for a job; raises DeviceLostError for one that is not
        in time."""
        self.failure_detector.restart_clock()
        told = time.monotonic()
        while missing := [name for name in self.members if name not in self.idle]:
            self.next_message("idle", missing)
            if time.monotonic() - told > REMIND_S:
                told = time.monotonic()
                self._tell_missing(missing)

    def _tell_missing(self, names: Collection[str]) -> None:
        """A line for each device that has not joined, or is not ready yet."""
        for name in names:
            if self.members[name].channel is not None:
                self.progress(f"{name} has joined and is starting")
            elif self.address is None:
                self.progress(f"{name} has not started yet")
            else:
                where = self.site.interface(name)
                self.progress(
                    f"{name} ({where}) has not joined: `nptp-opt worker --name {name} --connect "
                    f"{self.address.removeprefix('tcp:')} ...` on it"
                )

    def recall(self, name: str) -> None:
        """Let a device that was dropped come back: ``returned`` has it as soon as it is ready.

        A worker of this machine is started anew, one of another machine comes by itself.
        """
        self._add(name, self.absent)

    def readmit(self, names: Collection[str]) -> None:
        """Make devices that have returned members again."""
        for name in names:
            self.returned.remove(name)
            self.members[name] = self.absent.pop(name)

    def _add(self, name: str, among: dict[str, Member] | None = None) -> None:
        self.idle.discard(name)
        self.failure_detector.expect(name)
        self.admission.expect(name)
        log = self.folder / f"worker-{next(self.numbers)}.log"
        process = None if self.remote else self._spawn(name, log)
        (self.members if among is None else among)[name] = Member(name, process, log)

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
        while (member := self.members.get(name) or self.absent.get(name)) is None:
            time.sleep(POLL_S)  # it may join before ``_add`` has noted it
        member.channel = channel
        try:
            while True:
                message = channel.receive()
                message.check(REPORTS)
                if message.kind == "alive":
                    self.failure_detector.heard(name, message)
                    continue
                if message.kind == "idle":
                    member.executors = tuple(map(str, message["executors"]))
                    member.own_executor = message["executor"]
                    self.idle.add(name)
                self.events.put((member, message))
        except ChannelError as error:
            member.closed, member.ended_by = True, str(error)
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
            found = self.next_message(kind, names)
            if found is not None:
                answers[found[0]] = found[1]
        return answers

    def next_message(self, kind: str, names: Collection[str]) -> tuple[str, Message] | None:
        """The next message of ``kind`` from one of the devices, and its name.

        None after ``POLL_S``, after ``wake``, and for anything else that was said. Raises
        DeviceLostError naming the culprit.
        """
        try:
            member, message = self.events.get(timeout=POLL_S)
        except queue.Empty:
            self._check(names)
            return None
        if self.absent.get(member.name) is member:
            self._note_absent(member, message)
        if not self._concerns_us(member, message):
            return None
        if message is None or message.kind == "failed":
            member.failure = message
            self._blame([*names, member.name])
        elif message.kind in ASIDES:
            self.asides.append((member.name, message))
        elif message.kind == kind and member.name in names:
            return member.name, message
        return None

    def _note_absent(self, member: Member, message: Message | None) -> None:
        """A device that was lost is there again, or is lost once more before it had work."""
        if message is not None and message.kind == "idle":
            self.returned.append(member.name)
        elif message is None:
            self.returned = [name for name in self.returned if name != member.name]
            self.absent.pop(member.name).end()
            if self.remote:
                self.recall(member.name)

    def wake(self) -> None:
        """Have ``next_message`` return at once; from any thread."""
        self.events.put((NOBODY, None))

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
            if report["peer"] not in self.members:
                raise DeviceLostError(name, f"failed: {report['error']}")
        for name, report in reports.items():
            raise DeviceLostError(report["peer"], f"was lost by {name!r}: {report['error']}")
        ended = {name: self.members[name].ended_by for name in names if self.members[name].closed}
        for name, why in ended.items():
            raise DeviceLostError(name, f"closed its control channel: {why}")
        raise DeviceLostError(next(iter(names)), "closed its control channel")

    def drop(self, name: str) -> None:
        """Give a lost device up and get the others ready for another job.

        The death of its process frees those that wait for it; who hangs all the same (in a
        rendezvous, say) is started anew. Raises DeviceLostError with the next one that is lost:
        give that up, too.
        """
        self.admission.forget(name)
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
        self.await_idle()

    def _stuck(self) -> list[str]:
        """Who does not drop the current job within the grace; the job's number is used up."""
        self.jobs += 1
        waiting = {name for name in self.members if name in self.idle}  # others have no job yet
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
        with undisturbed():
            self._close()

    def _close(self) -> None:
        for member in (*self.members.values(), *self.absent.values()):
            member.dismiss()
            member.end()
        if hasattr(self, "admission"):
            self.admission.close()
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder, ignore_errors=True)
        if hasattr(self, "claim"):
            self.claim.close()
