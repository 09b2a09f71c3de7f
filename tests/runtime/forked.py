"""Workers forked from a process that has imported torch: real ones, which start in milliseconds.

``python -m tests.runtime.forked`` is that process. It reads a JSON request a line and answers with
one number: of a new worker, or the exit status of one (null while it runs).
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from nptp_opt.runtime.children import WORKER_ENV, child_environment
from nptp_opt.runtime.emulation.holder import CLONE_NEWNET
from nptp_opt.runtime.launcher.pool import WorkerPool


class Template:
    """Where workers are forked from; they end with it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.runtime.forked"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=child_environment() | WORKER_ENV,
        )

    def ask(self, **request: Any) -> int | None:
        """One request and its answer."""
        assert self.process.stdin is not None and self.process.stdout is not None
        with self.lock:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
            answer: int | None = json.loads(self.process.stdout.readline())
        return answer

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.communicate()

    def __enter__(self) -> Template:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Forked:
    """A worker as the pool knows it: what it uses of ``subprocess.Popen``."""

    def __init__(self, template: Template, **request: Any) -> None:
        self.template, self.status = template, None
        pid = template.ask(**request)
        assert pid is not None
        self.pid = pid

    def poll(self) -> int | None:
        """Exit status, negative for a signal; None while it runs."""
        if self.status is None:
            self.status = self.template.ask(pid=self.pid)
        return self.status

    def kill(self) -> None:
        """kill -9."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> None:
        """Until it has ended."""
        while self.poll() is None:
            time.sleep(1e-3)


def spawned_by(template: Template, pool: WorkerPool, name: str, log: Path) -> Forked:
    """What ``WorkerPool._spawn`` does, by forking; in the namespace that the pool's site says."""
    log.touch()
    words = ["--name", name, "--connect", pool.admission.address]
    words += ["--secret-file", str(pool.folder / "secret")]
    words += ["--parent", str(template.process.pid)]
    entered = _namespace(*pool.site.prefix(name))
    return Forked(template, argv=words, log=str(log), cwd=str(pool.folder), net=entered)


def _namespace(program: str = "nsenter", net: str = "--net=", end: str = "--") -> str:
    """The file of the network namespace that ``Namespace.prefix`` enters; none for no prefix."""
    assert (program, end) == ("nsenter", "--"), "only network namespaces are known here"
    return net.removeprefix("--net=")


@contextmanager
def forking(template: Template) -> Iterator[None]:
    """All pools fork their workers from ``template``, those that ``run_plan`` makes, too."""

    def spawn(pool: WorkerPool, name: str, log: Path) -> Forked:
        return spawned_by(template, pool, name, log)

    with patch.object(WorkerPool, "_spawn", spawn):
        yield


class ForkingPool(WorkerPool):
    """A pool whose workers are forked; ``spawned(name, pid)`` is called for each of them."""

    def using(
        self, template: Template, spawned: Callable[[str, int], object] = lambda name, pid: None
    ) -> ForkingPool:
        """Say where from; call it before the ``with`` block."""
        self.template, self.spawned = template, spawned
        return self

    def _spawn(self, name: str, log: Path) -> Any:
        worker = spawned_by(self.template, self, name, log)
        self.spawned(name, worker.pid)
        return worker


def _fork(argv: list[str], log: str, cwd: str, net: str = "") -> int:
    """Number of a new worker that writes to ``log``."""
    pid = os.fork()
    if pid:
        return pid
    from nptp_opt.runtime.worker.main import main

    os.setsid()
    os.chdir(cwd)
    file = os.open(log, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if net:
        _enter(net)
    os._exit(main(argv))


def _enter(net: str) -> None:
    """Python 3.11 has no ``os.setns``."""
    if ctypes.CDLL(None, use_errno=True).setns(os.open(net, os.O_RDONLY), CLONE_NEWNET) != 0:
        sys.exit(f"{net}: {os.strerror(ctypes.get_errno())}")


def _status(pid: int) -> int | None:
    found, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def _serve() -> None:

    for line in sys.stdin:
        request = json.loads(line)
        answer = _status(**request) if "pid" in request else _fork(**request)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _serve()
