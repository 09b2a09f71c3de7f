"""A Dask cluster that is not ours: a scheduler and workers started by hand, also with TLS."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from nptp_opt.comparison import dask_backend
from tests.comparison.runs import LOG
from tests.comparison.test_batch import ROOT, Bench, refused, some_rows, until
from tests.comparison.test_batch import SEEDS as ROWS

pytest.importorskip("distributed", reason="needs the extra 'dask'")

SEEDS = 3


@contextlib.contextmanager
def started(bench: Bench, *words: str) -> Iterator[None]:
    """``dask scheduler`` or ``dask worker``, until the end of the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dask", *words],
        cwd=ROOT,
        env={**os.environ, LOG: str(bench.log)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def scheduler_pid(folder: Path) -> int:
    """The scheduler that wrote its address into the folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().decode().split("\0")
            if "scheduler" in words and str(folder / "scheduler.json") in words:
                found.append(int(path.parent.name))
    (pid,) = found
    return pid


@contextlib.contextmanager
def cluster(folder: Path, bench: Bench, tls: Sequence[str] = ()) -> Iterator[str]:
    """A scheduler and one worker; gives the scheduler's address."""
    file = folder / "scheduler.json"
    protocol = ["--protocol", "tls" if tls else "tcp", *tls]
    here = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)]
    worker = ["worker", "--scheduler-file", str(file), "--nthreads", "1", "--no-dashboard"]
    with started(bench, "scheduler", *here, *protocol):
        # Dask opens the file before it writes it: to exist is not to be whole.
        until(lambda: file.exists() and file.read_bytes().rstrip().endswith(b"}"))
        with started(bench, *worker, "--local-directory", str(folder), *protocol):
            yield json.loads(file.read_text())["address"]


def test_a_killed_batch_resumes_on_the_same_cluster(tmp_path: Path) -> None:
    """By the scheduler's address. What its workers do when the batch is gone (kill -9) is not
    stored twice."""
    bench = Bench(tmp_path)
    with cluster(tmp_path, bench) as address:
        assert address.startswith("tcp://")
        process = bench.start("--scheduler", address)
        until(some_rows(bench, 2))
        process.kill()
        process.wait()
        kept = {f"tiny {which}": bench.began()[f"tiny {which}"] for which in bench.seeds()}
        assert bench.finish("--scheduler", address)["finished"] == ROWS
    assert bench.seeds() == [*range(ROWS)]
    assert kept == {name: bench.began()[name] for name in kept}


def test_a_killed_scheduler_is_one_line_and_the_batch_resumes(tmp_path: Path) -> None:
    """Bug: a traceback of Dask's, and exit code 1."""
    bench = Bench(tmp_path)
    with cluster(tmp_path, bench) as address:
        process = bench.start("--scheduler", address)
        until(some_rows(bench, 1))
        os.kill(scheduler_pid(tmp_path), signal.SIGKILL)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 6 and "no longer answers" in err, err
    assert "Traceback" not in err, err
    assert bench.finish("--workers", "2")["finished"] == ROWS
    assert bench.seeds() == [*range(ROWS)]


def certificate(folder: Path) -> tuple[str, str]:
    """A self-signed certificate and its key."""
    cert, key = str(folder / "cert.pem"), str(folder / "key.pem")
    words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=dask"]
    subprocess.run(
        ["openssl", *words, "-keyout", key, "-out", cert], capture_output=True, check=True
    )
    return cert, key


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl for a certificate")
def test_tls_files_are_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scheduler speaks TLS alone: with the three files the runs are done, without none is."""
    bench = Bench(tmp_path, "test-quick", SEEDS)
    cert, key = certificate(tmp_path)
    tls = ["--tls-ca-file", cert, "--tls-cert", cert, "--tls-key", key]
    with cluster(tmp_path, bench, tls) as address:
        assert address.startswith("tls://")
        monkeypatch.setattr(dask_backend, "CONNECT_S", 1)
        refused(bench, ["--scheduler", address], "no Dask scheduler answers")
        assert bench.seeds() == []
        assert bench.finish("--scheduler", address, *tls)["finished"] == SEEDS
    assert bench.seeds() == [*range(SEEDS)]
