"""What a person sees: 80 columns, how much is told, examples, completion."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from nptp_opt.api import solve
from nptp_opt.cli import main
from nptp_opt.cluster import cluster_from_json
from nptp_opt.commands.group import Command
from nptp_opt.commands.speech import say
from nptp_opt.network.load import load_model
from nptp_opt.network.zoo import names_at_hand, torchvision_models
from nptp_opt.plan.document import write_plan
from nptp_opt.plot.units import beside, listed
from tests.cli.test_commands import CLUSTER, INSTANCE, MODEL, call
from tools.docs.commands import commands

TERMINAL = {"TTY_COMPATIBLE": "1", "COLUMNS": "80", "TERM": "dumb", "NO_COLOR": "1"}


def shown(*args: object) -> str:
    """What the command prints on a terminal of 80 columns."""
    result = CliRunner().invoke(main, [str(arg) for arg in args], env=TERMINAL)
    assert result.exit_code == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight devices with long names, so that nothing fits by chance."""
    devices = [
        {
            "name": f"workshop-board-{k:02}",
            "gflops": 1.0,
            "up_mbit_per_s": 1e4,
            "down_mbit_per_s": 1e4,
        }
        for k in range(8)
    ]
    cluster = cluster_from_json({"network": {"kind": "switched"}, "device": devices})
    path = tmp_path_factory.mktemp("plans") / "plan.json"
    made = solve(load_model(MODEL, (1, 3, 40, 48)), cluster, planner="strip-equal", bound=False)
    write_plan(made, path)
    return path


