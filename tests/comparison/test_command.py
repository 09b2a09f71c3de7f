"""The commands compare and report: what a spec stands for, what they print, bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from nptp_opt.cli import main
from nptp_opt.comparison.spec import runs_of, spec_from_dict
from nptp_opt.comparison.store import Store
from tests.comparison.runs import INSTANCE, run

LAYER = "resnet50-conv1x1s2-256to512-at28-n7-unequal-switched-300"
NETWORK = "vgg16-n4-equal-switched-50"


def call(*args: object) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


def labels(**fields: Any) -> set[str]:
    return {f"{run.name} {run.label}" for run in runs_of(spec_from_dict(fields))}


def test_every_list_is_crossed_with_every_other() -> None:
    spec = spec_from_dict(
        {
            "instances": [LAYER, LAYER],
            "formulations": ["column-dp", "strip"],
            "seeds": [0, 1, 2],
            "time_limits_s": [1.0, 5.0],
        }
    )
    assert len(runs_of(spec)) == 2 * 3 * 2


def test_layers_meet_formulations_and_networks_planners() -> None:
    found = labels(
        instances=[LAYER, NETWORK], formulations=["column-dp"], planners=["single", "nptp"]
    )
    assert found == {f"{LAYER} column-dp", f"{NETWORK} single", f"{NETWORK} nptp"}


@pytest.mark.parametrize(
    ("solvers", "found"),
    [
        (["default"], {"strip/highs", "cp-sat/cp-sat", "column-dp"}),
        (["cbc"], {"strip/cbc", "column-dp"}),
        (["all"], {"strip/highs", "strip/scip", "strip/cbc", "cp-sat/cp-sat", "column-dp"}),
    ],
)
def test_solvers_go_where_they_fit(solvers: list[str], found: set[str]) -> None:
    got = labels(instances=[LAYER], formulations=["strip", "cp-sat", "column-dp"], solvers=solvers)
    assert got == {f"{LAYER} {label}" for label in found}


def test_patterns_and_tags_narrow_each_other() -> None:
    both = labels(instances=["vgg16-*"], tags=["n4", "layer"], formulations=["column-dp"])
    assert both and all(" column-dp" in label and "-n4-" in label for label in both)
    assert both < labels(tags=["n4", "layer"], formulations=["column-dp"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("instances = [", "not valid TOML"),
        ("", "no instances"),
        ('instances = ["x"]', "nothing to compare"),
        (f'instances = ["{LAYER}"]\nformulations = ["stripp"]', "Did you mean 'strip'"),
        (f'instances = ["{LAYER}"]\nplanners = ["nptpp"]', "Did you mean 'nptp'"),
        (f'instances = ["{LAYER}"]\nplanners = ["nptp"]', "layers need `formulations`"),
        (f'instances = ["{LAYER}"]\nformulations = ["strip"]\nsolvers = ["x"]', "solver 'x'"),
        ('instances = ["nosuch"]\nformulations = ["strip"]', "nosuch"),
        ('instances = ["no.json"]\nformulations = ["strip"]', "nptp-opt: no.json: cannot be read"),
        ('instances = ["vgg16-*"]\nformulations = ["strip"]\nseed = 1', "seed"),
        ('tags = ["n4"]\nformulations = ["strip"]\ntime_limits_s = [0]', "time_limits_s"),
        ('tags = ["n4"]\nformulations = ["strip"]\nplugins = ["no.such"]', "no.such"),
    ],
)
def test_bad_specs_are_one_line_and_leave_no_file(tmp_path: Path, text: str, words: str) -> None:
    spec, out = tmp_path / "spec.toml", tmp_path / "r.sqlite"
    spec.write_text(text)
    result = call("compare", spec, "-o", out)
    assert result.exit_code == 2
    assert words in result.stderr and "Traceback" not in result.stderr
    assert not out.exists()


def test_a_spec_and_options_exclude_each_other(tmp_path: Path) -> None:
    result = call("compare", tmp_path / "spec.toml", "-o", tmp_path / "r", "--seed", "1")
    assert result.exit_code == 2 and "not both" in result.stderr


def test_options_stand_for_a_spec(tmp_path: Path) -> None:
    path, out = tmp_path / "tiny.json", tmp_path / "r.sqlite"
    path.write_text(json.dumps(INSTANCE))
    words = ["compare", "-o", out, "--instance", path, "--formulation", "strip", "--json"]
    result = call(*words)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["finished"] == 1
    assert "1 of them done before" in call(*words).stderr


@pytest.fixture
def results(tmp_path: Path) -> Path:
    path = tmp_path / "r.sqlite"
    with Store(path) as store:
        for method, value in (("column-dp", 1.0), ("strip", 2.0)):
            for seed in range(2):
                which = run(method, seed=seed, plugins=())
                found = {"status": "optimal", "value_s": value, "bound_s": value, "peak_mib": 9.0}
                store.finish({"run": which, "harness": "finished", **found})
    return path


def test_report_prints_tables_and_writes_files(results: Path, tmp_path: Path) -> None:
    files = {kind: tmp_path / f"report.{kind}" for kind in ("html", "csv", "markdown")}
    options = [word for kind, path in files.items() for word in (f"--{kind}", path)]
    found = json.loads(call("report", results, *options, "--json").stdout)
    assert found["runs"] == 4 and found["tables"]["disagreements"] == []
    assert [row["contender"] for row in found["tables"]["summary"]] == ["column-dp", "strip"]
    assert all(path.stat().st_size > 100 for path in files.values())
    assert "No contradictions" in call("report", results).stdout


def test_report_compares_two_contenders(results: Path) -> None:
    pair = ["--baseline", "column-dp", "--against", "strip"]
    found = json.loads(call("report", results, *pair, "--json").stdout)["paired"]
    assert found["value"]["ratio"] == pytest.approx(2.0) and found["cases"] == 2
    assert "strip / column-dp" in call("report", results, *pair).stdout


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--baseline", "strip"], "belong together"),
        (["--baseline", "strip", "--against", "grid"], "unknown contender 'grid'"),
        (["--html", "/no/such/folder/r.html"], "does not exist"),
    ],
)
def test_bad_options_of_report(results: Path, options: list[str], words: str) -> None:
    result = call("report", results, *options)
    assert result.exit_code == 2 and words in result.stderr


def test_report_of_no_file(tmp_path: Path) -> None:
    result = call("report", tmp_path / "none.sqlite")
    assert result.exit_code == 2 and "no such results file" in result.stderr
    assert not (tmp_path / "none.sqlite").exists()
