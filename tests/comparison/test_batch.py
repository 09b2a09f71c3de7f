"""Whole batches from the command line: killed, resumed, two at a time, and through Dask."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from nptp_opt.cli import main
from nptp_opt.comparison import dask_backend
from tests.comparison.runs import INSTANCE, LOG, PLUGIN
from tests.comparison.test_harness import gone

ROOT = Path(__file__).parents[2]
SEEDS = 6


class Bench:
    """A spec of six runs of 0.3 s, its results file, and the log of runs that began."""

    def __init__(self, folder: Path, method: str = "test-slow", seeds: int = SEEDS) -> None:
        self.spec, self.results = folder / "spec.toml", folder / "results.sqlite"
        self.log, instance = folder / "log", folder / "tiny.json"
        instance.write_text(json.dumps(INSTANCE))
        self.spec.write_text(
            f'instances = ["{instance}"]\nformulations = ["{method}"]\n'
            f'seeds = {[*range(seeds)]}\ntime_limits_s = [20.0]\nplugins = ["{PLUGIN}"]\n'
        )

    @property
    def words(self) -> list[str]:
        return [str(self.spec), "-o", str(self.results), "--json"]

    def start(self, *options: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "nptp_opt.cli", "compare", *self.words, *options],
            cwd=ROOT,
            env={**os.environ, LOG: str(self.log)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self, *options: str) -> dict[str, Any]:
        process = self.start(*options)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        found: dict[str, Any] = json.loads(out)
        return found

    def seeds(self) -> list[int]:
        if not self.results.exists():
            return []
        with sqlite3.connect(self.results) as db:
            return [seed for (seed,) in db.execute("SELECT seed FROM runs ORDER BY seed")]

    def began(self) -> Counter[str]:
        return Counter(self.log.read_text().splitlines())


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def some_rows(bench: Bench, count: int) -> Callable[[], bool]:
    def enough() -> bool:
        try:
            return len(bench.seeds()) >= count
        except sqlite3.OperationalError:  # no table yet
            return False

    return enough


@pytest.mark.parametrize("rows", [3])
def test_a_batch_that_is_killed_resumes_and_does_each_run_once(tmp_path: Path, rows: int) -> None:
    bench = Bench(tmp_path)
    process = bench.start("--workers", "2")
    until(some_rows(bench, rows))
    process.kill()
    process.wait()
    kept = bench.seeds()
    found = bench.finish("--workers", "2")
    assert found["finished"] == found["runs"] == SEEDS
    assert bench.seeds() == [*range(SEEDS)]
    again = [seed for seed in kept if bench.began()[f"tiny {seed}"] > 1]
    assert again == []


def test_the_runs_of_a_killed_batch_die_with_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "test-hang", seeds=1)
    process = bench.start("--workers", "1")
    until(lambda: bench.log.exists() and len(bench.log.read_text().split()) == 2)
    pids = [int(pid) for pid in bench.log.read_text().split()]
    process.kill()
    process.wait()
    until(lambda: all(gone(pid) for pid in pids))


def test_a_batch_that_is_told_to_stop_gives_its_claims_back(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    process = bench.start("--workers", "1")
    until(some_rows(bench, 1))
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=30)
    with sqlite3.connect(bench.results) as db:
        assert db.execute("SELECT count(*) FROM claims").fetchone() == (0,)
    assert bench.finish()["finished"] == SEEDS


def test_a_killed_child_is_a_crash_and_is_done_again_on_request(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "test-once", seeds=1)
    assert bench.finish()["crash"] == 1
    assert bench.finish()["crash"] == 1
    found = bench.finish("--retry", "failed")
    assert (found["crash"], found["finished"]) == (0, 1)


def test_two_batches_on_one_file_share_the_runs(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    both = [bench.start("--workers", "1") for _ in range(2)]
    for process in both:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    assert bench.seeds() == [*range(SEEDS)]
    assert set(bench.began().values()) == {1}


def worker_of(pid: int) -> int:
    """The Dask worker that started a run's process."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def child_pids() -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"nptp_opt.comparison.child" in words:
            found.append(int(path.parent.name))
    return found


def test_a_dask_worker_that_is_killed_loses_and_doubles_nothing(tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="needs the extra 'dask'")
    bench = Bench(tmp_path)
    process = bench.start("--scheduler", "local", "--workers", "2")
    until(some_rows(bench, 1))
    until(lambda: bool(mine := children_under(process.pid)) and kill_worker(mine[0]))
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert json.loads(out)["finished"] == SEEDS
    assert bench.seeds() == [*range(SEEDS)]


def kill_worker(child: int) -> bool:
    """Kill the worker above a run's process; False where the run has ended meanwhile."""
    try:
        os.kill(worker_of(child), signal.SIGKILL)
    except (OSError, IndexError):
        return False
    return True


def children_under(ancestor: int) -> list[int]:
    """Processes of runs that descend from a batch: those of no other test."""
    found = []
    for pid in child_pids():
        above = pid
        while above > 1 and above != ancestor:
            try:
                above = worker_of(above)
            except (OSError, IndexError):
                break
        if above == ancestor:
            found.append(pid)
    return found


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--scheduler", "tcp://127.0.0.1:1"], "no Dask scheduler answers"),
        (["--scheduler", "local", "--tls-cert", "x"], "together"),
    ],
)
def test_dask_that_cannot_be_reached(
    tmp_path: Path, options: list[str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed", reason="needs the extra 'dask'")
    monkeypatch.setattr(dask_backend, "CONNECT_S", 1)
    refused(Bench(tmp_path), options, words)


def refused(bench: Bench, options: list[str], words: str) -> None:
    """In this process the comparison ends with such a line."""
    done = CliRunner().invoke(main, ["compare", *bench.words, *options])
    assert done.exit_code == 2
    assert words in done.stderr and "Traceback" not in done.stderr
