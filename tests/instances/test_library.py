"""The instance library: what it holds, its files, its table of best known values."""

from __future__ import annotations

import json
from collections import Counter
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner, Result

from nptp_opt.cli import main
from nptp_opt.cost import LayerCost
from nptp_opt.errors import InputError
from nptp_opt.geometry import Tile, cover_fault
from nptp_opt.instances import certificates, library
from nptp_opt.instances.best import Best, best_table, grade_of, proven, schema_of_best
from nptp_opt.instances.generate import MODELS, generate, to_text
from nptp_opt.instances.library import open_instance, open_layer, select
from nptp_opt.instances.networks import NetworkProblem
from nptp_opt.layer.problem import LayerProblem
from nptp_opt.network.ir import Density
from nptp_opt.network.load import load_model
from nptp_opt.network.ref import Pixels

NAME = "resnet50-conv1x1s2-256to512-at28-n7-unequal-switched-300"


def call(*args: object) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


def shipped(name: str) -> Any:
    return json.loads(resources.files("nptp_opt.instances").joinpath(name).read_text())


def test_the_library_is_as_large_and_as_varied_as_promised() -> None:
    entries = library.library().instances
    kinds = Counter(entry.kind for entry in entries)
    assert kinds["layer"] >= 150 and kinds["network"] >= 40
    assert len({entry.name for entry in entries}) == len(entries)
    for kind in ("layer", "network"):
        group = [entry for entry in entries if entry.kind == kind]
        assert {library.library().model_of(entry) for entry in group} == set(MODELS)
        assert {e.cluster.devices for e in group} == {2, 3, 4, 5, 6, 7, 8, 16, 64}
        assert {e.cluster.speeds for e in group} == {"equal", "unequal"}
        assert {e.cluster.network for e in group} == {"switched", "shared"}
        assert {e.cluster.mbit_per_s for e in group} == {10, 50, 100, 300, 1000}


def test_every_instance_opens_and_survives_its_file() -> None:
    for entry in library.library().instances:
        problem = open_instance(entry.name)
        assert problem.name == entry.name
        content = json.loads(json.dumps(library.problem_to_json(problem)))
        assert library.problem_from_json(content) == problem


def _sparse() -> dict[str, Any]:
    """A network instance whose input is uint8 and whose maps are known to be half zero."""
    name = next(each.name for each in library.library().instances if each.kind == "network")
    content = library.problem_to_json(open_instance(name))
    pixels = {"dtype": "uint8", "scale": 255.0, "mean": [0.5], "std": [0.2, 0.3, 0.4]}
    content["model"] |= {"pixels": pixels, "densities": {"relu": {"mean": 0.5, "p90": 0.6}}}
    return content


def test_network_instances_may_have_pixels_and_densities() -> None:
    content = _sparse()
    problem = library.problem_from_json(content)
    assert isinstance(problem, NetworkProblem)
    assert problem.model.pixels == (Pixels(255.0, (0.5,), (0.2, 0.3, 0.4)),)
    assert problem.densities == {"relu": Density(0.5, 0.6)}
    assert json.loads(json.dumps(library.problem_to_json(problem))) == content
    jsonschema.validate(content, shipped("instance.schema.json"))
    plain = {k: v for k, v in content["model"].items() if k not in ("pixels", "densities")}
    assert library.problem_to_json(problem.dense) == content | {"model": plain}


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("densities", {"relu": {"mean": 1.5, "p90": 0.5}}, "densities.relu.mean: .* 1.5"),
        ("densities", {"relu": {"mean": 0.0, "p90": 0.5}}, "densities.relu.mean: .* 0.0"),
        ("pixels", {"dtype": "int8", "scale": 1.0, "mean": [0.0], "std": [1.0]}, "pixels.dtype"),
        ("pixels", {"dtype": "uint8", "scale": 0.0, "mean": [0.0], "std": [1.0]}, "`scale` must"),
        ("pixels", [None, None], "pixels of 2 inputs, the model has 1"),
        ("pixels", 3, "pixels"),
    ],
)
def test_pixels_and_densities_that_cannot_be_are_refused(field: str, value: Any, why: str) -> None:
    content = _sparse()
    content["model"][field] = value
    with pytest.raises(InputError, match=rf"mine\.json: model.*{why}"):
        library.problem_from_json(content, "mine.json")


def test_files_fit_the_schemas_that_are_shipped() -> None:
    schema = shipped("instance.schema.json")
    for entry in library.library().instances[::7]:
        content = library.problem_to_json(open_instance(entry.name))
        jsonschema.validate(json.loads(json.dumps(content)), schema)
    jsonschema.validate(shipped("library.json"), shipped("library.schema.json"))
    assert schema == library.schema_of_instances()
    assert shipped("library.schema.json") == library.schema_of_library()
    jsonschema.validate(shipped("best.json"), shipped("best.schema.json"))
    assert shipped("best.schema.json") == schema_of_best()


def test_best_values_are_the_costs_of_their_tiles_and_no_bound_is_above() -> None:
    for name, best in best_table().items():
        problem = open_instance(name)
        assert best.value_s is not None and best.bound_s is not None
        assert best.value_by and best.bound_by
        assert best.bound_s <= best.value_s * (1 + 1e-12)
        if isinstance(problem, LayerProblem):
            tiles = {i: Tile(*sides) for i, *sides in best.tiles}
            assert cover_fault(tiles.values(), problem.height, problem.width) is None
            assert all(LayerCost(problem).fits(i, tile) for i, tile in tiles.items())
            assert LayerCost(problem).makespan_s(tiles) == pytest.approx(best.value_s, rel=1e-9)


