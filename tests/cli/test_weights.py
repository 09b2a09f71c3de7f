"""A plan knows the weights that it was made with; commands that take it ask for the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from nptp_opt.cli import main  # noqa: F401 - what ``call`` invokes
from tests.cli.test_commands import CLUSTER, MODEL, call
from tests.models import small_cnn


def _save(path: Path, seed: int, module: nn.Module | None = None) -> Path:
    torch.manual_seed(seed)
    torch.save((module or small_cnn()).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plan that was made with weights of a file, those weights, others, and misfits."""
    folder = tmp_path_factory.mktemp("weights")
    (folder / "cluster.toml").write_text(CLUSTER)
    own = _save(folder / "own.pt", 1)
    _save(folder / "others.pt", 2)
    _save(folder / "misfit.pt", 3, nn.Sequential(nn.Conv2d(3, 9, 3)))
    done = call("solve", MODEL, "-c", folder / "cluster.toml", "-o", folder / "plan.json",
                "--input", "1x3x20x24", "--planner", "strip-equal", "--weights", own)  # fmt: skip
    assert done.exit_code == 0, done.stderr
    return folder


def test_a_plan_records_the_hash_of_its_weights(folder: Path) -> None:
    model = json.loads((folder / "plan.json").read_text())["model"]
    assert len(model["weights"]) == 64


@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize("command", ["verify", "run"])
def test_commands_that_take_the_plan_take_its_weights(folder: Path, command: str) -> None:
    """Others are told with both hashes and what to do, and are taken where that is said."""
    args = [command, folder / "plan.json", *(["--repeats", 1] if command == "run" else [])]
    done = call(*args, "--weights", folder / "own.pt")
    assert done.exit_code == 0, done.stderr
    for given in ([], ["--weights", folder / "others.pt"]):
        done = call(*args, *given)
        assert done.exit_code == 2
        assert "the plan was made with weights" in done.stderr
        assert "--weights, or --allow-other-weights" in done.stderr
    done = call(*args, "--weights", folder / "others.pt", "--allow-other-weights")
    assert done.exit_code == 0 and "was made with other weights" in done.stderr


def test_weights_of_another_architecture_and_of_onnx_files(folder: Path) -> None:
    done = call("verify", folder / "plan.json", "--weights", folder / "misfit.pt")
    assert done.exit_code == 2
    assert "has '0.weight' of shape 9x3x3x3, the model of shape 8x3x3x3" in done.stderr
    done = call("solve", "m.onnx", "-c", folder / "cluster.toml", "-o", folder / "p.json",
                "--input", "1x3x20x24", "--weights", folder / "own.pt")  # fmt: skip
    assert done.exit_code == 2 and "leave --weights out" in done.stderr
