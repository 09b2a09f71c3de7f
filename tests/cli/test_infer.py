"""``infer``: own weights, own inputs, answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.cli.test_commands import CLUSTER, MODEL, call
from tests.models import small_cnn
from tests.runtime.test_emulate import needs_root

SHAPE = (1, 3, 20, 24)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plan, the weights that it was made with, and inputs."""
    folder = tmp_path_factory.mktemp("infer")
    (folder / "cluster.toml").write_text(CLUSTER)
    torch.manual_seed(7)
    torch.save(small_cnn().state_dict(), folder / "w.pt")
    done = call("solve", MODEL, "-c", folder / "cluster.toml", "-o", folder / "plan.json",
                "--input", "1x3x20x24", "--planner", "strip-equal",
                "--weights", folder / "w.pt")  # fmt: skip
    assert done.exit_code == 0, done.stderr
    random = np.random.default_rng(0)
    (folder / "images").mkdir()
    for k in range(5):
        pixels = random.integers(0, 256, (40, 30 + k, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{k}.png")
    np.save(folder / "x.npy", random.standard_normal(SHAPE, dtype=np.float32))
    (folder / "labels.txt").write_text("\n".join(f"class-{k}" for k in range(10)))
    return folder


def _module(folder: Path) -> torch.nn.Module:
    module = small_cnn().eval()
    module.load_state_dict(torch.load(folder / "w.pt", weights_only=True))
    return module


def _infer(folder: Path, *args: object) -> Any:
    return call("infer", folder / "plan.json", *args, "--weights", folder / "w.pt")


@pytest.mark.usefixtures("forked")
def test_an_array_is_answered_by_the_trained_model(folder: Path) -> None:
    done = _infer(folder, folder / "x.npy", "-o", folder / "y.npz", "--json")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["outputs"] == {"output": {"shape": [1, 10], "type": "float32"}}
    assert found["inputs"] == 1 and found["latency_s"]["median"] > 0
    assert found["files"] == [str(folder / "y.npz")]
    expected = _module(folder)(torch.from_numpy(np.load(folder / "x.npy")))
    assert np.allclose(np.load(folder / "y.npz")["output"], expected.detach().numpy(), atol=1e-5)


@pytest.mark.usefixtures("forked")
def test_a_folder_of_images_streams_through_one_session(folder: Path) -> None:
    """Classes on stdout; how images became inputs, and the pace, on stderr; a file for each."""
    done = _infer(folder, folder / "images", "-o", folder / "out", "--top", 2, "--labels",
                  folder / "labels.txt", "--in-flight", 3)  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert "images: resized to 20x24 (rows x columns), scale 0.00392157, mean 0.485," in done.stderr
    assert "5 of 5 inputs" in done.stderr and "per second" in done.stderr
    lines = [line for line in done.stdout.splitlines() if ": class-" in line]
    assert len(lines) == 10
    for k in range(5):
        with Image.open(folder / "images" / f"{k}.png") as image:
            pixels = np.asarray(image.resize((24, 20), Image.Resampling.BILINEAR)) / 255
        values = (pixels - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
        x = torch.from_numpy(values.transpose(2, 0, 1)[None]).float()
        expected = _module(folder)(x).detach().numpy()
        found = np.load(folder / "out" / f"{k}.npz")["output"]
        assert np.allclose(found, expected, atol=1e-5)
        assert f"{k}.png: class-{expected.argmax()} " in lines[2 * k]


@needs_root
@pytest.mark.usefixtures("forked")
def test_latencies_of_an_emulation_of_too_fast_boards_are_void(tmp_path: Path) -> None:
    """Bug: ``infer`` told them as if they were the plan's. The answers are right: status 0."""
    fast = CLUSTER.replace("gflops = 2", "gflops = 1e7").replace("gflops = 1\n", "gflops = 1e7\n")
    (tmp_path / "cluster.toml").write_text(fast)
    plan, x, y = (tmp_path / name for name in ("plan.json", "x.npy", "y.npz"))
    np.save(x, np.ones(SHAPE, dtype=np.float32))
    call("solve", MODEL, "-c", tmp_path / "cluster.toml", "-o", plan, "--input", "1x3x20x24",
         "--planner", "strip-equal")  # fmt: skip
    done = call("infer", plan, x, "-o", y, "--emulate", "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["void"] is True and y.exists()
    assert "latencies are VOID: this machine was too slow" in done.stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["x.npy"], "give -o OUT, --top N, or both"),
        (["x.npy", "-o", "y.npz", "--labels", "labels.txt"], "--labels is for --top N"),
        (["x.npy", "-o", "y.npz", "--mean", "0.5"], "--mean is for images"),
        (["images", "-o", "y.npz"], "5 inputs need a folder"),
        (["images", "-o", "out", "--std", "1,2"], "--std: 2 values for 3 channels"),
        (["images", "-o", "out", "--std", "a"], "must be numbers by commas"),
        (["none.npy", "-o", "y.npz"], "is no file and no folder"),
        (["x.npy", "-o", "no/such/y.npz"], "does not exist"),
        (["x.npy", "-o", "y.npz", "--emulate", "--hosts", "127.0.0.1:1"], "choose one"),
    ],
)
def test_what_does_not_fit_together_is_told_before_anything_starts(
    folder: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], words: str
) -> None:
    monkeypatch.chdir(folder)
    done = _infer(folder, *args)
    assert done.exit_code == 2 and words in done.stderr


@pytest.mark.usefixtures("forked")
@pytest.mark.usefixtures("forked")
def test_images_are_bytes_for_a_network_that_normalises(folder: Path) -> None:
    """Bug: numbers were said and taken, and had no effect."""
    plan = folder / "bytes.json"
    done = call("solve", MODEL, "-c", folder / "cluster.toml", "-o", plan, "--input", "1x3x20x24",
                "--planner", "single", "--no-bound", "--trust-import", "--weights",
                folder / "w.pt", "--input-dtype", "uint8", "--scale", 255)  # fmt: skip
    assert done.exit_code == 0, done.stderr
    told = call("infer", plan, folder / "images", "--top", 1, "--scale", 3, "--weights",
                folder / "w.pt")  # fmt: skip
    assert told.exit_code == 2
    assert "--scale: the plan's network takes uint8 and normalises it itself" in told.stderr
    image = folder / "images" / "0.png"
    answered = call("infer", plan, image, "--weights", folder / "w.pt", "-o",
                    folder / "bytes.npz")  # fmt: skip
    assert answered.exit_code == 0, answered.stderr
    assert "as bytes: the network normalises them" in answered.stderr
    with Image.open(image) as opened:
        resized = opened.convert("RGB").resize((24, 20), Image.Resampling.BILINEAR)
    x = torch.from_numpy(np.array(resized, dtype=np.float32)).permute(2, 0, 1)[None] / 255
    expected = _module(folder)(x).detach().numpy()
    assert np.allclose(np.load(folder / "bytes.npz")["output"], expected, atol=1e-5)


def test_an_input_that_does_not_fit_ends_it_by_name(folder: Path) -> None:
    """What was answered before is kept."""
    np.save(folder / "bad.npy", np.zeros((1, 3, 20, 25), dtype=np.float32))
    done = _infer(folder, folder / "x.npy", folder / "bad.npy", "-o", folder / "some")
    assert done.exit_code == 2
    assert "bad.npy: input 'input' is float32 1x3x20x25, the model takes" in done.stderr
    assert (folder / "some" / "x.npz").is_file()
