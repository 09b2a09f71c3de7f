"""What a launcher that was killed with kill -9 leaves behind: found, told apart, removed.

The kernel ends its workers and namespaces, and with them every virtual link. Its folder stays, and
its control groups. A launcher holds a lock in its folder while it lives: a folder whose lock is
free belongs to nobody, and so do control groups of its name that hold no process. Other runs on
this machine, with another temporary folder too, are not touched.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import tempfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from nptp_opt.errors import ExecutionError
from nptp_opt.runtime.emulation.quota import find_hierarchy, remove_group

FOLDER_PREFIX = "nptp-run-"
OTHER_PREFIXES = ("nptp-compare-", "nptp-execute-")
"""Of folders that comparisons make (``claimed_folder``)."""
CHILDREN = (b"nptp_opt.runtime.emulation.holder", b"nptp_opt.runtime.worker.main")
INIT = 1


@dataclass(frozen=True)
class Cleaned:
    """What was removed: run folders, processes that had lost their launcher, control groups."""

    folders: tuple[Path, ...]
    processes: tuple[int, ...]
    groups: tuple[Path, ...]

    def to_json(self) -> dict[str, Any]:
        """What ``emulate --clean --json`` prints."""
        folders, processes = [str(path) for path in self.folders], list(self.processes)
        groups = [str(path) for path in self.groups]
        return {"clean": True, "folders": folders, "processes": processes, "groups": groups}


def claim(folder: Path) -> IO[bytes]:
    """Mark a run's folder as in use until the returned file is closed, or this process ends."""
    unnamed = folder / "lock.new"
    file = unnamed.open("wb")
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    unnamed.rename(folder / "lock")  # nobody sees a lock that is not held yet
    return file


@contextlib.contextmanager
def claimed_folder(prefix: str) -> Iterator[Path]:
    """A temporary folder that is there within the block; one of a killed process is found."""
    with tempfile.TemporaryDirectory(prefix=prefix) as name, claim(Path(name)):
        yield Path(name)


def clean_leftovers() -> Cleaned:
    """Remove what dead launchers of this user have left; runs under way are not touched."""
    processes = tuple(_orphans())
    for pid in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    groups = tuple(_abandoned_groups(processes))
    for group in groups:
        remove_group(group)
    return Cleaned(remove_abandoned_folders(), processes, groups)


def remove_abandoned_folders() -> tuple[Path, ...]:
    """Remove folders whose launcher, or worker, was killed; returns them."""
    folders = tuple(path for path in _own_folders() if _is_abandoned(path))
    for path in folders:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(path)
    return folders


def _abandoned_groups(killed: Collection[int]) -> Iterator[Path]:
    try:
        root = find_hierarchy().root
    except ExecutionError:  # none can have been made
        return
    for group in sorted(root.glob(f"{FOLDER_PREFIX}*")):
        folder = Path(tempfile.gettempdir()) / group.name
        nobodys = not folder.exists() or _is_abandoned(folder)
        if _is_own(group) and _is_idle(group, killed) and nobodys:
            yield group


def _is_idle(group: Path, killed: Collection[int]) -> bool:
    """True where nothing runs in a group: its launcher may use another temporary folder."""
    try:
        lists = [path.read_text().split() for path in group.glob("*/cgroup.procs")]
    except OSError:  # its run removes it
        return False
    return all(int(pid) in killed for pids in lists for pid in pids)


def _own_folders() -> Iterator[Path]:
    prefixes, place = (FOLDER_PREFIX, *OTHER_PREFIXES), Path(tempfile.gettempdir())
    for path in sorted(path for prefix in prefixes for path in place.glob(f"{prefix}*")):
        if path.is_dir() and not path.is_symlink() and _is_own(path):
            yield path


def _is_own(path: Path) -> bool:
    """This user's; False for what its run, or another clean-up, has removed meanwhile."""
    try:
        return path.stat().st_uid == os.getuid()
    except FileNotFoundError:
        return False


def _is_abandoned(folder: Path) -> bool:
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
        if own and parent == INIT != _launcher(words):
            yield int(entry.name)


def _launcher(words: Sequence[bytes]) -> int:
    """Number of the process that started a worker or holder; INIT for what none did, or it did.

    A launcher can be the first process of a container: then its children are no orphans.
    """
    try:
        if CHILDREN[0] in words:
            return int(words[words.index(CHILDREN[0]) + 1])
        if CHILDREN[1] in words:
            return int(words[words.index(b"--parent") + 1])
    except (ValueError, IndexError):
        pass
    return INIT
