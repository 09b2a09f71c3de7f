"""Several inputs, inputs of two dimensions and maps smaller than the number of devices."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper, save
from torch import nn

from nptp_opt import load_model, solve, verify
from nptp_opt.cli import main
from nptp_opt.errors import InputError
from nptp_opt.network.load import LoadedModel
from nptp_opt.network.ref import ModelRef
from nptp_opt.plan.document import load_plan, plan_from_json, plan_to_json, schema_text
from nptp_opt.planner import PLANNERS
from nptp_opt.runtime.launcher.launch import run_plan
from nptp_opt.runtime.launcher.pool import WorkerPool
from tests.builders import make_cluster
from tests.network.several_inputs import (
    IMAGE,
    SEVERAL,
    SMALL,
    ImageAndVector,
    OneUnused,
    ReadAgain,
)

KINDS = SEVERAL | SMALL
FOUR = (0.01, 0.02, 0.03, 0.04)


def model_of(kind: str) -> LoadedModel:
    make, shapes = KINDS[kind]
    torch.manual_seed(0)
    return load_model(make(), shapes)


def fast_links(*, shared: bool = False, **more: Any):
    """Links that make it worth dividing the smallest maps."""
    return make_cluster(FOUR, rates=1e5, shared=shared, latency_ms=0.001, **more)


@pytest.mark.parametrize("kind", KINDS)
def test_every_planner_plans_them_and_the_plans_are_right(kind: str) -> None:
    """Bug: an input that the first segment does not read ended ``nptp`` with a KeyError."""
    model = model_of(kind)
    for place, planner in enumerate(PLANNERS):
        for shared in (False, True) if planner == "nptp" else (place % 2 == 1,):
            plan = solve(model, fast_links(shared=shared), planner=planner)
            report = verify(plan, model, bound=True)
            assert report.ok, (planner, report.faults)


@pytest.mark.parametrize("kind", ["map-2x2", "map-1x2", "two-vectors", "linears"])
def test_what_is_small_is_divided_all_the_same(kind: str) -> None:
    """Some devices stay idle where there are fewer pixels than devices; not all of them do."""
    plan = solve(model_of(kind), fast_links())
    pixels = 4 if kind != "map-1x2" else 2
    used = max(len(step.devices) for step in plan.steps)
    assert 1 < used <= pixels


@pytest.mark.parametrize("kind", SEVERAL)
@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_inputs_travel_in_other_types(kind: str, dtype: Any) -> None:
    model = model_of(kind)
    report = verify(solve(model, fast_links().sending_as(dtype)), model)
    assert report.ok
    assert report.sent is not None and report.sent.relative < 0.1


def test_an_input_that_is_not_read_is_no_input_of_the_network() -> None:
    """Nobody holds or sends it; the witness gets zeros in its place."""
    model = model_of("one-unused")
    assert model.network.inputs == ("x",)
    x = torch.randn(IMAGE)
    zeros, given = model.own_inputs(x)
    assert zeros.shape == (1, 2) and not zeros.any()
    assert torch.equal(given, x)


def test_tensors_are_given_in_the_order_of_the_inputs() -> None:
    module = ReadAgain().eval()
    model = load_model(module, (IMAGE, IMAGE))
    x, y = torch.randn(IMAGE), torch.randn(IMAGE)
    (found,) = model.reference((x, y), ()).values()
    with torch.no_grad():
        assert torch.equal(found, module(x, y))
        assert not torch.equal(found, module(y, x))
    with pytest.raises(InputError, match=r"reads 2 inputs \(x, y\), 1 are given"):
        model.reference(x, ())


@pytest.mark.parametrize(
    ("make", "shapes", "words"),
    [
        (ImageAndVector, IMAGE, r"takes 2 \(image, vector\), the shapes are 1: 1x3x12x10;"),
        (
            ImageAndVector,
            (IMAGE, (1, 2), (1, 2)),
            r"takes 2 \(image, vector\), the shapes are 3: 1x3x12x10,1x2,1x2;",
        ),
        (OneUnused, IMAGE, r"takes 2 \(unused, x\), the shapes are 1"),
        (nn.ReLU, (IMAGE, IMAGE), r"takes 1 \(input\), the shapes are 2"),
        (ImageAndVector, ((1, 2), IMAGE), "refuses an input of 1x2,1x3x12x10"),
        (ImageAndVector, (IMAGE, 2), "give one shape"),
        (ImageAndVector, (IMAGE, (1, 0)), "input 1x0: every size must be at least 1"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(make: Any, shapes: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        load_model(make(), shapes)


class Optional(nn.Module):
    """An input that may be left out."""

    def forward(self, x: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
        return x.relu() if y is None else x.relu() + y


def test_inputs_that_may_be_left_out_may_be() -> None:
    assert len(load_model(Optional(), IMAGE).network.inputs) == 1
    assert len(load_model(Optional(), (IMAGE, IMAGE)).network.inputs) == 2
    with pytest.raises(InputError, match=r"takes 1 to 2 \(x, y\), the shapes are 3"):
        load_model(Optional(), (IMAGE,) * 3)


# -- plan files --------------------------------------------------------------------------------


def test_a_plan_file_has_a_list_for_one_input_and_a_list_of_lists_for_several() -> None:
    one = plan_to_json(solve(model_of("map-2x2"), fast_links()))
    assert one["model"]["input"] == [1, 3, 2, 2]
    plan = solve(model_of("image-and-vector"), fast_links())
    content = plan_to_json(plan)
    assert content["model"]["input"] == [list(IMAGE), [1, 2]]
    assert plan_from_json(json.loads(json.dumps(content))).model == plan.model
    assert str(plan.model).endswith("at 1x3x12x10,1x2")
    assert ModelRef("m", (IMAGE,)) == ModelRef("m", IMAGE)


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ([[1, 3], [1, "a"]], "model.input.1.1: "),
        ([[1, 3]], "model.input: "),
        ([1, 0], "model.input.1: "),
        ("1x3", "model.input: must be a list"),
    ],
)
def test_the_field_of_a_wrong_shape_is_named(shapes: Any, words: str) -> None:
    content = plan_to_json(solve(model_of("map-2x2"), fast_links()))
    content["model"]["input"] = shapes
    with pytest.raises(InputError, match=words):
        plan_from_json(content)


def test_the_schema_knows_both() -> None:
    entry = json.loads(schema_text())["$defs"]["ModelEntry"]["properties"]["input"]
    assert [one["items"]["type"] for one in entry["oneOf"]] == ["integer", "array"]


# -- running -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pool():
    with WorkerPool([f"d{i}" for i in range(4)], timeout_s=60.0) as found:
        yield found


@pytest.mark.parametrize("kind", ["image-and-vector", "read-again", "one-unused", "map-2x2",
                                  "two-vectors", "map-1x1"])  # fmt: skip
def test_processes_compute_what_the_model_computes(kind: str, pool: WorkerPool) -> None:
    model = model_of(kind)
    plan = solve(model, fast_links())
    report = run_plan(plan, model, pool=pool, repeats=2, warmup=1)
    assert report.ok
    assert report.bytes == plan.transfer_bytes


# -- ONNX --------------------------------------------------------------------------------------

CONV = ("w", torch.randn(8, 6, 3, 3, generator=torch.Generator().manual_seed(0)))
NARROW = ("w", CONV[1][:, :3].contiguous())
LINEAR = ("v", torch.randn(10, 5, generator=torch.Generator().manual_seed(1)))

FILES: dict[str, Any] = {
    "two-images": (
        [("Concat", ["a", "b"], "c", {"axis": 1}), ("Conv", ["c", "w"], "y", {"pads": [1] * 4})],
        {"a": IMAGE, "b": IMAGE},
        [CONV],
    ),
    "image-and-vector": (
        [
            ("Conv", ["a", "w"], "c", {"pads": [1] * 4}),
            ("GlobalAveragePool", ["c"], "p", {}),
            ("Flatten", ["p"], "f", {}),
            ("Concat", ["f", "b"], "j", {"axis": 1}),
            ("MatMul", ["j", "v"], "y", {}),
        ],
        {"a": IMAGE, "b": (1, 2)},
        [NARROW, LINEAR],
    ),
    "read-again": (
        [
            ("Conv", ["a", "w"], "c", {"pads": [1] * 4}),
            ("Add", ["c", "b"], "d", {}),
            ("Relu", ["d"], "e", {}),
            ("Mul", ["e", "b"], "y", {}),
        ],
        {"a": IMAGE, "b": (1, 8, 12, 10)},
        [NARROW],
    ),
    "one-unused": (
        [("Conv", ["b", "w"], "y", {"pads": [1] * 4})],
        {"a": (1, 2), "b": IMAGE},
        [NARROW],
    ),
}


def file_of(kind: str, path: Path, *, batch: str | None = None) -> str:
    nodes, inputs, weights = FILES[kind]
    rank = 2 if kind == "image-and-vector" else 4
    graph = helper.make_graph(
        [helper.make_node(op, given, [out], **attrs) for op, given, out, attrs in nodes],
        "g",
        [
            helper.make_tensor_value_info(
                name, TensorProto.FLOAT, [batch, *shape[1:]] if batch else shape
            )
            for name, shape in inputs.items()
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * rank)],
        [numpy_helper.from_array(value.numpy(), name) for name, value in weights],
    )
    opsets = [helper.make_opsetid("", 17)]
    save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return str(path)


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("batch", [None, "n"])
def test_files_of_several_inputs_are_planned_and_right(
    kind: str, batch: str | None, tmp_path: Path
) -> None:
    """The witness, another engine, gets every input under its own name."""
    shapes = tuple(FILES[kind][1].values())
    model = load_model(file_of(kind, tmp_path / "m.onnx", batch=batch), shapes)
    assert len(model.network.inputs) == (1 if kind == "one-unused" else 2)
    report = verify(solve(model, fast_links()), model)
    assert report.ok, report.faults
    assert "onnx" in report.witness.lower()


@pytest.mark.parametrize("kind", ["two-images", "image-and-vector"])
def test_a_file_says_itself_which_shapes_it_takes(kind: str, tmp_path: Path) -> None:
    path = file_of(kind, tmp_path / "m.onnx", batch="n")
    assert load_model(path).ref.input == tuple(FILES[kind][1].values())


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        (
            IMAGE,
            r"takes 2 \(a \[1, 3, 12, 10\], b \[1, 3, 12, 10\]\), the shapes are 1: 1x3x12x10;",
        ),
        ((IMAGE,) * 3, "takes 2 .*, the shapes are 3"),
        ((IMAGE, (1, 4, 12, 10)), r"input b \[1, 3, 12, 10\] does not take 1x4x12x10"),
        ((IMAGE, (1, 3, 5, 5)), "refuses an input of 1x3x12x10,1x3x5x5"),
    ],
)
def test_shapes_that_a_file_does_not_take_are_refused(
    shapes: Any, words: str, tmp_path: Path
) -> None:
    """Bug: the second image of a file was taken for a missing weight, and made up."""
    with pytest.raises(InputError, match=words):
        load_model(file_of("two-images", tmp_path / "m.onnx"), shapes)


# -- the command line --------------------------------------------------------------------------

REF = "tests.network.several_inputs:ImageAndVector"


def called(*args: Any) -> dict[str, Any]:
    result = CliRunner().invoke(main, [*map(str, args), "--json"])
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    return found


def test_the_commands_take_several_inputs(tmp_path: Path) -> None:
    cluster, plan = tmp_path / "c.json", tmp_path / "plan.json"
    cluster.write_text(json.dumps(fast_links().to_json()))
    shapes = ("--input", "1x3x12x10,1x2")
    assert called("inspect", REF, *shapes)["inputs"] == {
        "image": [1, 3, 12, 10],
        "vector": [1, 2, 1, 1],
    }
    called("solve", REF, "-c", cluster, "-o", plan, *shapes)
    assert load_plan(plan).model.shapes == (IMAGE, (1, 2))
    assert called("verify", plan)["ok"]
    assert called("run", plan, "--repeats", 1, "--warmup", 0)["ok"]
    assert CliRunner().invoke(main, ["show", str(plan)]).exit_code == 0


@pytest.mark.parametrize("text", ["1x3x12x10,", "1x3,2", ",1x3", "1x3,1xa"])
def test_a_wrong_input_option_is_refused(text: str) -> None:
    result = CliRunner().invoke(main, ["inspect", REF, "--input", text])
    assert result.exit_code == 2
    assert "--input must look like 1x3x224x224" in result.stderr
