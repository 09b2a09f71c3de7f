"""One run in a fresh process: every way in which it can end is told apart."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from nptp_opt.comparison.harness import THREAD_VARIABLES, StoppedError, execute
from tests.comparison.runs import LOG, run


def gone(pid: int) -> bool:
    """True when there is no such process, or only a zombie that nobody reaps."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_a_finished_run_is_evaluated_and_measured() -> None:
    found = execute(run("strip", solver="highs", plugins=()))
    assert found["harness"] == "finished" and found["status"] == "optimal"
    assert found["value_s"] == pytest.approx(18 * 1152 / 1e6 + 2 * 192 / 12.5e6)
    assert found["fault"] is None and found["bound_s"] <= found["value_s"]
    assert found["columns"] > 0 and found["peak_mib"] > 10 and found["wall_s"] > 0
    assert len(found["tiles"]) == 2 and found["trace"]


def test_a_solver_that_hangs_is_killed_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LOG, str(tmp_path / "pids"))
    found = execute(run("test-hang", time_limit_s=3.0, grace_s=1.0))
    assert found["harness"] == "timeout"
    assert "status" not in found and "value_s" not in found
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 2 and all(gone(pid) for pid in pids)


def test_what_a_solver_prints_is_kept_off_the_result() -> None:
    found = execute(run("test-chatter"))
    assert found["harness"] == "finished" and found["fault"] is None
    assert found["stdout_bytes"] == len("{not json\nfrom C\n")


def test_a_solver_that_eats_memory_is_stopped_at_its_limit() -> None:
    found = execute(run("test-eat", memory_mib=300.0))
    assert found["harness"] == "out-of-memory"
    assert "300 MiB" in found["message"]


@pytest.mark.parametrize(
    ("method", "words"),
    [("test-die", "signal SIGSEGV"), ("test-leave", "exit code 3")],
)
def test_a_solver_that_dies_is_a_crash(method: str, words: str) -> None:
    found = execute(run(method))
    assert found["harness"] == "crash" and words in found["message"]


def test_input_that_a_method_refuses_is_an_error_with_its_message() -> None:
    found = execute(run("column-dp", solver="cbc"))
    assert found["harness"] == "error" and "'cbc'" in found["message"]


def test_tiles_that_are_no_partition_are_a_fault() -> None:
    found = execute(run("test-overlap"))
    assert found["harness"] == "finished"
    assert "covered twice" in found["fault"]


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_of_libraries_are_pinned_in_the_run_s_process(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read in the child after BLAS, HiGHS and torch have worked; this process asks for seven."""
    for name in THREAD_VARIABLES:
        monkeypatch.setenv(name, "7")
    notes = execute(run("test-threads", threads=threads))["notes"]
    assert (notes["limit"], notes["numba"], notes["torch"]) == (str(threads),) * 3
    if threads == 1:
        assert notes["kernel"] == "1"
    else:
        assert int(notes["kernel"]) > 1
    assert os.environ["OMP_NUM_THREADS"] == "7"


def test_a_stopped_batch_kills_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LOG, str(tmp_path / "pids"))
    stop = threading.Event()
    timer = threading.Timer(2.0, stop.set)
    timer.start()
    with pytest.raises(StoppedError):
        execute(run("test-hang"), stop)
    timer.join()


def test_a_run_that_never_begins_is_killed_and_said_to_be_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The limit counts from where the method is called; imports have a limit of their own."""
    monkeypatch.setattr("nptp_opt.comparison.harness.STARTUP_S", 0.01)
    found = execute(run("test-quick"))
    assert found["harness"] == "timeout" and "had not begun to solve" in found["message"]


def test_slow_imports_do_not_count_towards_the_limit() -> None:
    """Bug: on a busy machine models took longer to load than limit and grace, and timed out."""
    found = execute(run("test-quick", time_limit_s=1e-3, grace_s=0.3))
    assert found["harness"] == "finished"


COMPILING = """
import gc
from numba.core.dispatcher import Dispatcher
from nptp_opt.comparison.runs import Run
from nptp_opt.comparison.warm import warm
from nptp_opt.instances import library
from nptp_opt.layer.solve import solve_layer

def ready():
    found = [made for made in gc.get_objects() if isinstance(made, Dispatcher)]
    return {(made.py_func.__qualname__, types) for made in found for types in made.signatures}

problem = library.open_layer("vgg13-conv3x3-128to128-at112-n5-unequal-switched-50")
warm(Run(library.problem_to_json(problem), "auto"))
before = ready()
result = solve_layer(problem, "auto")
print(result.notes["bound"], bool(before), ready() - before)
"""


def test_no_run_is_charged_for_compiling() -> None:
    """Bug: the first run of a search after an installation spent 10 s of its limit on numba.

    What a solution needs is compiled, or read from numba's cache, before it begins.
    """
    words = [sys.executable, "-c", COMPILING]
    found = subprocess.run(words, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["dissection-search", "True", "set()"]
