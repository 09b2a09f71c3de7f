"""Weights of files: read safely, told apart by content, refused where they do not fit."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from nptp_opt.errors import InputError
from nptp_opt.network.load import load_model
from nptp_opt.network.weights import read_weights, weights_hash
from tests.models import small_cnn

MODEL, SHAPE = "tests.models:small_cnn", (1, 3, 20, 24)


def _trained() -> nn.Module:
    torch.manual_seed(5)
    return small_cnn().eval()


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "trained.safetensors"
    save_file(_trained().state_dict(), path)
    return path


def test_a_callables_model_computes_with_the_files_weights(weights: Path) -> None:
    """Not with those that the callable has drawn; the witness is filled alike."""
    x = torch.randn(SHAPE)
    loaded = load_model(MODEL, SHAPE, 0, weights)
    (name,) = loaded.network.outputs
    expected = _trained()(x)
    assert torch.allclose(loaded.reference(x, ())[name], expected, atol=1e-6)
    assert torch.equal(loaded.witness_outputs(x)[name], expected)
    assert not torch.allclose(load_model(MODEL, SHAPE).reference(x, ())[name], expected, atol=1e-3)


def test_a_torchvision_models_weights_are_the_files(tmp_path: Path) -> None:
    from nptp_opt.network import zoo

    torch.manual_seed(3)
    module = zoo.build("squeezenet1_1")
    torch.save(module.state_dict(), tmp_path / "w.pth")
    loaded = load_model("squeezenet1_1", (1, 3, 64, 64), 0, tmp_path / "w.pth")
    state = module.state_dict()
    assert loaded.ref.weights == weights_hash(state)
    assert all(torch.equal(loaded.state[key], value) for key, value in state.items())


def test_the_hash_is_of_the_content(weights: Path, tmp_path: Path) -> None:
    """The kind of file, the order and what it is wrapped in do not count; names, shapes, types
    and values do."""
    state = _trained().state_dict()
    digest = weights_hash(read_weights(weights))
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "a.ckpt")
    torch.save({f"module.{key}": state[key] for key in reversed(state)}, tmp_path / "b.pt")
    for name in ("a.ckpt", "b.pt"):
        assert weights_hash(read_weights(tmp_path / name)) == digest
    first = next(iter(state))
    others = [
        {**state, first: state[first] + 1e-6},
        {**state, first: state[first].reshape(3, 8, 3, 3)},
        {**state, first: state[first].double()},
        {f"{key}_": value for key, value in state.items()},
    ]
    assert len({digest, *map(weights_hash, others)}) == 5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("6.bias"), r"lacks '6.bias' of shape 16, which the model has"),
        (lambda s: s.update({"0.weight": torch.zeros(8, 1, 3, 3)}),
         r"has '0.weight' of shape 8x1x3x3, the model of shape 8x3x3x3"),
        (lambda s: s.update(head=torch.zeros(2)), r"has 'head' of shape 2, which the model lacks"),
    ],
)  # fmt: skip
def test_weights_of_another_architecture(tmp_path: Path, change: Any, words: str) -> None:
    """The first key and its shapes are named."""
    state = _trained().state_dict()
    change(state)
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(InputError, match=f"w.pt: weights of another architecture.*{words}"):
        load_model(MODEL, SHAPE, 0, tmp_path / "w.pt")


class _Evil:
    def __reduce__(self) -> Any:
        return print, ("this must not run",)


def test_files_that_hold_no_weights(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each says what it is, and code in a pickle is not run."""
    torch.save(small_cnn(), tmp_path / "module.pt")
    torch.save({"a": 1}, tmp_path / "number.pt")
    torch.save([torch.zeros(2)], tmp_path / "list.pt")
    (tmp_path / "evil.pt").write_bytes(pickle.dumps(_Evil()))
    (tmp_path / "text.pth").write_text("hello")
    (tmp_path / "empty.pt").touch()
    (tmp_path / "half.safetensors").write_bytes(weights.read_bytes()[:-9])
    for name, words in {
        "module.pt": "more than tensors",
        "number.pt": "'a' is no tensor",
        "list.pt": "no state dict but list",
        "evil.pt": "more than tensors",
        "text.pth": "cannot be read as a state dict",
        "empty.pt": "cannot be read as a state dict",
        "half.safetensors": "is no safetensors file",
        "none.pt": "is no file with weights",
    }.items():
        with pytest.raises(InputError, match=f"{name}: .*{words}"):
            read_weights(tmp_path / name)
    assert capsys.readouterr().out == ""
