"""Bugs that a first user found at the command line, each by name."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from nptp_opt.__main__ import interrupt
from nptp_opt.errors import INTERNAL, ExecutionError, InputError, NptpError, VerificationError
from nptp_opt.instances import library
from nptp_opt.plan.document import plan_hash
from nptp_opt.runtime.children import handling
from tests.cli.test_commands import CLUSTER, MODEL, call


def solved(tmp_path: Path, cluster: str = CLUSTER, model: str = MODEL, *more: str) -> Path:
    (tmp_path / "c.toml").write_text(cluster)
    out = tmp_path / "plan.json"
    args = ("solve", model, "-c", tmp_path / "c.toml", "-o", out, "--input", "1x3x20x24", *more)
    result = call(*args)
    assert result.exit_code == 0, result.stderr
    return out


@pytest.mark.parametrize("name", ["[/x]", "pi[red]", r"$\\foo$", ":smile:"])
def test_device_names_are_no_markup(tmp_path: Path, name: str) -> None:
    plan = solved(tmp_path, CLUSTER.replace('"a"', f'"{name}"'), MODEL, "--planner", "strip-equal")
    png = tmp_path / "plan.png"
    result = call("show", plan, "--png", png, "--svg", tmp_path / "plan.svg")
    assert result.exit_code == 0, result.exception
    assert name.replace("\\\\", "\\") in result.stdout
    assert png.exists()


def test_a_module_that_prints_does_not_spoil_the_json(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(CLUSTER)
    result = call(
        "solve", "tests.models:noisy", "-c", tmp_path / "c.toml", "-o", tmp_path / "p.json",
        "--input", "1x3x9x9", "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["planner"] == "nptp"
    assert "hello" in result.stderr


def test_a_callable_that_exits_is_an_error_message() -> None:
    result = call("inspect", "tests.models:quitting")
    assert result.exit_code == 2
    assert "SystemExit" in result.stderr


def test_run_rejects_a_wrong_plan_before_it_starts_a_process(tmp_path: Path) -> None:
    plan = solved(tmp_path, CLUSTER, MODEL, "--planner", "strip-equal")
    data = json.loads(plan.read_text())
    del data["segments"][1]["transfers"][0]
    data["hash"] = plan_hash({k: v for k, v in data.items() if k != "hash"})
    plan.write_text(json.dumps(data))
    result = call("run", plan, "--repeats", "1")
    assert result.exit_code == 1
    assert "transfer missing" in result.stderr


def test_a_time_limit_without_a_partition_is_exit_code_4(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(CLUSTER)
    out = tmp_path / "plan.json"
    result = call(
        "solve", MODEL, "-c", tmp_path / "c.toml", "-o", out, "--input", "1x3x20x24",
        "--planner", "layerwise", "--formulation", "strip", "--time-limit", "1e-9",
    )  # fmt: skip
    assert result.exit_code == 4
    assert "raise --time-limit" in result.stderr
    assert not out.exists()


def test_nptp_returns_a_plan_under_any_limit(tmp_path: Path) -> None:
    plan = solved(tmp_path, CLUSTER, MODEL, "--time-limit", "1e-9")
    assert call("verify", plan).exit_code == 0


def test_a_memory_limit_that_nothing_fits_is_exit_code_3(tmp_path: Path) -> None:
    tight = CLUSTER.replace("gflops = 2", "gflops = 2\nmemory_mib = 0.001")
    tight = tight.replace("gflops = 1", "gflops = 1\nmemory_mib = 0.001")
    (tmp_path / "c.toml").write_text(tight)
    out = tmp_path / "plan.json"
    result = call("solve", MODEL, "-c", tmp_path / "c.toml", "-o", out, "--input", "1x3x20x24")
    assert result.exit_code == 3
    assert "device 'a' needs" in result.stderr or "device 'b' needs" in result.stderr
    assert not out.exists()


def test_ctrl_c_is_no_failed_verification(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: an interrupted command ended with status 1, which says that a plan was found wrong."""

    def interrupt(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("nptp_opt.plan.document.load_plan", interrupt)
    result = call("run", "plan.json")
    assert result.exit_code == 130
    assert result.stderr == "nptp-opt: interrupted\n"


@pytest.mark.parametrize("error", [SystemError("returned NULL"), InputError("not usable")])
def test_ctrl_c_that_has_become_another_exception_is_no_internal_error(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Bug: `verify` once ended with status 7 by a signal: code of C turns KeyboardInterrupt into
    exceptions of its own, and `except Exception` around an engine takes those for its refusal."""

    def engine(path: Path) -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:
            raise error from None

    monkeypatch.setattr("nptp_opt.plan.document.read_plan", engine)
    with handling([signal.SIGINT], interrupt):
        result = call("verify", "plan.json", "--json")
    assert result.exit_code == 130
    assert result.stderr == "nptp-opt: interrupted\n"
    assert json.loads(result.stdout)["error"] == "Interrupted"
    monkeypatch.setattr("nptp_opt.plan.document.read_plan", _raise(error))
    assert call("verify", "plan.json").exit_code in (2, 7)


def _raise(error: BaseException) -> Callable[[Path], None]:
    def fail(path: Path) -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (KeyError("m.0"), "KeyError: 'm.0'"),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
        (RuntimeError("one line\nand another"), "RuntimeError: one line"),
        (AssertionError(), "AssertionError"),
        (OSError(5, "no such thing"), "OSError: [Errno 5] no such thing"),
    ],
)
def test_an_exception_that_nobody_expected_is_exit_code_7(
    monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    """Bug: it ended with a traceback and status 1, which says that a plan was found wrong."""
    monkeypatch.setattr("nptp_opt.plan.document.load_plan", _raise(error))
    line = f"internal error ({words}); please report it with the command and `nptp-opt versions`"
    plain, told = call("show", "plan.json"), call("-v", "show", "plan.json")
    assert (plain.exit_code, told.exit_code) == (7, 7)
    assert plain.stderr == f"nptp-opt: {line}\n" and plain.stdout == ""
    assert told.stderr.startswith("Traceback") and told.stderr.endswith(f"nptp-opt: {line}\n")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (VerificationError("wrong"), 1),
        (InputError("bad"), 2),
        (click.UsageError("not like this"), 2),
        (ExecutionError("died"), 6),
        (click.Abort(), 130),
        (SystemExit(3), 3),
    ],
)
def test_exit_codes_that_are_meant_are_kept(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    monkeypatch.setattr("nptp_opt.plan.document.load_plan", _raise(error))
    found = call("show", "plan.json")
    assert found.exit_code == code
    assert "internal error" not in found.stderr


def test_the_readme_lists_every_exit_code() -> None:
    known = {INTERNAL, 0, 130, *(kind.exit_code for kind in every_kind(NptpError))}
    text = (Path(__file__).parents[2] / "README.md").read_text()
    listed = text.split("Exit codes:")[1].split(".\n")[0]
    assert {int(word) for word in listed.split() if word.isdigit()} == known


def every_kind(kind: type[NptpError]) -> Iterator[type[NptpError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from every_kind(below)


def test_a_model_without_a_layer_is_inspected_and_planned(tmp_path: Path) -> None:
    """Bug: IndexError for the table's first row; `solve` refused it."""
    assert call("inspect", "tests.models:handing_on", "--input", "1x3x20x24").exit_code == 0
    plan = solved(tmp_path, CLUSTER, "tests.models:handing_on")
    assert call("verify", plan).exit_code == 0


def test_a_piped_list_of_instances_cuts_no_name() -> None:
    """At 200 columns names lost their ends, and `solve-layer` did not know them."""
    found = call("instances", "list")
    names = {line.split()[0] for line in found.stdout.splitlines()[1:]}
    assert names == {entry.name for entry in library.library().instances}


def test_a_cluster_file_that_is_missing_is_not_called_invalid(tmp_path: Path) -> None:
    found = call("solve", "vgg11", "-c", tmp_path / "no.toml", "-o", tmp_path / "plan.json")
    assert found.exit_code == 2
    assert "cannot be read" in found.stderr and "TOML" not in found.stderr


def test_show_says_as_json_what_it_says_as_a_table(tmp_path: Path) -> None:
    """Bug: prediction, bound and gap were in the table alone."""
    plan = solved(tmp_path)
    found, file = json.loads(call("show", plan, "--json").stdout), json.loads(plan.read_text())
    totals = ("latency_s", "synchronous_s", "bound_s", "gap")
    assert {name: found[name] for name in totals} == {name: file[name] for name in totals}


def test_a_report_of_a_file_that_is_no_database_gives_no_advice_on_room(tmp_path: Path) -> None:
    """Bug: it said that what is stored is kept, and to make room or the file writable."""
    path = tmp_path / "notes.txt"
    path.write_text("no database at all " * 40)
    found = call("report", path)
    assert found.exit_code == 2
    assert "notes.txt: is no results file of `compare`" in found.stderr
    assert "kept" not in found.stderr and "Make room" not in found.stderr


def test_energy_without_watts_ends_before_the_import(tmp_path: Path) -> None:
    """Bug: the missing watts were named only after a model had been imported."""
    (tmp_path / "c.toml").write_text(CLUSTER)
    found = call(
        "solve", MODEL, "-c", tmp_path / "c.toml", "-o", tmp_path / "p.json",
        "--objective", "energy",
    )  # fmt: skip
    assert found.exit_code == 2
    assert "no watts for 'a'" in found.stderr and "importing" not in found.stderr


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("squeezenet1_1", "refuses an input of 1x3x8x8 in 'features.5'"),
        ("tests.models:Deciding", "control flow and sizes that depend on data are not supported"),
    ],
)
def test_a_model_that_cannot_be_exported_is_two_lines(model: str, words: str) -> None:
    """Bug: pages of torch's logs, tracebacks and graphs came first; data were called the input."""
    command = [sys.executable, "-m", "nptp_opt.cli", "inspect", model, "--input", "1x3x8x8"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = found.stderr.splitlines()
    assert found.returncode == 2 and found.stdout == ""
    assert lines[0].startswith("importing") and words in lines[-1]
    assert lines[1:-1] == (["deciding"] if "Deciding" in model else [])


def test_the_help_of_solve_layer_speaks_of_no_plan() -> None:
    """Bug: its time limit left out "a plan's bound"; a layer has no plan."""
    assert "plan" not in call("solve-layer", "--help").stdout
    assert "a plan's bound is extra" in call("solve", "--help").stdout
