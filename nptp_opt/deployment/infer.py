"""Many inputs from files through one service: answers as files, classes, latency and rate."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nptp_opt.deployment.answers import Answer
from nptp_opt.deployment.inputs import Array, read_input
from nptp_opt.deployment.normalising import Normalising
from nptp_opt.deployment.outputs import OutputFiles, top_classes
from nptp_opt.deployment.service import Service
from nptp_opt.errors import InputError
from nptp_opt.network.signature import type_name
from nptp_opt.runtime.trace import too_slow


@dataclass(frozen=True)
class Wanted:
    """What is made of the answers; ``top`` 0: no classes."""

    files: OutputFiles | None
    top: int = 0
    labels: Sequence[str] | None = None


@dataclass
class Summary:
    """What ``infer`` has to tell of its answers so far."""

    latencies_s: list[float] = field(default_factory=list)
    ends_s: list[float] = field(default_factory=list)
    overruns_s: list[float] = field(default_factory=list)
    outputs: Mapping[str, Any] = field(default_factory=dict)
    written: list[str] = field(default_factory=list)
    classes: list[dict[str, Any]] = field(default_factory=list)

    @property
    def rate_per_s(self) -> float | None:
        """Answers per second between the first and the last; None for a single one."""
        if len(self.ends_s) < 2 or self.ends_s[-1] <= self.ends_s[0]:
            return None
        return (len(self.ends_s) - 1) / (self.ends_s[-1] - self.ends_s[0])

    @property
    def is_void(self) -> bool:
        """True where this machine was too slow, or too busy, for the plan's speeds."""
        times = (statistics.median(each) for each in (self.latencies_s, self.overruns_s))
        return too_slow(*times)

    def to_json(self) -> dict[str, Any]:
        """What ``infer --json`` prints."""
        times = self.latencies_s
        spread = {"median": statistics.median(times), "min": min(times), "max": max(times)}
        return {
            "inputs": len(times),
            "outputs": dict(self.outputs),
            "latency_s": spread,
            "rate_per_s": self.rate_per_s,
            "files": self.written,
            "top": self.classes,
        }


def infer(
    service: Service,
    files: Sequence[Path],
    prepare: Normalising | None,
    wanted: Wanted,
    tell: Callable[[Summary], None],
) -> Summary:
    """Answer every file in order; each answer is written as soon as it is there.

    Raises InputError for a file that does not fit, after the answers to those before it.
    """
    summary, refused = Summary(), list[InputError]()

    def inputs() -> Iterator[dict[str, Array]]:
        for path in files:
            try:
                yield read_input(path, service.signature.inputs, prepare)
            except InputError as error:
                refused.append(error)
                return

    for number, answer in enumerate(service.stream(inputs())):
        _note(summary, answer)
        if wanted.files is not None:
            summary.written.append(str(wanted.files.write(number, answer.outputs)))
        if wanted.top:
            classes = top_classes(answer.outputs, wanted.top, wanted.labels)
            summary.classes.append({"input": str(files[number]), "classes": classes})
        tell(summary)
    if refused:
        raise refused[0]
    return summary


def _note(summary: Summary, answer: Answer) -> None:
    summary.latencies_s.append(answer.latency_s)
    summary.ends_s.append(answer.ended_s)
    summary.overruns_s.append(answer.overrun_s)
    summary.outputs = {
        name: {"shape": list(value.shape), "type": type_name(value.dtype)}
        for name, value in answer.outputs.items()
    }
