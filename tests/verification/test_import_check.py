"""The check at import where maps are too large: the same model on a smaller input."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nptp_opt.errors import VerificationError
from nptp_opt.network.load import load_module
from nptp_opt.network.ref import shapes_of
from nptp_opt.verification import import_check
from nptp_opt.verification.import_check import check_import, within_memory
from tests.verification.test_mutants import MUTANTS, Patch

LARGE = (1, 3, 640, 512)


def _fully_convolutional() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)).eval()


def test_a_model_within_memory_is_held_at_its_own_size() -> None:
    model = load_module(_fully_convolutional(), "small", (1, 3, 64, 48))
    assert within_memory(model) is model


def test_large_maps_are_shrunk_in_proportion(monkeypatch: Patch) -> None:
    monkeypatch.setattr(import_check, "MOST_ELEMENTS", 4 * 640 * 512 // 4)
    model = load_module(_fully_convolutional(), "large", LARGE)
    smaller = within_memory(model)
    height, width = shapes_of(smaller.ref.input)[0][2:]
    assert (height % 32, width % 32) == (0, 0)
    assert height / width == pytest.approx(640 / 512, rel=0.2)
    assert height < 640
    check_import(model)


def test_a_model_that_takes_one_size_only_is_held_there(monkeypatch: Patch) -> None:
    monkeypatch.setattr(import_check, "MOST_ELEMENTS", 1000)
    fixed = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 62 * 46, 2)).eval()
    model = load_module(fixed, "fixed", (1, 3, 64, 48))
    assert within_memory(model) is model
    check_import(model)


def test_a_wrong_import_is_seen_at_the_smaller_size(monkeypatch: Patch) -> None:
    mutant = MUTANTS[0]
    mutant.apply(monkeypatch)
    torch.manual_seed(0)
    model = load_module(mutant.module().eval(), "mutant", (1, 4, 96, 96))
    monkeypatch.setattr(import_check, "MOST_ELEMENTS", 1000)
    assert within_memory(model) is not model
    with pytest.raises(VerificationError, match=r"is not the model: (layer|output) '"):
        check_import(model)
