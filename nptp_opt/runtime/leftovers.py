"""What a launcher that was killed with kill -9 leaves behind: found, told apart, removed.

The kernel ends its workers and namespaces, and with them every virtual link. Its folder stays. A
launcher holds a lock in its folder while it lives: a folder whose lock is free belongs to nobody.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

FOLDER_PREFIX = "nptp-run-"
CHILDREN = (b"nptp_opt.runtime.holder", b"nptp_opt.runtime.worker")
INIT = 1


@dataclass(frozen=True)
class Cleaned:
    """What was removed: run folders, and processes that had lost their launcher."""

    folders: tuple[Path, ...]
    processes: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        """What ``emulate --clean --json`` prints."""
        folders, processes = [str(path) for path in self.folders], list(self.processes)
        return {"clean": True, "folders": folders, "processes": processes}


def claim(folder: Path) -> IO[bytes]:
    """Mark a run's folder as in use until the returned file is closed, or this process ends."""
    file = (folder / "lock").open("wb")
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return file


def clean_leftovers() -> Cleaned:
    """Remove what dead launchers of this user have left; runs under way are not touched."""
    processes = tuple(_orphans())
    for pid in processes:
        os.kill(pid, signal.SIGKILL)
    folders = tuple(path for path in _own_folders() if _abandoned(path))
    for path in folders:
        shutil.rmtree(path)
    return Cleaned(folders, processes)


def _own_folders() -> Iterator[Path]:
    for path in sorted(Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*")):
        if path.is_dir() and not path.is_symlink() and path.stat().st_uid == os.getuid():
            yield path


def _abandoned(folder: Path) -> bool:
    """False while a launcher holds the lock, and before it does."""
    try:
        with (folder / "lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _orphans() -> Iterator[int]:
    """Own workers and holders that init has inherited although a launcher started them."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            own = entry.stat().st_uid == os.getuid()
        except OSError:
            continue
        started = b"--parent" in words or CHILDREN[0] in words
        if own and parent == INIT and started and any(name in words for name in CHILDREN):
            yield int(entry.name)
