"""What ``--json`` prints is what its schema says, for every command; so are errors."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import click
import numpy as np
import pytest
from pydantic import ValidationError

from nptp_opt.api import solve
from nptp_opt.cluster import cluster_from_json
from nptp_opt.commands.following import Pace
from nptp_opt.commands.json_output import DOCUMENTS, OUTPUTS, output_of, schema_text
from nptp_opt.commands.serve import summary
from nptp_opt.deployment.adaptation import Counts
from nptp_opt.network.load import load_model
from nptp_opt.plan.document import write_plan
from tests.cli.test_commands import CLUSTER, INSTANCE, MODEL, call
from tools.docs.commands import commands

if TYPE_CHECKING:
    from nptp_opt.deployment.service import Service

SIZE = (1, 3, 20, 24)
GIVEN = f"{MODEL} -c cluster.toml --input 1x3x20x24"
ALL = [words for words, command in commands() if any("--json" in p.opts for p in command.params)]

CALLS = {
    "check": "check instance.json result.json",
    "compare": "compare -o r.sqlite --instance instance.json --formulation strip --workers 1",
    "emulate": "emulate --clean",
    "executors": "executors",
    "explain": "explain plan.json --no-what-if",
    "formulations": "formulations",
    "front": f"solve {GIVEN} -o f.json --pareto latency,bytes --points 2 --time-limit 1",
    "init": "init -o made.toml --mbit-per-s 100 --device a,gflops=2 --device b,gflops=1 --force",
    "inspect": f"inspect {MODEL} --input 1x3x20x24",
    "instances export": "instances export --name vgg13-n2* -o folder",
    "instances generate": "instances generate -o library.json",
    "instances list": "instances list",
    "planners": "planners",
    "report": "report known.sqlite",
    "secret": "secret my.secret",
    "show": "show plan.json",
    "solve": f"solve {GIVEN} -o s.json --planner strip-equal --trust-import",
    "solve-layer": "solve-layer instance.json",
    "solvers": "solvers",
    "sweep": f"sweep {GIVEN} --over rate=10:100:2 --planner single --planner strip-equal",
    "verify": "verify plan.json",
    "versions": "versions",
}
"""What is typed for every object; ``run`` and ``infer`` are below, ``serve`` beside its service."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the calls read; none reads what another one writes: they are made in any order."""
    made = tmp_path_factory.mktemp("json")
    (made / "cluster.toml").write_text(CLUSTER)
    (made / "instance.json").write_text(json.dumps(INSTANCE))
    tiles = [{"device": "a", "y0": 0, "y1": 6, "x0": 0, "x1": 6}]
    (made / "result.json").write_text(json.dumps({"tiles": tiles}))
    devices = [{"name": name, "gflops": 1.0, "up_mbit_per_s": 100.0, "down_mbit_per_s": 100.0}
               for name in "ab"]  # fmt: skip
    cluster = cluster_from_json({"network": {"kind": "switched"}, "device": devices})
    plan = solve(load_model(MODEL, SIZE), cluster, planner="strip-equal", bound=False)
    write_plan(plan, made / "plan.json")
    np.save(made / "x.npy", np.zeros(SIZE, dtype=np.float32))
    done = call("compare", "-o", made / "known.sqlite", "--instance", made / "instance.json",
                "--formulation", "strip", "--workers", 1)  # fmt: skip
    assert done.exit_code == 0, done.stderr
    return made


def printed(typed: str, status: int = 0) -> dict[str, Any]:
    """The one object on stdout."""
    result = call(*typed.split(), "--json")
    assert result.exit_code == status, result.stderr
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    return found


def test_every_command_with_json_has_a_schema_and_is_called_here() -> None:
    assert set(ALL) == (set(OUTPUTS) - {"front", "error"}) | set(DOCUMENTS)
    assert set(CALLS) == set(OUTPUTS) - {"run", "infer", "serve", "error"}


