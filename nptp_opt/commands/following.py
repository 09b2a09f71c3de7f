"""A long run, followed: a line of JSON per input, and the latencies so far."""

from __future__ import annotations

import json
import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from nptp_opt.errors import InputError

if TYPE_CHECKING:
    from nptp_opt.deployment.answers import Answer
    from nptp_opt.runtime.launcher.report import Run

RECENT = 1000
"""Inputs whose latencies are told."""
EVERY_S = 0.5

VOID = "VOID: this machine was too slow, or too busy, for the plan's speeds (overrun_s)"


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that is not below ``share`` of all (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


class Pace:
    """Latencies and rate of the last inputs."""

    def __init__(self) -> None:
        self.recent: deque[tuple[float, float]] = deque(maxlen=RECENT)
        self.overruns: deque[float] = deque(maxlen=RECENT)
        self.done = 0
        self._told = -math.inf

    def note(self, ended_s: float, latency_s: float, overrun_s: float = 0.0) -> None:
        """An input is done; seconds, the first on a monotonic clock."""
        self.done += 1
        self.recent.append((ended_s, latency_s))
        self.overruns.append(overrun_s)

    @property
    def overrun_s(self) -> float:
        """Of a typical input."""
        return statistics.median(self.overruns) if self.overruns else 0.0

    @property
    def is_void(self) -> bool:
        """True where this machine was too slow, or too busy, to emulate the devices' speeds."""
        from nptp_opt.runtime.trace import too_slow

        times = [latency_s for _, latency_s in self.recent]
        return bool(times) and too_slow(statistics.median(times), self.overrun_s)

    def is_due(self) -> bool:
        """True once in ``EVERY_S``: often enough to be read."""
        now = time.monotonic()
        due = now - self._told > EVERY_S
        self._told = now if due else self._told
        return due

    def __str__(self) -> str:
        times = [latency_s for _, latency_s in self.recent]
        spread = " / ".join(f"{quantile(times, share) * 1e3:.4g}" for share in (0.5, 0.95, 0.99))
        first, last = self.recent[0][0], self.recent[-1][0]
        rate = f", {(len(times) - 1) / (last - first):.3g} per second" if last > first else ""
        return f"{self.done} inputs, p50 / p95 / p99 {spread} ms{rate}"


class Following:
    """Use it as a context manager; ``path`` None writes nothing. ``tell`` has the moving line."""

    def __init__(self, path: Path | None, tell: Callable[[str], None]) -> None:
        self.path, self.tell = path, tell
        self.file: TextIO | None = None
        self.pace = Pace()
        self.lost = 0

    def __enter__(self) -> Following:
        if self.path is not None:
            try:
                self.file = self.path.open("w", encoding="utf-8")
            except OSError as error:
                raise InputError(f"{self.path}: cannot be written: {error.strerror}") from None
        return self

    def __exit__(self, *_: object) -> None:
        if self.pace.done:
            self._tell()
        if self.file is not None:
            self.file.close()

    def note(self, line: Mapping[str, Any], lost: int) -> None:
        """An input is done: what the file has of it, ``latency_s`` and ``ended_s`` among it, and
        how many devices are lost. A reader of the file has whole lines, at once."""
        self.pace.note(line["ended_s"], line["latency_s"], line.get("overrun_s", 0.0))
        self.lost = lost
        if self.file is not None:
            self.file.write(json.dumps({"input": self.pace.done - 1, **line}) + "\n")
            self.file.flush()
        if self.pace.is_due():
            self._tell()

    def _tell(self) -> None:
        lost = f", {self.lost} devices lost" if self.lost else ""
        self.tell(f"{self.pace}{lost}{', VOID' if self.pace.is_void else ''}")


def run_line(number: int, run: Run) -> dict[str, Any]:
    """What is written of an input that was measured."""
    error = run.error if math.isfinite(run.error) else None
    return {"input": number, "latency_s": run.latency_s, "ended_s": run.ended_s,
            "bytes": run.sent_bytes, "ok": run.ok, "error": error}  # fmt: skip


def answer_line(answer: Answer) -> dict[str, Any]:
    """What is written of an input that was answered."""
    return {"latency_s": answer.latency_s, "ended_s": answer.ended_s,
            "waited_s": answer.waited_s, "bytes": sum(answer.sent_bytes.values()),
            "overrun_s": answer.overrun_s}  # fmt: skip
