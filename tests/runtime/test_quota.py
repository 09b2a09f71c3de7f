"""CPU quotas: found where the kernel has them, said why where not, and always removed again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from nptp_opt.cli import main
from nptp_opt.errors import ExecutionError, InputError
from nptp_opt.runtime.emulation.quota import Hierarchy, Quotas, find_hierarchy, quota_us, shares_of
from nptp_opt.runtime.launcher import leftovers
from nptp_opt.runtime.launcher import pool as pool_module
from nptp_opt.runtime.launcher.launch import run_plan
from nptp_opt.runtime.launcher.leftovers import clean_leftovers
from nptp_opt.runtime.launcher.pool import DeviceLostError, WorkerPool
from nptp_opt.runtime.launcher.report import RunOptions, make_references
from nptp_opt.runtime.launcher.session import Session
from tests.builders import make_cluster
from tests.runtime.plans import hand_plan, model_of, tee


def _refusal() -> str:
    try:
        find_hierarchy()
    except ExecutionError as error:
        return str(error)
    return ""


needs_groups = pytest.mark.skipif(bool(_refusal()), reason=_refusal() or "there are groups")
SLOW = 1e-3
"""GFLOP/s at which this machine is faster than the devices."""


def test_quota_is_a_share_of_the_shortest_period_the_kernel_takes() -> None:
    """At least 1 ms of quota, at most 1 s of period."""
    assert quota_us(0.5) == (5_000, 10_000)
    assert quota_us(0.02) == (1_000, 50_000)
    assert quota_us(2.0) == (20_000, 10_000)


def test_share_makes_this_machine_as_slow_as_the_device() -> None:
    """Ten times the seconds are a tenth of the time; nothing makes it faster."""
    assert shares_of({"a": 1.0, "b": 0.1}, 0.1) == pytest.approx({"a": 0.1, "b": 1.0})
    assert shares_of({"a": 1.0}, 1.5, threads=2) == {"a": 1.5}
    with pytest.raises(InputError, match=r"'a' needs 0.100 s .* cannot make it faster"):
        shares_of({"a": 0.1}, 0.2)


def test_both_versions_are_written_as_the_kernel_wants(tmp_path: Path) -> None:
    """Version 2 has one file for quota and period, version 1 two."""
    Hierarchy(tmp_path, 2).limit(tmp_path, 0.5)
    assert (tmp_path / "cpu.max").read_text() == "5000 10000"
    Hierarchy(tmp_path, 1).limit(tmp_path, 0.5)
    assert (tmp_path / "cpu.cfs_period_us").read_text() == "10000"
    assert (tmp_path / "cpu.cfs_quota_us").read_text() == "5000"


@pytest.mark.parametrize(
    ("mounts", "words"),
    [
        ("", "none is mounted"),
        ("31 23 0:28 / /proc/nowhere rw - cgroup2 cgroup2 rw", "/proc/nowhere/mine: No such file"),
        ("31 23 0:28 / /proc/nowhere rw - cgroup cgroup rw,cpu,cpuacct", "/proc/nowhere/mine: No"),
        ("31 23 0:28 / /proc/nowhere rw - cgroup cgroup rw,memory", "none is mounted"),
    ],
)
def test_refusal_says_why(mounts: str, words: str) -> None:
    """Each folder that was tried, what was wrong with it, and what to do instead."""
    with pytest.raises(ExecutionError, match=words) as caught:
        find_hierarchy(mounts, "4:cpu,cpuacct:/mine\n0::/mine")
    assert "`throttle` pad" in str(caught.value)


MINE = f"nptp-test-{os.getpid()}-"
"""Runs of other test processes have groups of their own at the same time."""


def _groups() -> list[Path]:
    return list(find_hierarchy().root.glob(f"{MINE}*"))


@needs_groups
def test_a_process_gets_its_share_and_no_more() -> None:
    """A busy process under a tenth of a core has far less CPU time than wall time."""
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        with Quotas(f"{MINE}busy", {"d": busy.pid}, {"d": 0.1}, find_hierarchy()):
            before, start = _cpu_s(busy.pid), time.monotonic()
            time.sleep(1.0)
            used, wall = _cpu_s(busy.pid) - before, time.monotonic() - start
    finally:
        busy.kill()
        busy.wait()
    assert 0 < used < 0.2 * wall
    assert not _groups()


def _cpu_s(pid: int) -> float:
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


@needs_groups
@pytest.mark.usefixtures("forked")
def test_throttled_run_gives_the_models_output_and_leaves_no_group(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Workers are held back while they compute, and the groups are gone afterwards."""
    monkeypatch.setattr(pool_module, "FOLDER_PREFIX", MINE)
    model = model_of("chain")
    plan = hand_plan(model, "chain", tee, make_cluster([SLOW] * 3, latency_ms=0.1))
    report = run_plan(plan, model, repeats=2, warmup=0, throttle="cgroup", transport="tcp")
    assert report.ok
    assert min(report.latency_s) > report.single_device_s
    assert not _groups()


@needs_groups
@pytest.mark.usefixtures("forked")
def test_groups_are_removed_when_a_worker_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """kill -9 of a worker in its group."""
    monkeypatch.setattr(pool_module, "FOLDER_PREFIX", MINE)
    model = model_of("chain")
    plan = hand_plan(model, "chain", tee, make_cluster([SLOW] * 3, latency_ms=0.1))
    options = RunOptions(repeats=1, warmup=0, transport="tcp", throttle="cgroup")
    (reference,) = make_references(plan, model, options)
    with (
        pytest.raises(DeviceLostError, match="'d1' died"),
        WorkerPool(["d0", "d1", "d2"], timeout_s=20) as pool,
        Session(pool, plan, model, options, reference.cpu_s) as session,
    ):
        assert _groups()
        os.kill(pool.pids(["d1"])["d1"], signal.SIGKILL)
        session.run(reference)
    assert not _groups()


@needs_groups
def test_clean_removes_groups_of_dead_launchers_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A group whose run folder is gone is removed; one whose launcher lives stays."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(leftovers, "FOLDER_PREFIX", MINE)
    dead, alive = (find_hierarchy().root / f"{MINE}{name}" for name in ("dead", "alive"))
    for group in (dead, alive):
        group.mkdir()
    (tmp_path / alive.name).mkdir()
    try:
        assert clean_leftovers().groups == (dead,)
        assert alive.is_dir()
    finally:
        alive.rmdir()


def test_quota_on_other_machines_is_refused(tmp_path: Path) -> None:
    """Workers of --hosts are not ours to limit."""
    model = model_of("chain")
    plan = hand_plan(model, "chain", tee, make_cluster([SLOW] * 3))
    with pytest.raises(InputError, match="not of `hosts`"):
        run_plan(plan, model, throttle="cgroup", listen="tcp:127.0.0.1:0")


def test_option_is_known() -> None:
    """`run --help` names all three ways."""
    assert "[none|pad|cgroup]" in CliRunner().invoke(main, ["run", "--help"]).output
