"""How planners plan in a comparison: what a spec stands for, what is run, what may be compared."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from nptp_opt.cli import main
from nptp_opt.comparison import batch
from nptp_opt.comparison.agreement import disagreements
from nptp_opt.comparison.measures import usage
from nptp_opt.comparison.runs import Run, run_from_json
from nptp_opt.comparison.spec import runs_of, spec_from_dict
from nptp_opt.comparison.store import Store
from nptp_opt.errors import InputError
from tests.comparison.runs import execute_here, records, run
from tests.comparison.test_execute import NETWORK

LIBRARY = "vgg16-n4-equal-switched-50"


def labels(**fields: Any) -> list[str]:
    return [r.label for r in runs_of(spec_from_dict({"instances": [LIBRARY], **fields}))]


def test_keys_of_runs_without_options_are_those_of_older_results_files() -> None:
    """Recorded before there were options for planners: stored results must stay valid."""
    recorded = replace(run("strip", solver="highs"), plugins=("tests.compare.plugin",))
    assert recorded.key.startswith("69e3c1ec13804fd0d345df66e1423e41")
    assert Run(NETWORK, "nptp", time_limit_s=30.0).key.startswith("f838bb6c72fc1322f0f9d3577fea01")
    spec = {"instances": [LIBRARY], "planners": ["nptp"]}
    asked = {"objectives": ["latency"], "transfer_dtypes": ["float32"]}
    (plain,), (spelt,) = (runs_of(spec_from_dict(s)) for s in (spec, spec | asked))
    assert plain.key == spelt.key


def test_options_are_crossed_and_baselines_have_no_objective() -> None:
    found = labels(
        planners=["nptp", "single"],
        objectives=["latency", "bytes"],
        transfer_dtypes=["float32", "int8"],
    )
    ends = ["", " int8"]
    assert found == [
        *(f"nptp{end}" for end in ends),
        *(f"nptp bytes{end}" for end in ends),
        *(f"single{end}" for end in ends),
    ]


def _sparse(tmp_path: Path) -> Path:
    """The small network, its input of bytes, its maps a third full, on a slow medium."""
    model = NETWORK["model"] | {
        "pixels": {"dtype": "uint8", "scale": 255.0, "mean": [0.5], "std": [0.25]},
        "densities": {layer: {"mean": 0.3, "p90": 0.4} for layer in ("0", "2", "5")},
    }
    device = [{"name": name, "gflops": 0.05} for name in ("a", "b", "c")]
    cluster = {"network": {"kind": "shared", "mbit_per_s": 5}, "device": device}
    path = tmp_path / "sparse.json"
    path.write_text(json.dumps({**NETWORK, "model": model, "cluster": cluster}))
    return path


def test_planners_and_baselines_are_compared_with_encodings_and_dense(tmp_path: Path) -> None:
    """Both stand in one table; the same planner is faster with fewer bytes, no value undercuts a
    bound of its own family, and the plan files say how their inputs are normalised."""
    spec = {"planners": ["strip-equal", "nptp"], "encodings": ["given", "dense"]}
    runs = runs_of(spec_from_dict({"instances": [str(_sparse(tmp_path))], **spec}))
    names = ["strip-equal", "strip-equal dense", "nptp", "nptp dense"]
    assert [each.label for each in runs] == names
    rows = [execute_here(each) for each in runs]
    assert all(row.get("fault", row["message"]) is None for row in rows), rows
    value = {name: row["value_s"] for name, row in zip(names, rows, strict=True)}
    for planner in ("strip-equal", "nptp"):
        assert value[planner] < value[f"{planner} dense"]
    plans = [json.loads(row["plan"]) for row in rows]
    assert [("pixels" in plan["model"]) for plan in plans] == [True, False] * 2
    assert [("densities" in plan["network"]) for plan in plans] == [True, False] * 2
    named = zip(names, rows, strict=True)
    found = records(*({**row, "kind": "network", "method": name} for name, row in named))
    assert {each.family for each in found} == {"plan", "plan dense"}
    assert not disagreements(found)


def test_dense_is_what_an_instance_without_pixels_is_anyway() -> None:
    assert labels(planners=["single"], encodings=["given", "dense"]) == ["single"]


def test_densities_of_maps_that_the_network_has_not_are_an_error(tmp_path: Path) -> None:
    content = json.loads(_sparse(tmp_path).read_text())
    content["model"]["densities"] = {"nowhere": {"mean": 0.5, "p90": 0.5}}
    row = execute_here(Run(content, "strip-equal"))
    assert row["harness"] == "error" and "no map 'nowhere'" in row["message"]


def test_a_limit_on_the_latency_is_part_of_the_run() -> None:
    assert labels(planners=["nptp"], latency_limit_ms=900) == ["nptp <=900ms"]


def test_a_run_with_options_survives_its_json() -> None:
    before = Run(NETWORK, "nptp", planning={"transfer_dtype": "int8", "objective": "bytes"})
    after = run_from_json(json.loads(json.dumps(before.to_json())))
    assert after == before and after.key == before.key
    assert after.key != Run(NETWORK, "nptp").key


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"planners": ["nptp"], "objectives": ["predicted"]}, "what every plan is made for"),
        (
            {"planners": ["nptp"], "overlap": [True]},
            "overlap is gone",
        ),
        ({"formulations": ["strip"], "transfer_dtypes": ["int8"]}, "for planners only"),
        ({"planners": ["nptp"], "objectives": ["speed"]}, "objectives"),
        ({"planners": ["nptp"], "transfer_dtypes": ["int4"]}, "transfer_dtypes"),
        ({"planners": ["nptp"], "latency_limit_ms": 0}, "latency_limit_ms"),
        ({"planners": ["nptp"], "objectives": ["energy"]}, f"{LIBRARY}: .* has no watts"),
        ({"planners": ["nptp"], "transfer_dtype": "int8"}, "Did you mean 'transfer_dtypes'"),
        ({"planners": ["nptp"], "seeds": True}, "seeds: must be a list"),
    ],
)
def test_bad_options(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        labels(**fields)


@pytest.mark.parametrize(
    "planning",
    [{"transfer_dtype": "int8"}, {"objective": "bytes"}],
)
def test_the_plan_is_made_as_the_run_says(planning: dict[str, Any]) -> None:
    """Read from the plan that the run wrote, which the check evaluates again."""
    found = execute_here(Run(NETWORK, "nptp", time_limit_s=30.0, planning=planning))
    assert found["harness"] == "finished" and found["fault"] is None
    plan = json.loads(found["plan"])
    assert plan["provenance"].get("objective") == planning.get("objective")
    assert plan["cluster"]["network"].get("transfer_dtype") == planning.get("transfer_dtype")
    assert found["notes"]["bytes"] >= 0 and found["notes"]["period_s"] > 0


def test_a_limit_that_no_plan_meets_is_infeasible() -> None:
    found = execute_here(Run(NETWORK, "single", planning={"latency_limit_ms": 0.001}))
    assert (found["harness"], found["status"]) == ("finished", "infeasible")


def test_options_of_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the command to the report's table of what plans use."""
    monkeypatch.setattr(batch, "execute", execute_here)
    instance, out = tmp_path / "small.json", tmp_path / "r.sqlite"
    instance.write_text(json.dumps(NETWORK))
    words = f"compare -o {out} --instance {instance} --planner strip-equal --workers 1"
    options = "--time-limit 30 --transfer-dtype float32 --transfer-dtype int8 --json"
    done = CliRunner().invoke(main, [*words.split(), *options.split()])
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["finished"] == 2
    with Store(out, create=False) as store:
        assert {r["method"] for r in store.rows()} == {"strip-equal", "strip-equal int8"}
    report = CliRunner().invoke(main, ["report", str(out), "--json"])
    tables = json.loads(report.stdout)["tables"]
    small, whole = sorted(tables["usage"], key=lambda r: r["bytes"])
    assert small["contender"] == "strip-equal int8"
    assert small["bytes"] < 0.5 * whole["bytes"] and small["value_s"] < whole["value_s"]
    assert tables["disagreements"] == [] and whole["energy_j"] is None


