"""The library as a script uses it: few imports, short answers, nothing passed twice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import nptp_opt as nptp

CLUSTER = nptp.Cluster(
    network={"kind": "switched", "latency_ms": 0.1},
    devices=[
        {"name": "a", "gflops": 1.0, "up_mbit_per_s": 100.0, "down_mbit_per_s": 100.0},
        {"name": "b", "gflops": 2.0, "up_mbit_per_s": 100.0, "down_mbit_per_s": 100.0},
    ],
)


@pytest.fixture(scope="module")
def module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)).eval()


@pytest.fixture(scope="module")
def model(module: nn.Module) -> nptp.LoadedModel:
    return nptp.load_model(module, (1, 3, 24, 24))


def test_a_given_module_is_planned_verified_and_run(model: nptp.LoadedModel) -> None:
    plan = nptp.solve(model, CLUSTER, planner="strip-equal")
    report = nptp.verify(plan, model)
    assert report.ok and report.witness == "the torch module"
    measured = nptp.run(plan, model, repeats=1, warmup=0)
    assert measured.ok and measured.median_s > 0
    for shown in (model, CLUSTER, plan, report, measured):
        assert len(repr(shown)) < 300 and "<table>" in shown._repr_html_()  # type: ignore[attr-defined]


def test_a_plan_of_a_given_module_says_what_is_needed_to_load_it(
    model: nptp.LoadedModel, tmp_path: Path
) -> None:
    path = tmp_path / "plan.json"
    nptp.save_plan(nptp.solve(model, CLUSTER, planner="single"), path)
    plan = nptp.load_plan(path)
    assert plan.model.is_given
    assert nptp.verify(plan, model).ok
    with pytest.raises(nptp.InputError, match=r"container:Sequential' was given as an object"):
        nptp.verify(plan)


def test_a_plan_of_a_named_model_loads_it_itself() -> None:
    model = nptp.load_model("tests.models:small_cnn", (1, 3, 33, 29))
    assert nptp.verify(nptp.solve(model, CLUSTER, planner="strip-equal")).ok


def test_a_layer_is_solved_by_name_of_its_file() -> None:
    result = nptp.solve_layer("examples/vgg16-conv3_2-n4.json", formulation="column-dp")
    assert result.status == nptp.Status.OPTIMAL
    assert "column-dp" in repr(result) and "<table>" in result._repr_html_()


def test_a_cluster_is_read_from_a_file_or_made_of_its_keys() -> None:
    from_file = nptp.Cluster.from_file("examples/four-unequal.toml")
    assert len(from_file.devices) == 4
    with pytest.raises(ValueError, match="gflops"):
        nptp.Cluster(network={"kind": "switched"}, devices=[{"name": "a"}])


def test_messages_of_the_library_name_arguments_and_those_of_the_command_options() -> None:
    from nptp_opt.commands.support import as_options
    from nptp_opt.runtime.launcher.request import RunRequest

    with pytest.raises(nptp.InputError) as caught:
        RunRequest(secret_file=Path("s"))
    assert str(caught.value) == "`secret_file` belongs to `hosts`"
    assert as_options(str(caught.value)) == "--secret-file belongs to --hosts"
    assert as_options("raise `time_limit_s`, see `solve`") == "raise --time-limit, see `solve`"


def test_a_batch_is_compared_into_a_file(tmp_path: Path) -> None:
    spec = {
        "instances": ["examples/vgg16-conv3_2-n4.json"],
        "formulations": ["column-dp"],
        "time_limits_s": [20.0],
    }
    counts = nptp.compare(spec, tmp_path / "results.sqlite", workers=1)
    assert counts["runs"] == 1 and counts["finished"] == 1


def test_every_public_name_is_there_and_described() -> None:
    for name in nptp.__all__:
        assert getattr(nptp, name).__doc__, name
    assert set(nptp.__all__) <= set(dir(nptp))
    with pytest.raises(AttributeError, match="no attribute 'solv'"):
        nptp.solv  # noqa: B018


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import sys, nptp_opt; heavy = {'torch', 'numpy', 'pulp', 'pydantic', 'onnx'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
