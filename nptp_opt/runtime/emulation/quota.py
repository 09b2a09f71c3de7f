"""Slow devices by CPU quotas: one control group per worker, of version 2 or 1, whichever is there.

A group gives its process a share of every period. Coarser than padding: a task that begins at the
end of a period waits for the next one, so short tasks jitter.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from nptp_opt.errors import ExecutionError, InputError

PERIOD_US, LONGEST_PERIOD_US = 10_000, 1_000_000
LEAST_QUOTA_US = 1_000
"""The kernel's lower limit of a quota, and its upper limit of a period."""
MOUNTS, OWN = Path("/proc/self/mountinfo"), Path("/proc/self/cgroup")


@dataclass(frozen=True)
class Hierarchy:
    """A folder in which groups with a CPU quota can be made."""

    root: Path
    version: int

    def limit(self, group: Path, share: float) -> None:
        """Let the processes of ``group`` have ``share`` of one core's time."""
        quota, period = quota_us(share)
        if self.version == 2:
            (group / "cpu.max").write_text(f"{quota} {period}")
            return
        (group / "cpu.cfs_period_us").write_text(str(period))
        (group / "cpu.cfs_quota_us").write_text(str(quota))


def quota_us(share: float) -> tuple[int, int]:
    """Quota and period in microseconds: the shortest period whose quota the kernel accepts."""
    period = min(LONGEST_PERIOD_US, max(PERIOD_US, round(LEAST_QUOTA_US / share)))
    return max(LEAST_QUOTA_US, round(share * period)), period


def find_hierarchy(mounts: str | None = None, own: str | None = None) -> Hierarchy:
    """Where this process may make limited groups; raises ExecutionError that says why nowhere."""
    reasons = []
    for hierarchy in _candidates(
        MOUNTS.read_text() if mounts is None else mounts, OWN.read_text() if own is None else own
    ):
        problem = _problem(hierarchy)
        if problem is None:
            return hierarchy
        reasons.append(problem)
    raise ExecutionError(
        f"`throttle` cgroup: no control group for CPU time can be made here "
        f"({'; '.join(reasons) or 'none is mounted'}): run as root on a machine with cgroups, "
        "or use `throttle` pad"
    )


def _candidates(mounts: str, own: str) -> Iterator[Hierarchy]:
    """This process's own group and all above it, of every hierarchy that limits CPU time."""
    paths: dict[str, str] = {}
    for line in own.splitlines():
        _, controllers, path = line.split(":", 2)
        paths |= dict.fromkeys(controllers.split(","), path)
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        version = {"cgroup2": 2, "cgroup": 1}.get(kind)
        if version is None or (version == 1 and "cpu" not in options.split(",")):
            continue
        mount = Path(before.split(" ")[4])
        group = mount / paths.get("" if version == 2 else "cpu", "/").lstrip("/")
        while group != mount.parent:
            yield Hierarchy(group, version)
            group = group.parent


def _problem(hierarchy: Hierarchy) -> str | None:
    """Why no limited group can be made in a folder; None where one was made, and removed again."""
    trial = hierarchy.root / f"nptp-trial-{os.getpid()}"
    try:
        trial.mkdir()
    except OSError as error:
        return f"{hierarchy.root}: {error.strerror}"
    try:
        hierarchy.limit(trial, 0.5)
    except OSError as error:
        return f"{hierarchy.root}: no CPU quota ({error.strerror})"
    finally:
        with contextlib.suppress(OSError):
            trial.rmdir()
    return None


class Quotas:
    """Groups for the processes of a run; a context manager that removes them again.

    ``name`` is the run's folder's, by which ``emulate --clean`` tells whose they are.
    """

    def __init__(
        self, name: str, pids: Mapping[str, int], shares: Mapping[str, float], hierarchy: Hierarchy
    ) -> None:
        self.hierarchy, self.pids = hierarchy, pids
        self.group, self.shares = hierarchy.root / name, shares

    def __enter__(self) -> Quotas:
        try:
            self.group.mkdir()
            if self.hierarchy.version == 2:
                (self.group / "cgroup.subtree_control").write_text("+cpu")
            for number, (device, share) in enumerate(self.shares.items()):
                group = self.group / str(number)
                group.mkdir()
                self.hierarchy.limit(group, share)
                (group / "cgroup.procs").write_text(str(self.pids[device]))
        except OSError as error:
            self.__exit__()
            raise ExecutionError(f"`throttle` cgroup: {self.group}: {error.strerror}") from None
        return self

    def __exit__(self, *exception: object) -> None:
        remove_group(self.group)


def remove_group(group: Path) -> None:
    """Move whatever runs in a group and its subgroups out of it, and remove them."""
    if not group.is_dir():
        return
    for inner in (*(path for path in group.iterdir() if path.is_dir()), group):
        for pid in (inner / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):  # it has ended meanwhile
                (group.parent / "cgroup.procs").write_text(pid)
        inner.rmdir()


def shares_of(device_s: Mapping[str, float], cpu_s: float, threads: int = 1) -> dict[str, float]:
    """Cores that make this machine as slow as each device: CPU time over the device's seconds.

    Raises InputError for a device that is faster than ``threads`` cores.
    """
    for device, seconds in device_s.items():
        if seconds * threads < cpu_s or not seconds:
            raise InputError(
                f"device {device!r} needs {seconds:.3f} s for the whole model, this machine "
                f"{cpu_s / threads:.3f} s: a quota cannot make it faster; use `throttle` none"
            )
    return {device: cpu_s / seconds for device, seconds in device_s.items()}