def plans(*rows: tuple[str, float, float]) -> list[Any]:
    """Records of planners' runs on one network: contender, value, bound."""
    given = ({"method": m, "value_s": v, "bound_s": b, "kind": "network"} for m, v, b in rows)
    return records(*given)


@pytest.mark.parametrize(
    ("bound_by", "value_by", "contradict"),
    [
        ("nptp", "single", True),
        ("nptp bytes", "single", True),
        ("nptp", "nptp int8", False),
        ("nptp int8", "single int8", True),
        ("nptp int8", "nptp float16", False),
        ("nptp <=900ms", "nptp", True),
    ],
)
def test_bounds_hold_among_plans_of_the_same_kind(
    bound_by: str, value_by: str, contradict: bool
) -> None:
    """A bound of 2 against a value of 1: wrong only where the bound holds for that plan."""
    found = plans((bound_by, 3.0, 2.0), (value_by, 1.0, 0.5))
    assert bool(disagreements(found)) == contradict


def test_what_plans_use_is_averaged_where_all_have_a_plan() -> None:
    used = {"energy_j": None, "period_s": 0.5}
    base: dict[str, Any] = {"kind": "network", "synchronous_s": 1.0, "method": "nptp"}
    found = usage(
        records(
            base | {"value_s": 1.0, "notes": used | {"bytes": 100}},
            base | {"value_s": 4.0, "notes": used | {"bytes": 400}, "instance": "i2"},
            base | {"method": "single", "value_s": 9.0, "notes": used | {"bytes": 0}},
            base | {"method": "single", "value_s": None, "notes": None, "instance": "i2"},
        )
    )
    assert [(r["contender"], r["cases"]) for r in found] == [("nptp", 1), ("single", 1)]
    assert found[0]["value_s"] == pytest.approx(1.0) and found[1]["bytes"] == 0.0
    assert found[0]["bytes"] == pytest.approx(100) and found[0]["energy_j"] is None
