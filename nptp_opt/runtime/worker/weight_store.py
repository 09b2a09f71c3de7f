"""Weights that a worker keeps from one job to the next, by the hash of their bytes.

A file per tensor, in a folder of this user's: its name is the sha256 of what it holds, and it is
believed no more than that: what is read is hashed again, and a file that is damaged is removed. A
file is written beside its place and renamed, so that none is half there. Workers of one folder take
turns to write and to make room: what was not used for longest goes first.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import mmap
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from nptp_opt.errors import InputError

log = logging.getLogger(__name__)

Content = mmap.mmap | bytearray | bytes
"""The bytes of a tensor. What is written to a mapped one never reaches the file."""

DEFAULT_MIB = 2048
LOCK, UNFINISHED = "lock", "unfinished"
"""Whoever holds the lock is the only one that writes: what lies there unfinished then is left by
one that was killed."""


_DIGEST = re.compile("[0-9a-f]{64}")
"""Names of what is kept."""


def default_folder() -> Path:
    """``$XDG_CACHE_HOME/nptp-opt/weights``, by default in ``~/.cache``."""
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        raise InputError("this user has no home folder: give one for weights as `cache`") from None
    return home / "nptp-opt" / "weights"


class WeightStore:
    """At most ``limit_bytes`` of tensors in ``folder``; with a limit of 0 nothing is kept.

    A folder that cannot be used (full, read-only) is told once in the log, and nothing is kept.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.folder, self.limit_bytes = folder, limit_bytes
        self._used: set[str] = set()
        """What the current job has asked for: room for one half of it is not made by the other."""

    def begin_job(self) -> None:
        """What jobs before this one used may go."""
        self._used.clear()

    def find(self, digest: str) -> Content | None:
        """The bytes of that hash, mapped; None where they are not there, or damaged."""
        self._used.add(digest)
        if not self.limit_bytes:
            return None
        path = self.folder / digest
        try:
            with path.open("rb") as file:
                content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            os.utime(path)
        except (OSError, ValueError):  # an empty file cannot be mapped
            return None
        if hashlib.sha256(content).hexdigest() == digest:
            return content
        log.warning("%s is damaged: it is removed, and sent again", path)
        path.unlink(missing_ok=True)
        return None

    def keep(self, digest: str, content: Content) -> Content:
        """Write ``content`` where there is room for it; returns it, mapped if it was written.

        Raises InputError where it is not what its hash says.
        """
        if hashlib.sha256(content).hexdigest() != digest:
            raise InputError(f"weights arrived damaged: {digest[:12]} is not their hash")
        self._used.add(digest)
        if len(content) and self._write(digest, content):
            return self.find(digest) or content
        return content

    def clean(self) -> None:
        """Remove what a killed worker left unfinished, and what is over the limit; with a limit of
        0 the folder is not touched."""
        if self.limit_bytes and self.folder.is_dir():
            self._alone(lambda: self._make_room(0))

    def _write(self, digest: str, content: Content) -> bool:
        if len(content) > self.limit_bytes:
            return False

        def write() -> bool:
            if not self._make_room(len(content)):
                return False
            (self.folder / UNFINISHED).write_bytes(content)
            (self.folder / UNFINISHED).rename(self.folder / digest)
            return True

        return self._alone(write)

    def _alone(self, change: Callable[[], bool]) -> bool:
        """``change`` the folder while nobody else does. What the system refuses is told, and ends
        all keeping."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with (self.folder / LOCK).open("wb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                (self.folder / UNFINISHED).unlink(missing_ok=True)
                return change()
        except OSError as error:
            log.warning("no weights are kept in %s: %s", self.folder, error.strerror)
            self.limit_bytes = 0
            return False

    def _make_room(self, size: int) -> bool:
        """Remove the oldest until ``size`` bytes fit; where they cannot nothing, and False."""
        there = sorted(self._entries())
        over = sum(length for _, length, _ in there) + size - self.limit_bytes
        goes = []
        for _, length, path in there:
            if over <= 0:
                break
            if path.name not in self._used:
                goes.append(path)
                over -= length
        if over > 0:
            return False
        for path in goes:
            path.unlink(missing_ok=True)
        return True

    def _entries(self) -> Iterator[tuple[int, int, Path]]:
        """When it was used last, how long it is, and where; what is not named by a hash is not
        ours, and stays."""
        for path in self.folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # found to be damaged, by another worker
                found = path.stat()
                if _DIGEST.fullmatch(path.name):
                    yield found.st_mtime_ns, found.st_size, path
