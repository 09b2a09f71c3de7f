"""Does all runs of a comparison: claims, workers, progress, and a stop that loses nothing."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, Protocol

from nptp_opt.comparison.harness import StoppedError, execute
from nptp_opt.comparison.runs import Run
from nptp_opt.comparison.store import Store

Row = dict[str, Any]


class Backend(Protocol):
    """Where runs are done. Yields rows as they come, in any order; ``take`` claims a run."""

    def rows(self, runs: Sequence[Run], take: Callable[[Run], bool]) -> Iterator[Row]: ...


@dataclass
class Local:
    """Runs on this machine, ``workers`` at a time."""

    workers: int = 1

    def rows(self, runs: Sequence[Run], take: Callable[[Run], bool]) -> Iterator[Row]:
        """Claims one run ahead for each worker; stops all workers when the caller goes away."""
        stop = threading.Event()
        left = iter(runs)
        with ThreadPoolExecutor(self.workers) as pool:
            busy: set[Future[Row]] = set()
            try:
                while True:
                    self._fill(pool, busy, left, take, stop)
                    if not busy:
                        return
                    done, busy = wait(busy, return_when=FIRST_COMPLETED)
                    self._fill(pool, busy, left, take, stop)
                    for future in done:
                        yield future.result()
            finally:
                stop.set()

    def _fill(
        self,
        pool: ThreadPoolExecutor,
        busy: set[Future[Row]],
        left: Iterator[Run],
        take: Callable[[Run], bool],
        stop: threading.Event,
    ) -> None:
        while len(busy) < 2 * self.workers:
            run = next((run for run in left if take(run)), None)
            if run is None:
                return
            busy.add(pool.submit(execute, run, stop))


@dataclass
class Progress:
    """One line per finished run on stderr, with an estimate of the time left."""

    total: int
    done: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    def saw(self, row: Mapping[str, Any]) -> None:
        """Count a row and say so."""
        run: Run = row["run"]
        self.done += 1
        self.counts[row["harness"]] = self.counts.get(row["harness"], 0) + 1
        why = f": {row['message']}" if row["harness"] != "finished" and row.get("message") else ""
        ended = f"{row.get('status') or row['harness']}{why}"
        print(f"{self.head()}  {run.name}  {run.label}  {ended}", file=sys.stderr, flush=True)

    def head(self) -> str:
        """As in ``12/100  88 left in about 4 min``."""
        spent = time.monotonic() - self.began
        left = self.total - self.done
        return f"{self.done}/{self.total}  {left} left in about {_span(spent / self.done * left)}"


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def run_batch(
    runs: Sequence[Run],
    store: Store,
    backend: Backend,
    *,
    retry_failed: bool = False,
    saw: Callable[[Mapping[str, Any]], None] | None = None,
) -> None:
    """Do the runs that the store lacks; every row is committed as it comes.

    Claims on runs that were not finished are given back, whatever ends the batch.
    """
    if retry_failed:
        store.forget_failed(runs)
    pending = store.pending(runs)
    report = saw or (Progress(len(pending)).saw if pending else lambda _: None)
    claimed: dict[str, Run] = {}

    def take(run: Run) -> bool:
        if not store.claim(run):
            return False
        claimed[run.key] = run
        return True

    try:
        for row in backend.rows(pending, take):
            store.finish(row)
            del claimed[row["run"].key]
            report(row)
    finally:
        if claimed:
            store.release(list(claimed.values()))


__all__ = ["Backend", "Local", "Progress", "StoppedError", "run_batch"]
