"""Models on the command line: what imports can be inspected, what does not ends in one line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper

from nptp_opt.cli import main
from tests.network.test_onnx import I64, LIGHT, W, save, with_external

SHAPE = [1, 4, 9, 8]
CLUSTER = Path(__file__).parents[2] / "examples" / "four-unequal.toml"


def truncated(path):
    content = LIGHT[0].read_bytes()
    path.write_bytes(content[: len(content) // 2])


def cyclic(path):
    nodes = [helper.make_node("Add", ["x", "b"], ["a"], name="round")]
    nodes.append(helper.make_node("Relu", ["a"], ["b"], name="about"))
    save(path, nodes, [("x", SHAPE)], ["b"])


def huge(path):
    nodes = [
        helper.make_node("ConstantOfShape", ["s"], ["c"], name="huge"),
        helper.make_node("Add", ["x", "c"], ["y"]),
    ]
    save(path, nodes, [("x", SHAPE)], ["y"], [("s", I64([2**20, 2**20]))])


def outside(path):
    (path.parent.parent / "secret.bin").write_bytes(W.tobytes())
    with_external(path, "../secret.bin")


def unsupported(path):
    node = helper.make_node("NonZero", ["x"], ["y"], name="where")
    save(path, [node], [("x", SHAPE)], ["y"])


def dynamic(path):
    """The target of the reshape is computed from the input's values."""
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Cast", ["sum"], ["n"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["n", "one"], ["target"]),
        helper.make_node("Reshape", ["x", "target"], ["y"], name="by-value"),
    ]
    save(path, nodes, [("x", SHAPE)], ["y"], [("one", I64([1]))])


def nested(path):
    """Which side is taken depends on the data."""
    inner = helper.make_graph([helper.make_node("Identity", ["x"], ["z"])], "b", [], [
        helper.make_tensor_value_info("z", TensorProto.FLOAT, None)])  # fmt: skip
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Cast", ["sum"], ["c"], to=TensorProto.BOOL),
        helper.make_node("If", ["c"], ["y"], name="branch", then_branch=inner, else_branch=inner),
    ]
    save(path, nodes, [("x", SHAPE)], ["y"])


def absent(path):
    assert not path.exists()


FILES = {
    truncated: "not a usable ONNX file",
    cyclic: "not a usable ONNX file",
    huge: "'huge'",
    outside: "outside the file's folder",
    unsupported: "node 'where': op NonZero",
    dynamic: "node 'by-value': op Reshape",
    nested: "node 'branch': op If",
    absent: "there is no such file",
}
CALLABLES = {
    "broken": "RuntimeError: no weights here and a second line",
    "fitting_badly": 'Unexpected key(s) in state_dict: "kernel"',
    "not_a_module": "not a torch.nn.Module",
    "missing": "has no attribute 'missing'",
    "branching": "control flow and sizes that depend on data are not supported",
    "factoring": "node 'linalg_qr'",
    "nonzero": "refuses an input of 1x2x9x8",
}


def refused(folder, model, words, shape="1x4x9x8"):
    """Both commands that import: exit code 2, one line on stderr about it, nothing written."""
    plan = folder / "plan.json"
    for args in (["inspect", model], ["solve", model, "-c", str(CLUSTER), "-o", str(plan)]):
        result = CliRunner().invoke(main, [*args, "--input", shape, "--json"])
        assert result.exit_code == 2, result.output
        lines = [line for line in result.stderr.splitlines() if line.startswith("nptp-opt: ")]
        assert len(lines) == 1 and words in lines[0], result.stderr
        assert "Traceback" not in result.stderr
        assert json.loads(result.stdout)["schema"] == "nptp-opt/error/1"
    assert not plan.exists()


@pytest.mark.parametrize("make", FILES, ids=lambda make: make.__name__)
def test_hostile_files_end_in_one_line_that_names_the_node(tmp_path, make):
    path = tmp_path / "model" / "m.onnx"
    path.parent.mkdir()
    make(path)
    shape = "1x3x224x224" if make is truncated else "1x4x9x8"
    refused(tmp_path, str(path), FILES[make], shape)


@pytest.mark.parametrize("name", CALLABLES)
def test_callables_that_cannot_be_planned_end_in_one_line(tmp_path, name):
    refused(tmp_path, f"tests.network.models:{name}", CALLABLES[name], "1x2x9x8")


def test_a_module_itself_may_be_named():
    """It was called, as if it were what makes one."""
    found = inspected("tests.network.models:made_already", "1x2x9x8")
    assert found["layers"][0]["shape"] == [1, 3, 7, 6]


OWN = """
import torchvision
from torchvision.models import resnet18

def net():
    return resnet18(weights=None)
"""


@pytest.mark.parametrize("model", ["own:net", "torchvision.models:resnet18"])
def test_a_module_may_import_torchvision(tmp_path, model):
    """Torch's operators of torchvision were not named before: "torchvision::nms does not exist"."""
    (tmp_path / "own.py").write_text(OWN)
    code = "from nptp_opt.cli import main; main()"
    args = [sys.executable, "-c", code, "inspect", model, "--input", "1x3x64x64", "--json"]
    path = {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        args, cwd=tmp_path, env=os.environ | path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["layers"]) > 20


def inspected(model, shape="1x3x224x224"):
    result = CliRunner().invoke(main, ["inspect", model, "--input", shape, "--json"])
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize("path", LIGHT, ids=lambda path: path.stem)
def test_light_models_are_inspected(path):
    found = inspected(str(path))
    spatial = [row for row in found["layers"] if row["kind"] == "spatial"]
    assert len(spatial) > 5 and found["cuts"]
    assert found["layers"][-1]["shape"][1] == 1000
    names = [row["name"] for row in found["layers"]]
    assert len(set(names)) == len(names)


def test_a_zoo_model_is_inspected_as_a_table_too():
    found = inspected("resnet18", "1x3x65x97")
    assert found["layers"][0]["window"] == "k7 s2 p3+3, k7 s2 p3+3"
    result = CliRunner().invoke(main, ["inspect", "resnet18", "--input", "1x3x65x97"])
    assert result.exit_code == 0 and "single-tensor cuts after" in result.stdout