@pytest.mark.parametrize(
    "args",
    [
        "--help", "instances list", "instances list --name vgg*", "formulations", "planners",
        "solvers", "executors", "versions", "solve-layer instance.json", "show plan.json",
        f"inspect {MODEL} --input 1x3x40x48", "explain plan.json --no-what-if", "instances --help",
        *(f"{words} --help" for words, _ in commands() if words != "completion"),
    ],
)  # fmt: skip
def test_everything_fits_80_columns(
    args: str, plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: headers turned into vertical letters, and names were broken over six lines."""
    monkeypatch.chdir(tmp_path)
    Path("instance.json").write_text(json.dumps(INSTANCE))
    Path("plan.json").write_bytes(plan.read_bytes())
    lines = shown(*args.split()).splitlines()
    assert lines
    assert [line for line in lines if len(line) > 80] == []


def test_show_summarises_many_tiles_and_wide_lists_them(plan: Path) -> None:
    text, wide = shown("show", plan), shown("--wide", "show", plan)
    assert re.search(r"^ +0 .* 8 devices,", text, re.MULTILINE)
    assert "workshop-board-07" not in text.partition("latency")[0]
    assert all(f"workshop-board-{k:02} " in wide for k in range(8))
    assert shown("show", plan, "--wide") == wide


def test_quiet_and_verbose_stand_before_the_command_or_behind_it(tmp_path: Path) -> None:
    """Bug: `solve -v` was no such option."""
    cluster = tmp_path / "cluster.toml"
    cluster.write_text(CLUSTER)
    planning = ["solve", MODEL, "-c", cluster, "-o", tmp_path / "p.json", "--input", "1x3x20x24"]
    planning += ["--planner", "strip-equal", "--no-bound", "--trust-import"]
    assert "planning" in call(*planning).stderr
    assert call("-q", *planning).stderr == call(*planning, "-q").stderr == ""
    assert "unknown instance 'no'" in call("check", "no", "no", "-q").stderr


@pytest.mark.parametrize("where", [("-v", "versions"), ("versions", "-v")], ids=str)
def test_verbose_shows_the_traceback_of_an_internal_error(
    where: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nptp_opt.plot.tables.version_rows", lambda: 1 // 0)
    result = call(*where)
    assert result.exit_code == 7 and "Traceback" in result.stderr
    assert "Traceback" not in call("versions").stderr


@pytest.mark.parametrize(("words", "command"), list(commands()), ids=str)
def test_examples_are_commands_that_are_understood(words: str, command: click.Command) -> None:
    """Every option of an example exists, with a value that it takes."""
    assert isinstance(command, Command) and command.examples
    for typed in command.examples:
        line = typed[typed.index("nptp-opt ") :].replace("\\\n", " ")
        args = shlex.split(line.split(">")[0].replace(')"', ""))[1:]
        assert " ".join(args).startswith(words)
        with click.Context(main) as parent:
            command.make_context(words, args[len(words.split()) :], parent)
        assert typed in call(*words.split(), "--help").stdout


def test_many_options_stand_under_headings() -> None:
    """Bug: the 26 options of `solve` were one list."""
    for words, command in commands():
        assert isinstance(command, Command)
        own = [param for param in command.params if isinstance(param, click.Option)]
        largest = max(map(len, command.sections(click.Context(command)).values()))
        assert len(own) <= 10 or largest <= 12, words
        assert sum(map(len, command.sections(click.Context(command)).values())) == len(
            [p for p in command.get_params(click.Context(command)) if isinstance(p, click.Option)]
        )


def _completed(typed: str) -> Result:
    words = {"_NPTP_OPT_COMPLETE": "bash_complete", "COMP_WORDS": typed}
    words["COMP_CWORD"] = str(len(typed.split()) - (not typed.endswith(" ")))
    return CliRunner().invoke(main, [], prog_name="nptp-opt", env=words)


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("nptp-opt sol", "solve-layer"),
        ("nptp-opt solve --transfer-d", "--transfer-dtype"),
        ("nptp-opt solve --planner coe", "coedge-style"),
        ("nptp-opt solve --formulation guil", "guillotine-dp"),
        ("nptp-opt solve --solver hi", "highs"),
        ("nptp-opt run --executor on", "onnxruntime"),
        ("nptp-opt inspect mobilenet_v3_", "mobilenet_v3_small"),
        ("nptp-opt init --model resnet", "resnet50"),
        ("nptp-opt compare --instance vgg13-n2-un", "vgg13-n2-unequal-shared-1000"),
    ],
)
def test_the_shell_completes_commands_options_and_names(typed: str, name: str) -> None:
    assert f"plain,{name}" in _completed(typed).stdout.splitlines()


def test_models_that_are_completed_are_those_that_are_known() -> None:
    """They are read from torchvision's sources, without its import."""
    assert names_at_hand() == torchvision_models().list_models()


def test_files_are_completed_where_no_model_begins_so() -> None:
    assert "file,net" in _completed("nptp-opt explain net").stdout.splitlines()
    assert "file" not in _completed("nptp-opt explain vgg").stdout


def test_bash_completes_by_the_printed_script(tmp_path: Path) -> None:
    """The script itself, in a bash, as the Tab key calls it."""
    program = tmp_path / "nptp-opt"
    entry = "from nptp_opt.cli import main; main(prog_name='nptp-opt')"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{entry}" "$@"\n')
    program.chmod(0o755)
    lines = [
        "compopt() { :; }  # there is no Tab key in a script",
        "COMP_WORDS=(nptp-opt solve vgg1); COMP_CWORD=2",
        "_nptp_opt_completion nptp-opt; echo ${COMPREPLY[*]}",
    ]
    script = "\n".join([call("completion", "bash").stdout, *lines])
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout.splitlines()[-1].split() == [
        "vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn"
    ]  # fmt: skip


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed_for_the_shell(shell: str) -> None:
    script = call("completion", shell)
    assert script.exit_code == 0 and f"_NPTP_OPT_COMPLETE={shell}_complete" in script.stdout
    if shell == "bash":  # the one that every machine has
        checked = subprocess.run(["bash", "-n"], input=script.stdout, text=True, check=False)
        assert checked.returncode == 0


def test_errors_of_a_cluster_file_name_device_and_value(tmp_path: Path) -> None:
    """Bug: a range error said neither which device nor what was given."""
    cluster = tmp_path / "cluster.toml"
    cluster.write_text(CLUSTER.replace("gflops = 1\n", "gflops = -1\n"))
    result = call("solve", MODEL, "-c", cluster, "-o", tmp_path / "p.json")
    assert "device.1 ('b').gflops" in result.stderr and "got -1" in result.stderr
    cluster.write_text(CLUSTER.replace("latency_ms", 'source = "c"\nlatency_ms'))
    result = call("solve", MODEL, "-c", cluster, "-o", tmp_path / "p.json")
    assert "network.source: unknown device 'c'" in result.stderr and "Known: a, b" in result.stderr
    assert result.exit_code == 2


def test_solve_says_which_devices_are_left_out(tmp_path: Path) -> None:
    """Bug: silence where a board stays unused."""
    slow = CLUSTER + "[[device]]\nname = 'c'\ngflops = 1e-3\nup_mbit_per_s = 1\ndown_mbit_per_s = 1"
    cluster = tmp_path / "cluster.toml"
    cluster.write_text(slow.replace("100\n", "10000\n").replace("gflops = 1\n", "gflops = 2\n"))
    planning = ["solve", MODEL, "-c", cluster, "-o", tmp_path / "p.json", "--input", "1x3x40x48"]
    result = call(*planning, "--planner", "strip-best", "--no-bound", "--trust-import")
    assert "c computes nothing" in result.stderr


def test_a_long_list_of_devices_is_cut_short_on_a_terminal() -> None:
    """Bug: ``solve`` on 1,000 devices named 744 that compute nothing, twice."""
    names = [f"d{i}" for i in range(20)]
    assert listed(names[:16]) == beside("left_out", names[:16]) == ", ".join(names[:16])
    assert listed(names) == beside("left_out", names) == ", ".join(names[:8]) + " and 12 more"


def test_what_is_said_on_a_terminal_breaks_between_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: a note of 104 characters was cut by the terminal within a word."""
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    told: list[str] = []
    monkeypatch.setattr(click, "echo", lambda text, err: told.append(text))
    note = "board-c, board-d compute nothing: see /" + "x" * 50
    say(note)
    assert told == ["board-c, board-d compute nothing: see\n/" + "x" * 50]
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    say(note)
    assert told[1] == note
