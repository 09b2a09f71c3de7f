"""The systemd unit that `worker --install-service` prints; the two commands that are a worker."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from nptp_opt.cli import main
from nptp_opt.runtime.worker import start
from tests.cli.test_commands import call

ODD = 'a "b" $HOME %h \\d'
"""A folder's name in which each special character of a unit has its own meaning back."""


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    folder = tmp_path / ODD
    folder.mkdir()
    (folder / "secret").write_text("a secret of this test alone")
    return folder / "secret"


def _unit(secret: Path, *more: str | Path) -> str:
    done = call("worker", "--connect", "192.0.2.1:7000", "--name", "pi-1", "--secret-file", secret,
                "--install-service", *more)  # fmt: skip
    assert done.exit_code == 0, done.stderr
    return done.stdout


def _started(unit: str) -> list[str]:
    """The words that systemd would start."""
    (line,) = (line for line in unit.splitlines() if line.startswith("ExecStart="))
    words = shlex.split(line.removeprefix("ExecStart="))
    return [word.replace("%%", "%").replace("$$", "$") for word in words]


def test_the_unit_starts_the_same_worker_as_a_daemon(secret: Path) -> None:
    """Whatever characters its paths have; weights go where systemd makes a folder."""
    words = _started(_unit(secret, "--executor", "onnxruntime", "--cache-mib", "0.5"))
    assert words[1:4] == ["-m", "nptp_opt", "worker"]
    request = start.WorkerRequest(**vars(start.parser().parse_args(words[4:])))
    assert (request.name, request.connect, request.secret_file) == (
        "pi-1", "192.0.2.1:7000", secret,
    )  # fmt: skip
    assert (request.executor, request.daemon, request.cache_mib) == ("onnxruntime", True, 0.5)
    assert request.cache == Path("/var/cache/nptp-opt")
    assert not request.install_service


@pytest.mark.parametrize("cache", [False, True])
def test_systemd_takes_the_unit(secret: Path, tmp_path: Path, *, cache: bool) -> None:
    """By `systemd-analyze verify`, which is silent of a unit that is right."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed: the unit's syntax alone is tested")
    path = tmp_path / "nptp-opt-worker-pi-1.service"
    path.write_text(_unit(secret, *(["--cache", tmp_path / ODD] if cache else [])))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", path], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    path.write_text(path.read_text().replace("Restart=always", "Restart=maybe"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", path], capture_output=True, text=True
    )
    assert "maybe" in done.stderr


def test_the_unit_has_its_sections_and_no_key_twice(secret: Path) -> None:
    section, keys = "", list[tuple[str, str]]()
    for line in _unit(secret).splitlines():
        if line.startswith("["):
            section = line
        elif line and not line.startswith("#"):
            keys.append((section, line.partition("=")[0]))
    assert {name for name, _ in keys} == {"[Unit]", "[Service]", "[Install]"}
    assert len(set(keys)) == len(keys)


def test_a_name_of_no_unit_is_refused(secret: Path) -> None:
    done = call("worker", "--connect", "192.0.2.1:7000", "--name", "pi 1\nUser=root",
                "--secret-file", secret, "--install-service")  # fmt: skip
    assert done.exit_code == 2 and "a unit's name has letters" in done.stderr


def test_the_light_worker_has_the_same_options_and_defaults(secret: Path) -> None:
    """Bug: `nptp-opt-worker` had no `--daemon`, which boards need most."""
    words = ["--connect", "192.0.2.1:7000", "--name", "pi-1", "--secret-file", str(secret)]
    full = main.commands["worker"].make_context("worker", list(words))
    assert vars(start.parser().parse_args(words)) == full.params


def test_the_light_workers_unit_starts_the_light_worker(
    secret: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--connect", "192.0.2.1:7000", "--name", "pi-1", "--secret-file", str(secret)]
    assert start.main([*words, "--install-service"]) == 0
    assert _started(capsys.readouterr().out)[1:3] == ["-m", "nptp_opt.runtime.worker.start"]
    assert start.main([*words, "--cache-mib", "-1"]) == 2
    assert "--cache-mib = -1" in capsys.readouterr().err
