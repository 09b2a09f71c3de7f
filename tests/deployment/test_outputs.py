"""Answers become files with the model's own names, and classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from nptp_opt.deployment.outputs import OutputFiles, read_labels, top_classes
from nptp_opt.errors import InputError

OUTPUTS = {"out/1": torch.randn(1, 2, 3), "classes": torch.arange(4)}


def test_one_input_gives_one_file(tmp_path: Path) -> None:
    """Names, shapes and types come back as they were."""
    for name in ("a.npz", "a.safetensors"):
        files = OutputFiles(tmp_path / name, [Path("in.npy")])
        path = files.write(0, OUTPUTS)
        found = (
            load_file(path)
            if name.endswith("tensors")
            else {key: torch.from_numpy(value) for key, value in np.load(path).items()}
        )
        assert sorted(found) == sorted(OUTPUTS)
        for key, value in OUTPUTS.items():
            assert torch.equal(found[key], value) and found[key].dtype == value.dtype


def test_several_inputs_give_a_folder(tmp_path: Path) -> None:
    inputs = [Path("x/a.png"), Path("y/b.png")]
    files = OutputFiles(tmp_path / "deep" / "out", inputs)
    assert [files.write(k, OUTPUTS).name for k in range(2)] == ["a.npz", "b.npz"]
    assert OutputFiles(tmp_path, inputs[:1]).paths == [tmp_path / "a.npz"]


def test_a_name_without_an_ending_is_a_folder_that_is_made(tmp_path: Path) -> None:
    """Bug: a folder of one input, as in the documentation's `-o answers`, was refused."""
    files = OutputFiles(tmp_path / "answers", [Path("photos/a.png")])
    assert files.write(0, OUTPUTS) == tmp_path / "answers" / "a.npz"


def test_places_that_do_not_fit(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place, inputs, words in (
        ("out.json", ["a.npy"], "must end with .npz or .safetensors"),
        ("out.npz", ["a.npy", "b.npy"], "2 inputs need a folder"),
        ("out", ["x/a.npy", "y/a.npz"], "would both be .*a.npz: rename one"),
        ("file", ["a.npy", "b.npy"], "cannot be made a folder"),
    ):
        with pytest.raises(InputError, match=words):
            OutputFiles(tmp_path / place, [Path(name) for name in inputs])


def test_the_largest_values_are_the_classes(tmp_path: Path) -> None:
    """Of the first output, with the names of a file where one is given."""
    outputs = {"scores": torch.tensor([[0.1, 3.0, -1.0, 2.0]]), "rest": torch.zeros(9)}
    assert top_classes(outputs, 2, None) == [
        {"class": 1, "value": 3.0}, {"class": 3, "value": 2.0},
    ]  # fmt: skip
    (tmp_path / "l.txt").write_text("ant\nbee\ncat\ndog\n")
    labels = read_labels(tmp_path / "l.txt")
    assert top_classes(outputs, 1, labels) == [{"class": 1, "label": "bee", "value": 3.0}]
    with pytest.raises(InputError, match="`top` 5: output 'scores' has 4 classes"):
        top_classes(outputs, 5, labels)
    with pytest.raises(InputError, match="`labels` has 3 lines, output 'scores' 4 classes"):
        top_classes(outputs, 1, labels[:3])
    (tmp_path / "none.txt").touch()
    with pytest.raises(InputError, match="has no labels"):
        read_labels(tmp_path / "none.txt")
