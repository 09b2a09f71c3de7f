"""Runs on many machines by Dask distributed (extra ``dask``), imported on first use only.

The batch alone writes the results file. Runs of a lost worker are done by another one; a row that
comes twice is stored once.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import Any

from nptp_opt.comparison.harness import execute
from nptp_opt.comparison.runs import Run, run_from_json
from nptp_opt.errors import ExecutionError, InputError

CONNECT_S = 10
ATTEMPTS = 10
"""How many workers may die on one run before it counts as a crash."""

AHEAD = 4
"""Runs handed to the scheduler per thread: enough to keep workers busy."""


@dataclass(frozen=True)
class Tls:
    """Files of Dask's TLS; all three or none."""

    ca_file: str | None = None
    cert: str | None = None
    key: str | None = None

    def __post_init__(self) -> None:
        given = [value is not None for value in (self.ca_file, self.cert, self.key)]
        if any(given) and not all(given):
            raise InputError("TLS needs `tls_ca_file`, `tls_cert` and `tls_key` together")


@dataclass(frozen=True)
class DaskCluster:
    """A Dask scheduler by address (``tcp://host:8786``), or ``local`` for one on this machine."""

    scheduler: str
    workers: int = 1
    tls: Tls = Tls()

    def rows(self, runs: Sequence[Run], take: Callable[[Run], bool]) -> Iterator[dict[str, Any]]:
        """Claims runs as the cluster has room for them; cancels what is left when stopped."""
        distributed = _import_distributed()
        with _explain_lost_scheduler(self.scheduler), self._client(distributed) as client:
            left = iter(runs)
            done = distributed.as_completed([])
            waiting: dict[str, Run] = {}
            while True:
                self._submit(client, left, take, done, waiting)
                if not waiting:
                    return
                future = next(done)
                run = waiting.pop(future.key)
                yield _row(run, future)

    def _client(self, distributed: Any) -> Any:
        security = None
        if self.tls.ca_file is not None:
            files = (self.tls.ca_file, self.tls.cert, self.tls.key)
            named = ("tls_ca_file", "tls_client_cert", "tls_client_key")
            security = distributed.Security(
                require_encryption=True, **dict(zip(named, files, strict=True))
            )
        if self.scheduler == "local":
            return distributed.Client(
                n_workers=self.workers, threads_per_worker=1, dashboard_address=None
            )
        try:
            return distributed.Client(self.scheduler, security=security, timeout=CONNECT_S)
        except (OSError, TimeoutError, ValueError, TypeError) as error:
            raise InputError(
                f"no Dask scheduler answers at {self.scheduler} ({error}): start one with "
                "`dask scheduler`, see docs/compare.md"
            ) from None

    def _submit(
        self,
        client: Any,
        left: Iterator[Run],
        take: Callable[[Run], bool],
        done: Any,
        waiting: dict[str, Run],
    ) -> None:
        room = max(AHEAD, AHEAD * sum(client.nthreads().values()))
        while len(waiting) < room:
            run = next((run for run in left if take(run)), None)
            if run is None:
                return
            future = client.submit(
                _execute, run.to_json(), key=f"nptp-{run.key}", pure=False, retries=ATTEMPTS
            )
            waiting[future.key] = run
            done.add(future)


@contextlib.contextmanager
def _explain_lost_scheduler(scheduler: str) -> Iterator[None]:
    """One line where the scheduler dies; Dask's errors of closed connections are OSErrors."""
    try:
        yield
    except (OSError, CancelledError) as error:
        raise ExecutionError(
            f"the Dask scheduler ({scheduler}) no longer answers ({error}): finished runs are "
            "stored; start it and the same comparison again"
        ) from None


def _import_distributed() -> Any:
    try:
        import dask
        import distributed
    except ImportError:
        raise InputError(
            "Dask distributed is not installed: pip install 'nptp-opt[dask]'"
        ) from None
    dask.config.set({"distributed.scheduler.allowed-failures": ATTEMPTS})
    # They would print tracebacks of attempts to reach a dead scheduler again.
    for part in ("client", "batched"):
        logging.getLogger(f"distributed.{part}").setLevel(logging.CRITICAL)
    return distributed


def _execute(content: dict[str, Any]) -> dict[str, Any]:
    """On the worker: the run's row without the run."""
    row = execute(run_from_json(content))
    del row["run"]
    return row


def _row(run: Run, future: Any) -> dict[str, Any]:
    if future.status == "finished":
        return {**future.result(), "run": run}
    if future.cancelled():
        raise CancelledError(f"{run.name} was cancelled")
    error = future.exception()
    if type(error).__name__ == "KilledWorker":
        message = f"every worker that took it died: {error}"
        return {"run": run, "harness": "crash", "message": message}
    raise ExecutionError(f"{run.name}: the Dask worker failed: {error}")
