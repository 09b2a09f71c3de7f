"""kill -9 at random moments, a disk that really fills up, a file system that turns read-only."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.comparison.runs import LOG
from tests.comparison.test_batch import ROOT, SEEDS, Bench, children_under, kill_worker

ALL = [*range(SEEDS)]
DICE = [*range(1, 1 + int(os.environ.get("NPTP_FUZZ", "1")))]


def kill_child(ancestor: int, dice: random.Random) -> None:
    """kill -9 of a run's process below ``ancestor``, if there is one at this moment."""
    found = children_under(ancestor)
    if found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(dice.choice(found), signal.SIGKILL)


@pytest.mark.parametrize("seed", DICE)
def test_batches_killed_at_random_moments_leave_each_run_once(tmp_path: Path, seed: int) -> None:
    """Three batches are killed, wherever they are; a row that was stored is never done again."""
    dice, bench = random.Random(seed), Bench(tmp_path)
    kept: dict[int, int] = {}
    for _ in range(3):
        process = bench.start("--workers", "2")
        time.sleep(dice.uniform(0.5, 4.0))
        process.kill()
        process.wait()
        stored = bench.seeds() if bench.log.exists() else []
        assert len(stored) == len(set(stored)) and set(kept) <= set(stored)
        for which, times in kept.items():
            assert bench.began()[f"tiny {which}"] == times
        kept = {which: bench.began()[f"tiny {which}"] for which in stored}
    assert bench.finish("--workers", "2")["finished"] == SEEDS
    assert bench.seeds() == ALL


@pytest.mark.parametrize("seed", DICE)
def test_children_killed_at_random_moments_are_crashes_and_are_retried(
    tmp_path: Path, seed: int
) -> None:
    dice, bench = random.Random(seed), Bench(tmp_path)
    process = bench.start("--workers", "2")
    while process.poll() is None:
        time.sleep(dice.uniform(0.1, 2.0))
        kill_child(process.pid, dice)
    out, err = process.communicate()
    assert process.returncode == 0, err
    counts = json.loads(out)
    assert counts["finished"] + counts["crash"] == SEEDS and bench.seeds() == ALL
    assert bench.finish("--workers", "2", "--retry", "failed")["finished"] == SEEDS
    assert bench.seeds() == ALL


def test_dask_workers_killed_at_random_moments_lose_and_double_nothing(tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="needs the extra 'dask'")
    dice, bench = random.Random(3), Bench(tmp_path)
    process = bench.start("--scheduler", "local", "--workers", "2")
    killed, began = 0, time.monotonic()
    while process.poll() is None and killed < 3 and time.monotonic() - began < 60:
        time.sleep(dice.uniform(0.2, 1.5))
        found = children_under(process.pid)
        killed += bool(found) and kill_worker(dice.choice(found))
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert killed and json.loads(out)["finished"] == SEEDS and bench.seeds() == ALL


SMALL_DISK = """
set -u
mount -t tmpfs -o size=72k none "$DISK" || exit 77
"$@"; echo "full: $?"
mount -o remount,ro "$DISK"
"$@"; echo "read-only: $?"
mount -o remount,rw,size=8m "$DISK"
"$@"; echo "grown: $?"
"""
"""Compares on a disk of 72 kB, which holds some of the runs, then with that file system read-only,
then with room."""


def in_namespace() -> list[str] | None:
    """The command that mounts in a namespace of its own, or None where the kernel refuses it."""
    unshare = shutil.which("unshare")
    words = [str(unshare), "--mount", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
    if unshare is None or subprocess.run([*words, "true"], capture_output=True).returncode:
        return None
    return words


def test_a_disk_that_is_full_or_read_only_loses_nothing(tmp_path: Path) -> None:
    """A real file system without room, then read-only: one clear line; then every run once."""
    words = in_namespace()
    if words is None:
        pytest.skip("the kernel lets this user mount nothing")
    bench, disk = Bench(tmp_path, "test-quick", seeds=24), tmp_path / "disk"
    disk.mkdir()
    compare = [sys.executable, "-m", "nptp_opt.cli", "compare", str(bench.spec), "--json"]
    done = subprocess.run(
        [*words, "sh", "-c", SMALL_DISK, "sh", *compare, "-o", str(disk / "r.sqlite")],
        cwd=ROOT,
        env={**os.environ, "DISK": str(disk), LOG: str(bench.log)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    if done.returncode == 77:
        pytest.skip("the kernel lets this user mount no tmpfs")
    no_room, full, no_writing, read_only, counts, grown = done.stdout.splitlines()
    errors = [json.loads(line)["exit_code"] for line in (no_room, no_writing)]
    assert errors == [2, 2]
    assert (full, read_only, grown) == ("full: 2", "read-only: 2", "grown: 0"), done.stderr
    assert "database or disk is full" in done.stderr and "Read-only file system" in done.stderr
    assert done.stderr.count("what is stored in it is kept") == 1  # then no run was begun
    assert "Traceback" not in done.stderr
    assert json.loads(counts)["finished"] == 24
    first, _, last = done.stderr.partition("Read-only file system")
    stored = first.count(" left in about ")
    assert 0 < stored < 24 and f"24 runs, {stored} of them done before" in last
