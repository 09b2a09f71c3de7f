"""The plan document: exact round trip, shipped schema, and one-line errors."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from nptp_opt.errors import InputError
from nptp_opt.network.ref import ModelRef
from nptp_opt.plan.document import (
    PlanDocument,
    load_plan,
    plan_from_json,
    plan_to_json,
    schema_text,
    write_plan,
)
from nptp_opt.plan.model import Plan
from nptp_opt.planner import PlanOptions, plan_network
from tests.builders import conv_chain, make_cluster


@pytest.fixture
def plan() -> Plan:
    network = conv_chain((1, 3, 10, 10), [{}, {}])
    return plan_network(
        ModelRef("chain", (1, 3, 10, 10)), network, make_cluster(), PlanOptions("strip-equal")
    )


def test_round_trip_through_the_file_is_exact(plan: Plan, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    write_plan(plan, path)
    assert load_plan(path) == plan


def test_the_document_fits_the_shipped_schema(plan: Plan) -> None:
    schema = json.loads((resources.files("nptp_opt.plan") / "plan.schema.json").read_text())
    jsonschema.validate(plan_to_json(plan), schema)
    broken = plan_to_json(plan)
    broken["segments"][0]["tiles"][0]["y0"] = -1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, schema)


def test_the_shipped_schema_is_that_of_the_code() -> None:
    """After a change: ``python -m nptp_opt.plan.document > nptp_opt/plan/plan.schema.json``."""
    assert (resources.files("nptp_opt.plan") / "plan.schema.json").read_text() == schema_text()
    assert PlanDocument.model_fields


def change(data: dict[str, Any], path: str, value: Any) -> None:
    *way, last = path.split(".")
    at: Any = data
    for part in way:
        at = at[int(part)] if isinstance(at, list) else at[part]
    at[int(last) if isinstance(at, list) else last] = value


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("schema", "nptp-opt/plan/3", "schema"),
        ("segments", [], "segments"),
        ("segments.0.tiles.0.y0", -1, "segments.0.tiles.0.y0"),
        ("segments.0.tiles.0.device", "nobody", "unknown device 'nobody'"),
        ("segments.0.layers", ["nothing"], "no layer 'nothing'"),
        ("segments.0.layers", [], "a spatial segment needs a layer"),
        ("segments.0.device", "d0", "device belongs to a gather"),
        ("latency_s", float("nan"), "latency_s"),
        ("provenance.solve_s", "long", "provenance.solve_s"),
        ("provenance.options.sed", 1, "unknown key 'sed'"),
        ("cluster.device.0.gflops", 0.0, "cluster.device.0 ('d0').gflops"),
    ],
)
def test_bad_documents_name_the_field(plan: Plan, path: str, value: Any, words: str) -> None:
    data = json.loads(json.dumps(plan_to_json(plan)))
    change(data, path, value)
    with pytest.raises(InputError, match="some file") as caught:
        plan_from_json(data, "some file")
    assert words in str(caught.value)


def test_an_unwritable_place_leaves_nothing_behind(plan: Plan, tmp_path: Path) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        write_plan(plan, target)
    assert list(tmp_path.iterdir()) == [target]


def test_a_failed_write_keeps_the_old_file(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "plan.json"
    path.write_text("old")
    monkeypatch.setattr(Path, "replace", _full_disk)
    with pytest.raises(InputError, match="No space left"):
        write_plan(plan, path)
    assert [p.name for p in tmp_path.iterdir()] == ["plan.json"]
    assert path.read_text() == "old"


def _full_disk(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_what_is_not_known_of_a_plans_making_is_not_written(plan: Plan) -> None:
    """Plan files of before lack fields; they are read, and written again as they were."""
    data = plan_to_json(plan)
    for known in ({}, {"planner": "nptp", "options": {"seed": 3}, "notes": ["one", "two"]}):
        data["provenance"] = known
        read = plan_from_json(data)
        assert plan_to_json(read)["provenance"] == known
    assert read.provenance.notes == ("one", "two")
    assert (read.provenance.options.seed, read.provenance.options.gap) == (3, None)
    assert (read.provenance.solve_s, read.provenance.objective) == (None, "latency")


def test_the_making_of_a_plan_is_told_by_these_keys(plan: Plan) -> None:
    """Frozen: readers of plan files go by them."""
    told = plan_to_json(plan)["provenance"]
    keys = "tool planner formulation solver options solve_s search_s bound_s_seconds"
    assert [*told] == keys.split()
    assert [*told["options"]] == ["time_limit_s", "gap", "seed", "threads", "prove"]
    assert told["formulation"] is told["solver"] is told["options"]["time_limit_s"] is None


def test_a_gather_with_tiles_is_refused(plan: Plan) -> None:
    """They were read, executed by nobody and checked by nobody."""
    content = plan_to_json(plan)
    content["segments"][-1]["tiles"] = content["segments"][0]["tiles"]
    with pytest.raises(InputError, match=r"segments\.2: tiles belong to spatial and global"):
        plan_from_json(content)
