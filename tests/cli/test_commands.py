"""Every command: its help, its results on stdout, its exit codes, and its errors."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from nptp_opt.cli import main
from nptp_opt.commands.json_output import DOCUMENTS, output_of
from nptp_opt.layer.result import relative_gap

MODEL = "tests.models:small_cnn"
CLUSTER = """
name = "two"
[network]
kind = "switched"
latency_ms = 0.1
[[device]]
name = "a"
gflops = 2
up_mbit_per_s = 100
down_mbit_per_s = 100
[[device]]
name = "b"
gflops = 1
up_mbit_per_s = 100
down_mbit_per_s = 100
"""
INSTANCE: dict[str, Any] = {
    "schema": "nptp-opt/instance/1",
    "kind": "layer",
    "name": "tiny",
    "layer": {
        "op": "conv2d",
        "in_channels": 8,
        "out_channels": 8,
        "in_height": 6,
        "in_width": 6,
        "kernel": [3, 3],
        "padding": [1, 1, 1, 1],
    },
    "cluster": {
        "network": {"kind": "switched"},
        "device": [
            {"name": "a", "gflops": 0.001, "up_mbit_per_s": 100, "down_mbit_per_s": 100},
            {"name": "b", "gflops": 0.001, "up_mbit_per_s": 100, "down_mbit_per_s": 100},
        ],
    },
}


def call(*args: object) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


def called_json(*args: object) -> dict[str, Any]:
    """The one JSON object that the command prints, as its schema has it; it must succeed."""
    result = call(*args, "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    if " ".join(map(str, args[:2])) not in DOCUMENTS and args[0] not in DOCUMENTS:
        assert output_of(found).schema_name() == found.pop("schema")
    return found


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    path = tmp_path / "cluster.toml"
    path.write_text(CLUSTER)
    return path


@pytest.fixture
def instance(tmp_path: Path) -> Path:
    path = tmp_path / "instance.json"
    path.write_text(json.dumps(INSTANCE))
    return path


@pytest.fixture
def plan(tmp_path: Path, cluster: Path) -> Path:
    path = tmp_path / "plan.json"
    result = call("solve", MODEL, "-c", cluster, "-o", path, "--input", "1x3x20x24")
    assert result.exit_code == 0, result.stderr
    return path


@pytest.mark.parametrize("command", [None, *main.commands])
def test_help_of_every_command(command: str | None) -> None:
    result = call(*([command] if command else []), "--help")
    assert result.exit_code == 0
    assert result.stdout.startswith("Usage:")


def test_solve_prints_what_the_design_promises(tmp_path: Path, cluster: Path) -> None:
    out = tmp_path / "plan.json"
    found = called_json("solve", MODEL, "-c", cluster, "-o", out, "--input", "1x3x20x24")
    assert found["plan"] == str(out)
    assert found["planner"] == "nptp"
    assert found["status"] in {"optimal", "feasible"}
    assert 0 < found["bound_s"] <= found["latency_s"]
    assert found["gap"] == relative_gap(found["latency_s"], found["bound_s"])
    assert found["solve_s"] > 0
    assert json.loads(out.read_text())["schema"] == "nptp-opt/plan/2"


@pytest.mark.parametrize(("planner", "alone"), [("single", True), ("strip-equal", False)])
def test_solve_tells_whether_distributing_is_worth_it(
    planner: str, alone: bool, tmp_path: Path, cluster: Path
) -> None:
    """A key of its JSON. Bug: who asked for one device was told that the best plan has one."""
    options = ("-c", cluster, "-o", tmp_path / "p.json", "--planner", planner, "--no-bound")
    result = call("solve", MODEL, "--input", "1x3x20x24", *options, "--json")
    assert json.loads(result.stdout)["worth_distributing"] is not alone
    assert "not worth distributing" not in result.stderr


def test_solve_says_where_one_device_alone_is_as_fast(tmp_path: Path, cluster: Path) -> None:
    """One line on stderr, where links are too slow for anything else."""
    cluster.write_text(CLUSTER.replace("latency_ms = 0.1", "latency_ms = 10000"))
    options = ("-c", cluster, "-o", tmp_path / "p.json", "--no-bound", "--trust-import")
    result = call("solve", MODEL, "--input", "1x3x20x24", *options)
    lines = [line for line in result.stderr.splitlines() if "not worth distributing" in line]
    assert len(lines) == 1 and "computes on 'a' alone" in lines[0]


def test_inspect_lists_layers_cuts_and_what_is_gathered() -> None:
    found = called_json("inspect", MODEL, "--input", "1x3x20x24")
    assert [row["op"] for row in found["layers"]][:3] == ["conv2d", "conv2d", "max_pool2d"]
    assert found["layers"][0]["shape"] == [1, 8, 20, 24]
    assert found["layers"][0]["flop"] == 20 * 24 * 8 * (2 * 9 * 3 + 1)
    assert len(found["cuts"]) == 6
    assert [row["op"] for row in found["layers"]][-2:] == ["linear", "relayout"]
    assert found["layers"][-2]["window"] == "whole, whole"
    assert any("whole tensor" in entry["why"] for entry in found["gathered"])
    text = call("inspect", MODEL, "--input", "1x3x20x24")
    assert text.exit_code == 0 and "single-tensor cuts after" in text.stdout


def test_what_runs_whole_is_told_by_inspect_and_solve(cluster: Path, tmp_path: Path) -> None:
    """Its share of the work is in the inspection, and a warning above 5 %."""
    model = "tests.runtime.models:attentive"
    found = called_json("inspect", model, "--input", "1x3x24x20")
    assert 0.05 < found["whole_flop_share"] < 1 and 0 < found["whole_bytes_share"] < 1
    assert any("divided again" in entry["why"] for entry in found["gathered"])
    shown = call("inspect", model, "--input", "1x3x24x20").stdout
    assert "run whole on one device" in shown
    options = ("-c", cluster, "-o", tmp_path / "p.json", "--planner", "strip-equal")
    result = call("solve", model, "--input", "1x3x24x20", *options)
    assert result.exit_code == 0 and "of the FLOP cannot be divided" in result.stderr
    plain = call("solve", MODEL, "--input", "1x3x20x24", *options)
    assert plain.exit_code == 0 and "cannot be divided" not in plain.stderr


def test_verify_and_show_a_plan(plan: Path, tmp_path: Path) -> None:
    found = called_json("verify", plan)
    assert found["ok"] and found["layers"] > 0 and found["tiles"] > 0
    assert found["max_abs_error"] < 1e-4
    assert found["bound"] == "not checked"
    assert called_json("verify", plan, "--bound")["bound"] == "proven"
    drawn = [tmp_path / f"plan.{kind}" for kind in ("png", "svg", "html")]
    result = call("show", plan, "--png", drawn[0], "--svg", drawn[1], "--html", drawn[2])
    assert result.exit_code == 0
    assert re.search(r"^latency +[\d.]+ us$", result.stdout, re.MULTILINE)
    assert drawn[0].read_bytes().startswith(b"\x89PNG")
    assert "<svg" in drawn[1].read_text()
    assert called_json("show", plan)["segments"]
    data = drawn[2].read_text().split('id="data">')[1].split("</script>")[0]
    (shown,) = json.loads(data)["plans"]
    assert shown["name"] == plan.name and shown["totals"] == pytest.approx(
        {k: v for k, v in called_json("show", plan).items() if k not in ("segments", "provenance")},
        abs=1e-9,
    )


def test_show_two_plans_and_a_run_on_one_page(plan: Path, tmp_path: Path) -> None:
    """Both by the names of their files, where these are equal too; only the page has them."""
    page, trace, twin = tmp_path / "page.html", tmp_path / "trace.json", tmp_path / "twin"
    assert call("run", plan, "--repeats", 1, "--warmup", 0, "--trace", trace).exit_code == 0
    twin.mkdir()
    other = twin / plan.name
    other.write_bytes(plan.read_bytes())
    assert call("show", plan, other, "--trace", trace, "--html", page).exit_code == 0
    first, second = json.loads(page.read_text().split('id="data">')[1].split("</script>")[0])[
        "plans"
    ]
    assert first["measured"] and first["measured_s"] > 0 and second["measured"] is None
    assert first["name"] == plan.name and second["name"] != plan.name
    for args in ((plan, other), (plan, "--trace", trace)):
        result = call("show", *args)
        assert result.exit_code == 2 and "add --html" in result.stderr
    page.unlink()
    result = call("show", plan, "--trace", plan, "--html", page)
    assert result.exit_code == 2 and "traceEvents" in result.stderr
    assert not page.exists()
    result = call("show", plan, other, "--html", other)
    assert result.exit_code == 2 and "is read by this command" in result.stderr


def test_verify_takes_an_executor_and_says_what_its_programs_were_off(plan: Path) -> None:
    found = called_json("verify", plan, "--executor", "onnxruntime")
    assert found["ok"] and found["executor"] == "onnxruntime"
    assert found["executor_programs"] > 0 and 0 <= found["executor_max_rel_error"] < 1e-5
    assert called_json("verify", plan)["executor"] in {"torch", "onnxruntime"}


@pytest.mark.parametrize("command", ["verify", "run", "worker"])
def test_an_executor_that_is_not_known_or_not_installed(
    plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("a secret that is long enough")
    secret.chmod(0o600)
    worker = ["--connect", "127.0.0.1:9", "--name", "a", "--secret-file", secret]
    args = [command, *(worker if command == "worker" else [plan])]
    result = call(*args, "--executor", "onnxruntim")
    assert result.exit_code == 2 and "Did you mean 'onnxruntime'" in result.stderr
    monkeypatch.setattr("nptp_opt.kernels.executors.onnxruntime.OnnxRuntime.available", False)
    result = call(*args, "--executor", "onnxruntime")
    assert result.exit_code == 6
    assert "pip install 'nptp-opt[onnxruntime]'" in result.stderr


def test_verify_rejects_a_plan_with_a_shifted_tile(plan: Path) -> None:
    data = json.loads(plan.read_text())
    data["segments"][0]["tiles"][0]["y0"] += 1
    plan.write_text(json.dumps(data))
    result = call("verify", plan, "--json")
    assert result.exit_code == 1
    assert not json.loads(result.stdout)["ok"]
    assert "do not cover the map exactly once" in result.stderr


def test_a_solved_layer_is_confirmed_by_check(tmp_path: Path, instance: Path) -> None:
    found = called_json("solve-layer", instance)
    keys = {"formulation", "solver", "status", "makespan_s", "bound_s", "gap", "build_s", "solve_s"}
    assert keys <= set(found)
    path = tmp_path / "result.json"
    path.write_text(json.dumps(found))
    assert called_json("check", instance, path) == {
        "ok": True,
        "makespan_s": found["makespan_s"],
        "faults": [],
    }


def test_two_equal_devices_halve_the_map(instance: Path) -> None:
    """18 pixels x 1152 FLOP at 1 MFLOP/s, and one row of 6 pixels x 32 bytes at 12.5e6 bytes/s."""
    found = called_json("solve-layer", instance, "--formulation", "strip", "--solver", "highs")
    assert found["status"] == "optimal"
    assert found["makespan_s"] == pytest.approx(18 * 1152 / 1e6 + 192 / 12.5e6)


def tile(device: str, y0: int, y1: int, x0: int = 0, x1: int = 6) -> dict[str, Any]:
    return {"device": device, "y0": y0, "y1": y1, "x0": x0, "x1": x1}


@pytest.mark.parametrize(
    ("result", "code", "words"),
    [
        ({"tiles": [tile("a", 0, 3), tile("b", 3, 5)]}, 1, "covered by no tile"),
        ({"tiles": [tile("a", 0, 4), tile("b", 3, 6)]}, 1, "covered twice"),
        ({"tiles": [tile("a", 0, 6)], "makespan_s": 1.0}, 1, "makespan_s is given as 1, it is"),
        ({"tiles": [tile("a", 0, 6)], "bound_s": 99.0}, 1, "bound_s is given as 99, above"),
        ({"tiles": [tile("a", 0, 6)], "any_bound_s": 99.0}, 1, "any_bound_s is given as 99"),
        ({"tiles": [tile("a", 0, 3), tile("c", 3, 6)]}, 2, "unknown device 'c'"),
        ({"tiles": [tile("a", 0, 3), tile("a", 3, 6)]}, 2, "'a' has two tiles"),
        ({"tiles": []}, 2, "tiles"),
        ({}, 2, "tiles"),
    ],
)
def test_check_rejects(
    tmp_path: Path, instance: Path, result: dict[str, Any], code: int, words: str
) -> None:
    path = tmp_path / "result.json"
    path.write_text(json.dumps(result))
    found = call("check", instance, path)
    assert found.exit_code == code
    assert words in found.stderr


@pytest.mark.parametrize("name", ["mps", "lp"])
def test_the_model_can_be_exported(tmp_path: Path, instance: Path, name: str) -> None:
    path = tmp_path / f"model.{name}"
    found = called_json("solve-layer", instance, "--formulation", "strip", f"--export-{name}", path)
    assert found["rows"] and found["columns"] and found["integers"]
    assert path.stat().st_size > 100


@pytest.mark.parametrize(
    "command", ["formulations", "planners", "solvers", "executors", "versions"]
)
def test_lists(command: str) -> None:
    assert called_json(command)[command]
    assert call(command).exit_code == 0


def test_every_formulation_says_what_it_proves_and_who_solves_it() -> None:
    rows = {row["name"]: row for row in called_json("formulations")["formulations"]}
    wanted = {"strip", "grid", "column", "dissection-bigm", "cp-sat", "guillotine-dp", "auto"}
    assert wanted <= set(rows)
    assert all(row["family"] and row["proves"] and row["summary"] for row in rows.values())
    solvers = {row["name"] for row in called_json("solvers")["solvers"]}
    assert {"cbc", "highs", "scip", "cp-sat"} <= solvers
    assert set().union(*(row["solvers"] for row in rows.values())) == solvers


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["vgg166"], "Did you mean 'vgg16'"),
        (["tests.models:Factoring"], "op linalg_qr is not supported"),
        (["no_such_file.onnx"], "no_such_file.onnx: there is no such file (looked in"),
        (["tests/models.py"], "name the module, not its file: tests.models:CALLABLE"),
        (["tests/models.py:small_cnn"], "not its file: tests.models:small_cnn"),
        (["pyproject.toml"], "of files only .onnx is read"),
        (["weights.pt"], "of files only .onnx is read"),
        ([MODEL, "--input", "3by4"], "--input must look like"),
        ([MODEL, "--input", "1x3x0x20"], "--input must look like"),
        (["vgg16", "--input", "1x3x16x16"], "vgg16"),
        ([MODEL, "--planner", "nptpp"], "Did you mean 'nptp'"),
        ([MODEL, "--formulation", "colunm"], "Did you mean 'column"),
        ([MODEL, "--solver", "gurobi"], "gurobi"),
        ([MODEL, "--time-limit", "0"], "time limit must be above 0"),
        ([MODEL, "--time-limit", "nan"], "must be a number"),
        ([MODEL, "--gap", "-1"], "gap must be in [0, 1)"),
        ([MODEL, "-o", "/no/such/folder/plan.json"], "does not exist"),
        ([MODEL, "-c", "nowhere.toml"], "nowhere.toml"),
    ],
)
def test_bad_input_to_solve(tmp_path: Path, cluster: Path, args: list[str], words: str) -> None:
    out = tmp_path / "out" / "plan.json"
    out.parent.mkdir()
    result = call("solve", "-c", cluster, "-o", out, "--input", "1x3x20x24", *args)
    assert result.exit_code == 2
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert not list(out.parent.iterdir())


def test_more_devices_than_pixels(tmp_path: Path, instance: Path) -> None:
    data = json.loads(instance.read_text())
    data["layer"] |= {"in_height": 1, "in_width": 1}
    instance.write_text(json.dumps(data))
    result = call("solve-layer", instance)
    assert result.exit_code == 2
    assert "2 devices for 1 output pixels" in result.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "line 1"),
        ("[]", "instance.json"),
        ('{"schema": "nptp-opt/instance/9"}', "schema"),
        ("\xff", "instance.json"),
    ],
)
def test_broken_instances(instance: Path, text: str, words: str) -> None:
    instance.write_bytes(text.encode("latin-1"))
    result = call("solve-layer", instance)
    assert result.exit_code == 2
    assert words in result.stderr


@pytest.mark.parametrize("formulation", ["strip", "column-dp", "auto", "cp-sat"])
def test_too_little_memory_is_infeasible_and_names_the_device(
    instance: Path, formulation: str
) -> None:
    data = json.loads(instance.read_text())
    for device in data["cluster"]["device"]:
        device["memory_mib"] = 0.0025
    instance.write_text(json.dumps(data))
    result = call("solve-layer", instance, "--formulation", formulation)
    assert result.exit_code == 3
    assert "'a'" in result.stderr or "'b'" in result.stderr


@pytest.mark.parametrize("solver", ["highs", "cbc", "scip"])
def test_a_limit_without_a_solution_is_exit_code_4(instance: Path, solver: str) -> None:
    data = json.loads(instance.read_text())
    data["layer"] |= {"in_height": 224, "in_width": 224}
    first = data["cluster"]["device"][0]
    data["cluster"]["device"] = [first | {"name": f"d{k}"} for k in range(6)]
    instance.write_text(json.dumps(data))
    result = call(
        "solve-layer", instance, "--formulation", "dissection-config", "--solver", solver,
        "--time-limit", "0.2", "--json",
    )  # fmt: skip
    assert result.exit_code in {0, 4}
    found = json.loads(result.stdout)
    assert found["status"] != "optimal"
    assert (found["tiles"] is None) == (result.exit_code == 4)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--points", "4"), "--points is for --pareto"),
        (("--planner", "single", "--objective", "bytes"), "--objective bytes is for the planner"),
        (("--planner", "single", "--solver", "highs"), "--solver is for the planners nptp and"),
        (("--planner", "column-dp", "--formulation", "cover"), "--formulation is for the planners"),
        (("--latency-limit-ms", "nan"), "must be a number"),
        (("--pareto", "predicted,bytes"), "unknown objective of --pareto 'predicted'"),
        (("--planner", "singel"), "Did you mean 'single'?"),
        (("--objective", "predicted"), "leave --objective out"),
        (("--overlap",), "--overlap is gone"),
    ],
)
def test_solve_refuses_options_that_would_have_no_effect(
    cluster: Path, tmp_path: Path, given: tuple[str, ...], said: str
) -> None:
    """All of these were ignored without a word, or ended in a traceback (predicted)."""
    args = ("solve", MODEL, "-c", cluster, "-o", tmp_path / "p.json", "--input", "1x3x20x24")
    result = call(*args, *given)
    assert result.exit_code == 2
    assert said in result.stderr
    assert not (tmp_path / "p.json").exists()


def test_solve_prints_the_bound_of_its_objective(cluster: Path, tmp_path: Path) -> None:
    args = ("solve", MODEL, "-c", cluster, "-o", tmp_path / "p.json", "--input", "1x3x20x24")
    found = called_json(*args, "--objective", "throughput")
    assert 0 < found["objective_bound"] <= found["period_s"]
    assert found["objective_gap"] == pytest.approx(1 - found["objective_bound"] / found["period_s"])
    found = called_json(*args, "--objective", "bytes")
    assert (found["bytes"], found["objective_gap"], found["status"]) == (0, 0.0, "optimal")
