"""The verifier accepts right plans and says what is wrong with every wrong one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from nptp_opt.cluster import TransferDtype
from nptp_opt.errors import InputError
from nptp_opt.evaluate.assemble import Choice
from nptp_opt.geometry import Tile
from nptp_opt.network.load import LoadedModel, load_model, load_module
from nptp_opt.network.ref import ModelRef
from nptp_opt.plan.document import plan_from_json, plan_hash, plan_to_json, read_plan
from nptp_opt.plan.model import Plan
from nptp_opt.planner import PlanOptions, plan_network, plan_of
from nptp_opt.verification.torch_check import verify_plan
from tests.builders import make_cluster

REF = ModelRef("tests.models:small_cnn", (1, 3, 33, 29))
CLUSTER = make_cluster((2.0, 1.0, 1.5), rates=20.0, latency_ms=0.01)


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return load_model(REF.ref, REF.input, REF.seed)


@pytest.fixture(scope="module")
def plan(model: LoadedModel) -> Plan:
    return plan_network(REF, model.network, CLUSTER, PlanOptions("coedge-style"))


@pytest.mark.parametrize("planner", ["nptp", "single", "strip-equal", "coedge-style"])
def test_every_planners_plan_computes_the_models_tensors(model: LoadedModel, planner: str) -> None:
    found = plan_network(REF, model.network, CLUSTER, PlanOptions(planner))
    report = verify_plan(found, model)
    assert report.faults == []
    assert report.to_json()["max_rel_error_float64"] < 1e-12
    assert report.layers == len(model.network.layers)


def test_a_pinwheel_on_every_layer_is_verified(model: LoadedModel) -> None:
    """Five devices around a middle tile: no cut runs through the map."""
    cluster = make_cluster((1.0,) * 5)
    choices = []
    for layer in model.network.spatial:
        h, w = layer.height, layer.width
        a, b, c, d = h // 3, h - h // 3, w // 3, w - w // 3
        tiles = [Tile(0, a, 0, d), Tile(0, b, d, w), Tile(b, h, c, w), Tile(a, h, 0, c)]
        middle = Tile(a, b, c, d)
        choices.append(Choice((layer,), dict(enumerate([*tiles, middle]))))
    report = verify_plan(plan_of(REF, model.network, cluster, choices), model)
    assert report.faults == []


def test_a_feature_map_result_is_collected_at_the_sink() -> None:
    ref = ModelRef("tests.models:fully_convolutional", (2, 3, 12, 10))
    model = load_model(ref.ref, ref.input)
    cluster = make_cluster((1.0, 1.0), sink="d1")
    found = plan_network(ref, model.network, cluster, PlanOptions("strip-equal"))
    assert verify_plan(found, model).ok
    assert found.steps[-1].device == 1


def edited(plan: Plan, edit: Callable[[dict[str, Any]], None], *, rehash: bool = True) -> Any:
    """The plan's document after ``edit``, with the document's hash made right again."""
    data = json.loads(json.dumps(plan_to_json(plan)))
    edit(data)
    if rehash:
        data["hash"] = plan_hash({k: v for k, v in data.items() if k != "hash"})
    return data


def shift_tile(data: dict[str, Any]) -> None:
    data["segments"][1]["tiles"][0]["y1"] += 1


def drop_transfer(data: dict[str, Any]) -> None:
    del data["segments"][1]["transfers"][0]


def add_transfer(data: dict[str, Any]) -> None:
    data["segments"][1]["transfers"].append(data["segments"][1]["transfers"][0])


def widen_transfer(data: dict[str, Any]) -> None:
    data["segments"][1]["transfers"][0]["y0"] -= 1


def lower_cost(data: dict[str, Any]) -> None:
    data["segments"][0]["makespan_s"] *= 0.5


def swap_segments(data: dict[str, Any]) -> None:
    data["segments"][0], data["segments"][1] = data["segments"][1], data["segments"][0]


def drop_segment(data: dict[str, Any]) -> None:
    del data["segments"][-2]


def drop_gather(data: dict[str, Any]) -> None:
    data["segments"][-1]["device"] = "d1"


def higher_bound(data: dict[str, Any]) -> None:
    data["bound_s"] = 0.999 * data["latency_s"]


def lower_prediction(data: dict[str, Any]) -> None:
    data |= {"latency_s": 1e-9, "bound_s": None, "gap": None}


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (higher_bound, "what is proven is"),
        (lower_prediction, "latency_s is 1e-09"),
        (shift_tile, "do not cover the map exactly once"),
        (drop_transfer, "transfer missing"),
        (add_transfer, "transfer listed twice"),
        (widen_transfer, "transfer that is no halo"),
        (lower_cost, "the step costs"),
        (swap_segments, "runs before"),
        (drop_segment, "runs before"),
        (drop_gather, "on the sink"),
    ],
)
def test_wrong_plans_are_rejected_with_what_is_wrong(
    model: LoadedModel, plan: Plan, edit: Callable[[dict[str, Any]], None], words: str
) -> None:
    report = verify_plan(plan_from_json(edited(plan, edit)), model, bound=True)
    assert not report.ok
    assert any(words in fault for fault in report.faults), report.faults
    assert report.errors == {}


@pytest.mark.parametrize(
    ("bound_s", "verdicts"),
    [
        ("as planned", ("not checked", "proven")),
        ("too high", ("not checked", "wrong")),
        ("none", ("none", "none")),
    ],
)
def test_a_bound_is_computed_again_only_where_asked(
    model: LoadedModel, plan: Plan, bound_s: str, verdicts: tuple[str, str]
) -> None:
    """The report never calls a bound right that was not looked at."""
    stated = {"as planned": plan.bound_s, "too high": 0.999 * plan.latency_s, "none": None}
    asked = replace(plan, bound_s=stated[bound_s])
    without, again = (verify_plan(asked, model, bound=bound) for bound in (False, True))
    assert (without.bound, again.bound) == verdicts
    assert without.ok and again.ok == (bound_s != "too high")
    assert f"bound {again.bound}" in repr(again) and again.to_json()["bound"] == again.bound


def test_a_stale_hash_is_found(tmp_path: Path, model: LoadedModel, plan: Plan) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(edited(plan, lower_cost, rehash=False)))
    read, stale = read_plan(path)
    assert stale and "hash is stale" in stale[0]
    assert any("stale" in fault for fault in verify_plan(read, model, stale=stale).faults)


def test_a_false_total_is_found(tmp_path: Path, plan: Plan) -> None:
    """Regression: latency_s and gap of the document were dropped unread."""

    def lower_latency(data: dict[str, Any]) -> None:
        data["synchronous_s"] = 1e-9

    path = tmp_path / "plan.json"
    path.write_text(json.dumps(edited(plan, lower_latency)))
    _, false = read_plan(path)
    assert false == (f"synchronous_s is 1e-09, the segments give {plan.synchronous_s}",)


def test_a_bound_above_the_latency_is_refused(plan: Plan) -> None:
    def lower_latency(data: dict[str, Any]) -> None:
        data["latency_s"] = 1e-9

    with pytest.raises(InputError, match="above the latency 1e-09"):
        plan_from_json(edited(plan, lower_latency))


def test_a_device_with_two_tiles_is_refused(plan: Plan) -> None:
    def double(data: dict[str, Any]) -> None:
        data["segments"][1]["tiles"][1]["device"] = data["segments"][1]["tiles"][0]["device"]

    with pytest.raises(InputError, match=r"segments\.1: device 'd0' has two tiles"):
        plan_from_json(edited(plan, double))


def test_a_plan_for_another_network_is_rejected(plan: Plan) -> None:
    other = load_model(REF.ref, (1, 3, 35, 29))
    report = verify_plan(plan, other)
    assert any("plan again" in fault for fault in report.faults)


def test_a_wrong_tensor_is_found_by_execution(model: LoadedModel, plan: Plan) -> None:
    """With another model's weights every layer differs: the comparison must see it."""

    class Shifted(LoadedModel):
        def weights(self) -> dict[str, Any]:
            return {key: value + 0.01 for key, value in super().weights().items()}

    wrong = Shifted(model.imported, model.build, model.ref, model.witness, model.sized)
    report = verify_plan(plan, wrong)
    assert any("differs from the model" in fault for fault in report.faults)


