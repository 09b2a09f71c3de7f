"""Outputs that cannot be written are refused before the work; nothing is left and nothing lost."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nptp_opt.commands.outputs import check_outputs
from nptp_opt.errors import InputError
from nptp_opt.files import write_text
from tests.cli.test_commands import CLUSTER, MODEL, call

BAD = {
    "/proc/x": "cannot be written",
    "no/such/folder/x.json": "does not exist",
    "folder": "is a folder",
    "n" * 300: "cannot be written",
    "loop": "cannot be written",
    "file/x.json": "does not exist",
}
"""Outputs by what is said of them, in the folder that ``here`` makes."""

COMMANDS = {
    "solve": ["solve", "no.such.module:model", "-c", "cluster.toml", "-o"],
    "pareto": ["solve", "no.such.module:model", "-c", "cluster.toml", "--pareto", "latency,bytes",
               "-o"],
    "sweep": ["sweep", "no.such.module:model", "-c", "cluster.toml", "--over", "rate=1:2", "-o"],
    "sweep --png": ["sweep", "no.such.module:model", "-c", "cluster.toml", "--over", "rate=1:2",
                    "--png"],
    "profile": ["profile", "no.such.module:model", "-o"],
    "run --trace": ["run", "no_plan.json", "--trace"],
    "compare": ["compare", "no_spec.toml", "-o"],
    "report --html": ["report", "no_results.sqlite", "--html"],
    "solve-layer": ["solve-layer", "vgg16-conv3_2-n4", "--export-mps"],
    "instances generate": ["instances", "generate", "-o"],
}  # fmt: skip
"""Commands that would fail later: what they read is not there, or takes long."""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cluster.toml").write_text(CLUSTER)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("kept")
    (tmp_path / "loop").symlink_to("loop")
    return tmp_path


@pytest.mark.parametrize("output", BAD)
def test_an_output_that_cannot_be_written(here: Path, output: str) -> None:
    """Bug: `solve -o /proc/x` failed after planning; a name of 300 letters was a traceback."""
    before = sorted(here.rglob("*"))
    with pytest.raises(InputError, match=BAD[output]):
        check_outputs(None, Path(output))
    with pytest.raises(InputError):
        write_text(Path(output), "text")
    assert sorted(here.rglob("*")) == before
    assert (here / "file").read_text() == "kept"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_looks_at_its_output_first(
    here: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it imports a model, opens an instance or plans."""
    args = COMMANDS[command]
    if command == "solve-layer":
        monkeypatch.setattr("nptp_opt.formulations.export_model", None)
        args = ["solve-layer", _a_layer(), "--export-mps"]
    result = call(*args, "/proc/x.json")
    assert result.exit_code == 2, result.exception
    assert "/proc/x.json: cannot be written" in result.stderr


def _a_layer() -> str:
    from nptp_opt.instances import library

    return next(e.name for e in library.library().instances if e.name.startswith("vgg16-conv"))


@pytest.mark.parametrize("name", ["file", "new", "n" * 240, "link", "/dev/null"])
def test_an_output_that_can_be_written(here: Path, name: str) -> None:
    """Nothing is made and nothing changed. Bug: names above 245 letters could not be written."""
    (here / "link").symlink_to("target")
    before = sorted(here.rglob("*"))
    check_outputs(Path(name))
    assert sorted(here.rglob("*")) == before
    assert (here / "file").read_text() == "kept"
    write_text(Path(name), "text")
    if name != "/dev/null":
        assert Path(name).read_text() == "text"
    assert not list(here.glob(".*"))


def test_a_pipe_is_no_file_to_replace(here: Path) -> None:
    os.mkfifo("pipe")
    check_outputs(Path("pipe"))
    assert Path("pipe").is_fifo()


def test_what_a_command_reads_is_not_overwritten(here: Path) -> None:
    """Bug: `solve -c c.toml -o c.toml` put the plan in the cluster's place."""
    result = call("solve", MODEL, "-c", "cluster.toml", "-o", here / "cluster.toml")
    assert result.exit_code == 2 and "is read by this command" in result.stderr
    assert (here / "cluster.toml").read_text() == CLUSTER
    result = call("run", "file", "--trace", "file")
    assert result.exit_code == 2 and "is read by this command" in result.stderr


def test_two_outputs_have_two_files(here: Path) -> None:
    with pytest.raises(InputError, match="named for two outputs"):
        check_outputs(Path("x"), None, here / "x")
    check_outputs(Path("/dev/null"), Path("/dev/null"))
