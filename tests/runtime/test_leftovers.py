"""What a killed launcher leaves is found; what belongs to a run under way is not touched."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from nptp_opt.runtime.emulation.quota import Hierarchy
from nptp_opt.runtime.launcher import leftovers
from nptp_opt.runtime.launcher.leftovers import FOLDER_PREFIX, _launcher, claim, clean_leftovers
from nptp_opt.runtime.launcher.pool import WorkerPool


def test_only_abandoned_folders_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder whose lock is held, or that has none yet, stays."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    used, dead, fresh = (tmp_path / f"{FOLDER_PREFIX}{name}" for name in ("used", "dead", "fresh"))
    for folder in (used, dead, fresh):
        folder.mkdir()
    claim(dead).close()
    with claim(used):
        assert clean_leftovers().folders == (dead,)
    assert used.exists()
    assert fresh.exists()
    assert not dead.exists()


def test_the_next_run_removes_what_a_killed_one_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: weights and secret of a launcher that was killed stayed until somebody cleaned up."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    dead = tmp_path / f"{FOLDER_PREFIX}dead"
    dead.mkdir()
    claim(dead).close()
    with WorkerPool([]) as first, WorkerPool([]):
        assert not dead.exists() and first.folder.exists()
    assert list(tmp_path.iterdir()) == []


def test_two_clean_ups_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: what another one had removed meanwhile ended a clean-up with a traceback."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder, remove = tmp_path / f"{FOLDER_PREFIX}dead", shutil.rmtree
    folder.mkdir()
    claim(folder).close()

    def other_first(path: Path) -> None:
        remove(path)
        remove(path)

    monkeypatch.setattr(leftovers.shutil, "rmtree", other_first)
    assert clean_leftovers().folders == (folder,)
    assert not folder.exists()


def test_no_lock_is_seen_before_it_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: a clean-up between the making of the lock's file and the locking removed a living run's
    folder, and that run failed."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder, cleaned = tmp_path / f"{FOLDER_PREFIX}new", []
    folder.mkdir()
    flock = fcntl.flock

    def clean_first(file: Any, operation: int) -> None:
        monkeypatch.setattr(leftovers.fcntl, "flock", flock)
        cleaned.extend(clean_leftovers().folders)
        flock(file, operation)

    monkeypatch.setattr(leftovers.fcntl, "flock", clean_first)
    with claim(folder):
        assert (folder / "lock").exists()
    assert cleaned == []


@pytest.mark.parametrize(
    ("command", "launcher"),
    [
        ("python -m nptp_opt.runtime.worker.main --name d0 --parent 17", 17),
        ("python -m nptp_opt.runtime.emulation.holder 18", 18),
        ("python -m nptp_opt.runtime.worker.main --name d0 --parent 1", 1),
        ("python -m nptp_opt.runtime.worker.main --name d0 --connect tcp:192.0.2.1:7000", 1),
        ("grep nptp_opt.runtime.emulation.holder", 1),
        ("vim notes", 1),
    ],
)
def test_children_of_a_first_process_are_no_orphans(command: str, launcher: int) -> None:
    """Bug: where the launcher was the first process of a container (1), its living workers counted
    as inherited by init. A worker that nobody launched is left alone, too."""
    assert _launcher([word.encode() for word in command.split()]) == launcher


def test_group_of_a_run_with_another_temporary_folder_is_not_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: a living run with another TMPDIR lost its CPU quotas. Empty groups are removed."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "ours"))
    monkeypatch.setattr(leftovers, "find_hierarchy", lambda: Hierarchy(tmp_path, 2))
    removed: list[Path] = []
    monkeypatch.setattr(leftovers, "remove_group", removed.append)
    for name, procs in (("alive", f"{os.getpid()}\n"), ("dead", "")):
        group = tmp_path / f"{FOLDER_PREFIX}{name}" / "0"
        group.mkdir(parents=True)
        (group / "cgroup.procs").write_text(procs)
    clean_leftovers()
    assert removed == [tmp_path / f"{FOLDER_PREFIX}dead"]


ORPHAN = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)",
                          sys.argv[1], str(os.getpid())],
                         stdout=subprocess.DEVNULL)
print(child.pid, flush=True)
"""


def test_orphans_are_found_by_their_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A holder whose launcher has ended belongs to init, or to whoever adopts orphans here.

    It has a name of its own: no clean-up of a test beside this one takes it for a leftover.
    """
    name = f"holder-of-test-{os.getpid()}"
    monkeypatch.setattr(leftovers, "CHILDREN", (name.encode(), b"no-worker"))
    done = subprocess.run(
        [sys.executable, "-c", ORPHAN, name], stdout=subprocess.PIPE, text=True, check=True
    )
    pid = int(done.stdout)
    try:
        parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        assert (pid in leftovers._orphans()) == (parent == leftovers.INIT)
    finally:
        os.kill(pid, 9)
