"""Methods that misbehave, for runs of the harness only; loaded in the child as a plugin."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

from nptp_opt.cost import LayerCost
from nptp_opt.geometry import Tile
from nptp_opt.layer.limits import Hints, Limits
from nptp_opt.layer.problem import LayerProblem
from nptp_opt.layer.registry import Method, MethodSpec, register
from nptp_opt.layer.result import LayerResult, Status, Termination
from nptp_opt.layer.solve import solve_layer
from tests.comparison.runs import LOG


def result(problem: LayerProblem, tiles: dict[int, Tile]) -> LayerResult:
    value = LayerCost(problem).makespan_s(tiles)
    return LayerResult(
        "test", None, Status.FEASIBLE, Termination.COMPLETED, tiles=tiles, makespan_s=value
    )


def quick(problem: LayerProblem, _: str | None, limits: Limits, __: Hints) -> LayerResult:
    """Everything on the first device; notes in the log that it began."""
    if LOG in os.environ:
        with Path(os.environ[LOG]).open("a") as log:
            log.write(f"{problem.name} {limits.seed}\n")
    return result(problem, {0: Tile(0, problem.height, 0, problem.width)})


def slow(problem: LayerProblem, solver: str | None, limits: Limits, hints: Hints) -> LayerResult:
    found = quick(problem, solver, limits, hints)
    time.sleep(0.3)
    return found


def hang(*_: object) -> LayerResult:
    """Sleeps for ever, and so does a process that it started."""
    started = subprocess.Popen(["sleep", "1000"])
    Path(os.environ[LOG]).write_text(f"{os.getpid()} {started.pid}")
    time.sleep(1000)
    raise AssertionError


def chatter(problem: LayerProblem, solver: str | None, limits: Limits, hints: Hints) -> LayerResult:
    print("{not json", flush=True)
    os.write(1, b"from C\n")
    return quick(problem, solver, limits, hints)


def eat(*_: object) -> LayerResult:
    hoard = []
    while True:
        hoard.append(bytearray(b"x" * 2**24))
        time.sleep(0.005)


def die(*_: object) -> LayerResult:
    os.kill(os.getpid(), signal.SIGSEGV)
    raise AssertionError


def leave(*_: object) -> LayerResult:
    raise SystemExit(3)


def once(problem: LayerProblem, solver: str | None, limits: Limits, hints: Hints) -> LayerResult:
    """Killed the first time, fine the second."""
    mark = Path(os.environ[LOG])
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return result(problem, {0: Tile(0, problem.height, 0, problem.width)})


def overlap(problem: LayerProblem, *_: object) -> LayerResult:
    """A value that its tiles do not have: they cover the map twice."""
    whole = Tile(0, problem.height, 0, problem.width)
    found = result(problem, {0: whole})
    return LayerResult(
        "test", None, Status.OPTIMAL, Termination.COMPLETED, {0: whole, 1: whole}, found.makespan_s
    )


def threads(problem: LayerProblem, _: str | None, limits: Limits, hints: Hints) -> LayerResult:
    """Has BLAS, HiGHS and torch work, and notes their threads and those that the kernel counts."""
    import numba
    import numpy as np
    import torch

    square = np.ones((600, 600))
    assert (square @ square)[0, 0] == 600
    solve_layer(problem, "strip", solver="highs", limits=limits)
    assert (torch.ones(600, 600) @ torch.ones(600, 600))[0, 0] == 600
    notes = {
        "limit": str(limits.threads),
        "numba": str(numba.get_num_threads()),
        "torch": str(torch.get_num_threads()),
        "kernel": str(len(list(Path("/proc/self/task").iterdir()))),
    }
    return replace(quick(problem, None, limits, hints), notes=notes)


_METHODS: tuple[Method, ...] = (
    quick,
    slow,
    hang,
    chatter,
    eat,
    die,
    leave,
    once,
    overlap,
    threads,
)
for _method in _METHODS:
    _name = f"test-{getattr(_method, '__name__', '')}"
    _spec = MethodSpec(_name, "dissection", "heuristic", "exact", "nothing", None, "for tests")
    register(_spec, _method)