@pytest.mark.parametrize("name", CALLS)
def test_what_a_command_prints_is_what_its_schema_says(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: tiles were text like "30x22", and nothing said which keys there are."""
    monkeypatch.chdir(folder)
    if name == "instances generate":  # its 15 s are no part of what it prints
        monkeypatch.setattr("nptp_opt.instances.generate.generate", lambda: {"instances": []})
        monkeypatch.setattr("nptp_opt.instances.generate.to_text", lambda _: "")
    found = printed(CALLS[name])
    assert found["schema"] == OUTPUTS[name].schema_name()
    output_of(found)


@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize(
    ("name", "typed"),
    [
        ("run", "run plan.json --repeats 1 --warmup 0 --throttle pad"),
        ("infer", "infer plan.json x.npy --top 2 -o y.npz --allow-other-weights"),
    ],
)
def test_runs_and_answers_are_as_their_schemas_say(
    name: str, typed: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    found = printed(typed)
    assert found["schema"] == OUTPUTS[name].schema_name()
    output_of(found)


@pytest.mark.parametrize("throttle", ["pad", "none"])
def test_the_sum_of_a_service_is_as_its_schema_says(throttle: str) -> None:
    """As ``serve`` prints it when it ends, of a service that has done nothing."""
    request = SimpleNamespace(as_run=lambda: SimpleNamespace(chosen_throttle=throttle))
    idle = cast("Service", SimpleNamespace(counts=Counts(), request=request))
    last = {"schema": OUTPUTS["serve"].schema_name(), **summary(idle, Pace(), 1.5)}
    assert ("void" in last) == (throttle == "pad")
    output_of(last)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents_name_their_own_schema(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    typed = {
        "instances show": "instances show vgg13-n2-unequal-shared-1000",
        "profile": f"profile {MODEL} --input 1x3x20x24 -o p.json --repeats 1 --executor torch",
    }[name]
    found = printed(typed)
    assert found["schema"].startswith("nptp-opt/") and found["schema"] not in {
        kind.schema_name() for kind in OUTPUTS.values()
    }


def test_tiles_are_numbers(folder: Path) -> None:
    segments = printed(f"show {folder / 'plan.json'}")["segments"]
    assert segments[0]["map"] == [1, 8, 20, 24]
    assert {"device": "a", "y0": 0, "y1": 10, "x0": 0, "x1": 24} in segments[0]["tiles"]


def test_a_schema_allows_no_text_for_a_number_and_no_unknown_key() -> None:
    good = {"schema": "nptp-opt/check/1", "ok": True, "makespan_s": 1.5, "faults": []}
    output_of(good)
    for bad in ({"makespan_s": "1.5"}, {"more": 1}, {"ok": 1}, {"schema": "nptp-opt/solve/1"}):
        with pytest.raises(ValidationError):
            output_of(good | bad)


@pytest.mark.parametrize(
    ("typed", "kind", "status"),
    [
        ("check no.json no.json", "InputError", 2),
        ("solve", "MissingParameter", 2),
        ("solvee", "NoSuchCommand", 2),
        ("versions --jsn", "NoSuchOption", 2),
        ("--bogus versions", "NoSuchOption", 2),
        ("run plan.json --repeats 0", "BadParameter", 2),
    ],
)
def test_errors_are_objects_too(typed: str, kind: str, status: int) -> None:
    """Bug: a program that reads JSON got nothing on stdout when the command failed."""
    found = printed(typed, status)
    output_of(found)
    assert (found["error"], found["exit_code"]) == (kind, status)
    assert found["message"] in call(*typed.split()).stderr
    assert call(*typed.split()).stdout == ""


def test_internal_errors_and_interrupts_are_objects_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: a prompt that is given up ended with 1, which says that a plan was found wrong."""

    def fails_by(error: type[BaseException]) -> None:
        def fail() -> None:
            raise error

        monkeypatch.setattr("nptp_opt.plot.tables.version_rows", fail)

    fails_by(ZeroDivisionError)
    assert printed("versions", 7)["error"] == "InternalError"
    for error in (KeyboardInterrupt, click.Abort):
        fails_by(error)
        assert printed("versions", 130)["error"] == "Interrupted"


def test_a_bad_result_is_printed_and_no_second_object(folder: Path, tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    tiles = [{"device": "a", "y0": 0, "y1": 5, "x0": 0, "x1": 6}]
    result.write_text(json.dumps({"tiles": tiles}))
    found = printed(f"check {folder / 'instance.json'} {result}", 1)
    assert found["schema"] == "nptp-opt/check/1" and not found["ok"]


def test_the_shipped_schema_is_that_of_the_models() -> None:
    """After a change: ``python -m nptp_opt.commands.json_output > nptp_opt/commands/...``."""
    shipped = resources.files("nptp_opt.commands.json_output") / "json_output.schema.json"
    assert shipped.read_text() == schema_text()