def test_a_witness_that_refuses_the_model_is_a_fault(
    model: LoadedModel, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without another engine's answer nothing is proven."""

    def refuse(self: LoadedModel, x: object) -> None:
        raise InputError("no such operator")

    monkeypatch.setattr(LoadedModel, "witness_outputs", refuse)
    report = verify_plan(plan, model)
    assert report.faults == [f"{model.witness.name}: no such operator"]
    assert "Verified: wrong" in report._repr_html_() and "no such operator" in report._repr_html_()


def test_a_model_of_zeros_is_right() -> None:
    """Nothing is off and rounding explains nothing."""
    module = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 2, 3))
    for weight in module.parameters():
        nn.init.zeros_(weight)
    zeros = load_module(module.eval(), "m", (1, 3, 12, 10))
    found = plan_network(zeros.ref, zeros.network, CLUSTER, PlanOptions("strip-equal"))
    report = verify_plan(found, zeros)
    assert report.faults == [] and "Verified: right" in report._repr_html_()
    assert report.to_json()["max_abs_error"] == 0.0


def test_an_element_that_nobody_gives_is_found_by_execution(
    model: LoadedModel, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the check on paper, the missing halo still shows when the tile is computed."""
    step = plan.steps[1]
    broken = replace(
        plan, steps=(plan.steps[0], replace(step, transfers=step.transfers[1:]), *plan.steps[2:])
    )
    monkeypatch.setattr("nptp_opt.verification.torch_check.paper_faults", lambda _: [])
    report = verify_plan(broken, model)
    assert any("neither owns nor receives" in fault for fault in report.faults)


def test_errors_of_every_layer_are_reported_where_transfers_lose_something(
    model: LoadedModel, plan: Plan
) -> None:
    """With int8 the layers behind a halo are off by some thousandths, not by more."""
    assert verify_plan(plan, model).to_json()["layer_max_rel_error"] == {}
    lossy = plan_network(
        REF, model.network, CLUSTER.sending_as("int8"), PlanOptions("coedge-style")
    )
    report = verify_plan(lossy, model)
    errors = report.to_json()["layer_max_rel_error"]
    assert report.ok
    assert set(errors) <= set(model.network.by_name)
    assert all(1e-5 < errors[layer.name] < 0.1 for layer in model.network.spatial)


def test_an_output_that_is_not_finite_is_a_fault_and_json(model: LoadedModel, plan: Plan) -> None:
    """Regression: an infinite error made ``verify --json`` end with a traceback."""

    class Broken(LoadedModel):
        def weights(self) -> dict[str, Any]:
            return {key: value * float("nan") for key, value in super().weights().items()}

    lossy = plan_network(
        REF, model.network, CLUSTER.sending_as("float16"), PlanOptions("coedge-style")
    )
    report = verify_plan(
        lossy, Broken(model.imported, model.build, model.ref, model.witness, model.sized)
    )
    assert any("sent as float16" in fault for fault in report.faults)
    content = report.to_json()
    assert content["output_max_abs_error"] is None
    json.dumps(content, allow_nan=False)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8"])
def test_the_error_of_lossy_transfers_is_reported_and_nothing_else_passes(
    model: LoadedModel, dtype: TransferDtype
) -> None:
    """All is exact but the outputs with transfers as planned; a lost transfer still is a fault."""
    found = plan_network(REF, model.network, CLUSTER.sending_as(dtype), PlanOptions("coedge-style"))
    report = verify_plan(found, model)
    content = report.to_json()
    assert report.faults == []
    assert content["transfer_dtype"] == dtype
    assert content["max_rel_error_float64"] < 1e-12
    assert 1e-7 < content["output_max_rel_error"] < 0.2
    step = next(step for step in found.steps if step.transfers)
    steps = [replace(s, transfers=s.transfers[1:]) if s is step else s for s in found.steps]
    assert verify_plan(replace(found, steps=tuple(steps)), model).faults


def test_a_feature_map_that_is_sent_in_fewer_bytes_is_the_result() -> None:
    """It is collected on the sink, off by what its own transfers lose."""
    ref = ModelRef("tests.models:fully_convolutional", (1, 3, 20, 18))
    network = load_model(ref.ref, ref.input)
    found = plan_network(
        ref, network.network, CLUSTER.sending_as("int8"), PlanOptions("strip-equal")
    )
    report = verify_plan(found, network)
    assert report.faults == []
    assert 1e-5 < report.to_json()["output_max_rel_error"] < 0.1


def test_exact_transfers_report_no_error_of_the_output(model: LoadedModel, plan: Plan) -> None:
    assert verify_plan(plan, model).to_json()["output_max_rel_error"] is None