@pytest.mark.parametrize("model", MODELS)
def test_best_values_of_networks_are_the_costs_of_their_plans(model: str) -> None:
    """Every plan in the table, evaluated again on the network as it is imported today."""
    entries = [e for e in select(["network", model]) if e.name in best_table()]
    network = load_model(*MODELS[model]).network
    for entry in entries:
        best, problem = best_table()[entry.name], open_instance(entry.name)
        assert best.plan is not None
        value = certificates.latency_s(best.plan, network, problem.cluster)
        assert value == pytest.approx(best.value_s, rel=1e-9)


def test_every_instance_has_a_best_value_and_its_grade_a_record() -> None:
    """No grade is set by hand: every layer was tried alone, and what is proven has its seconds."""
    assert {entry.name for entry in select()} == set(best_table())
    for entry in select(["layer"]):
        best = best_table()[entry.name]
        assert "auto" in best.proofs
        timed = any(seconds is not None for seconds in best.proofs.values())
        assert timed == proven(best) or grade_of(best) == "hard"
    assert {grade_of(best_table()[e.name]) for e in select()} == {"easy", "medium", "hard", "open"}


@pytest.mark.parametrize(
    ("best", "grade"),
    [
        (None, "open"),
        (Best(value_s=1.0, bound_s=0.9, proofs={"auto": None}), "open"),
        (Best(value_s=1.0, bound_s=1.0, proofs={"auto": None, "cover/highs": 0.9}), "easy"),
        (Best(value_s=1.0, bound_s=1.0, proofs={"auto": 59.0, "cover/highs": None}), "medium"),
        (Best(value_s=1.0, bound_s=1.0, proofs={"auto": 61.0}), "hard"),
        (Best(value_s=1.0, bound_s=1.0, proofs={"auto": None}), "hard"),
    ],
)
def test_grades(best: Best | None, grade: str) -> None:
    assert grade_of(best) == grade


def test_generating_again_gives_the_shipped_file() -> None:
    """For the first model: the recipes of the others depend on those before them."""
    found, kept = json.loads(to_text(generate(["vgg11"]))), shipped("library.json")
    shapes = {k: v["shape"] for k, v in kept["layers"].items() if v["model"] == "vgg11"}
    assert {k: v["shape"] for k, v in found["layers"].items()} == shapes
    assert found["instances"] == [e for e in kept["instances"] if e["name"].startswith("vgg11-")]


@pytest.mark.parametrize("model", ["unet", "detector"])
def test_models_of_the_package_import_without_gathered_layers(model: str) -> None:
    ref, shape = MODELS[model]
    network = load_model(ref, shape).network
    assert all(layer.kind == "spatial" for layer in network.layers)
    assert len(network.outputs) == (2 if model == "detector" else 1)


def test_list_show_and_export(tmp_path: Path) -> None:
    result = call("instances", "list", "--tag", "resnet50", "--tag", "shared", "--json")
    rows = json.loads(result.stdout)["instances"]
    assert rows and all({"resnet50", "shared"} <= set(row["tags"]) for row in rows)
    assert call("instances", "list", "--name", NAME).exit_code == 0
    shown = json.loads(call("instances", "show", NAME, "--json").stdout)
    assert shown["layer"]["stride"] == [2, 2] and len(shown["cluster"]["device"]) == 7
    done = call("instances", "export", "--name", "unet-*", "-o", tmp_path / "out", "--json")
    files = sorted((tmp_path / "out").iterdir())
    assert json.loads(done.stdout)["files"] == len(files) > 20
    assert {type(open_instance(path)) for path in files} == {LayerProblem, NetworkProblem}


def test_a_name_stands_for_a_file(tmp_path: Path) -> None:
    """What strip finds for a library instance is confirmed by check, by name and by file."""
    solved = call("solve-layer", NAME, "--formulation", "strip", "--json")
    assert solved.exit_code == 0, solved.stderr
    (tmp_path / "result.json").write_text(solved.stdout)
    assert call("check", NAME, tmp_path / "result.json").exit_code == 0


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["instances", "show", "resnet50-n4-equal"], "Did you mean 'resnet50-"),
        (["instances", "show", "no/such.json"], "cannot be read"),
        (["instances", "list", "--tag", "nosuch"], "no instance matches"),
        (["solve-layer", "vgg16-n4-equal-switched-50"], "is a network instance"),
    ],
)
def test_bad_names(args: list[str], words: str) -> None:
    result = call(*args)
    assert result.exit_code == 2 and words in result.stderr


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": {"ref": "vgg16"}}, "model.input"),
        ({"model": {"ref": "vgg16", "input": [3]}}, "model.input: "),
        ({"model": {"ref": "vgg16", "input": [[1, 3], [1]]}}, "model.input.1: "),
        ({"extra": 1}, "extra"),
    ],
)
def test_broken_network_instances(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    content = library.problem_to_json(open_instance("vgg16-n4-equal-switched-50"))
    path = tmp_path / "broken.json"
    path.write_text(json.dumps(content | change))
    with pytest.raises(InputError, match=words):
        open_instance(path)


def test_a_layer_is_wanted() -> None:
    assert open_layer(NAME).height == 28
