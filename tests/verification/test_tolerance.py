"""How far two right computations may lie apart, by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from nptp_opt.network.load import load_module
from nptp_opt.verification.tolerance import (
    OTHER_ENGINE,
    SAFETY,
    STEPS,
    TERMS,
    Rounding,
    difference,
    gain,
    largest,
    rounding,
    steps,
)

INF, NAN = math.inf, math.nan


@pytest.mark.parametrize(
    ("actual", "expected", "off"),
    [
        ([], [], 0.0),
        ([1.0, 2.0], [1.5, 0.0], 2.0),
        ([1.0], [1.0, 1.0], INF),
        ([INF, NAN, 1.0], [INF, NAN, 1.25], 0.25),
        ([INF, 1.0], [-INF, 1.0], INF),
        ([NAN, 1.0], [0.0, 1.0], INF),
        ([INF, 1.0], [0.0, 1.0], INF),
    ],
)
def test_the_largest_difference(actual: list[float], expected: list[float], off: float) -> None:
    assert difference(torch.tensor(actual), torch.tensor(expected)) == off


@pytest.mark.parametrize(
    ("values", "most"), [([], 0.0), ([1.0, -3.0], 3.0), ([INF, -3.0, NAN], 3.0), ([NAN], 0.0)]
)
def test_the_largest_finite_magnitude(values: list[float], most: float) -> None:
    assert largest(torch.tensor(values)) == most


def test_a_tensor_may_be_off_by_its_noise_its_terms_and_steps() -> None:
    single, double = torch.tensor([2.0, -1.0]), torch.tensor([2.0, -1.5], dtype=torch.float64)
    measured = rounding(single, double, terms=7.0, step=0.25)
    assert measured == Rounding(noise=0.5, terms=7.0, step=0.25)
    assert rounding(single, double).terms == 2.0
    assert rounding(single * NAN, double).noise == 0.0
    eps = {dtype: torch.finfo(dtype).eps for dtype in (torch.float32, torch.float64)}
    own = SAFETY * 0.5 + TERMS * eps[torch.float32] * 7.0
    assert measured.allowed(torch.float32) == pytest.approx(own + STEPS * 0.25)
    assert measured.allowed(torch.float32, OTHER_ENGINE) == pytest.approx(
        OTHER_ENGINE * own + STEPS * 0.25
    )
    share = eps[torch.float64] / eps[torch.float32]
    assert measured.allowed(torch.float64) == pytest.approx(own * share)


def _one(module: nn.Module, shape: tuple[int, ...]) -> float:
    """The gain of a module of one layer with the weights 1, -2, 3, ..."""
    with torch.no_grad():
        for weight in module.parameters():
            values = torch.arange(1.0, weight.numel() + 1) * torch.tensor([1.0, -1.0]).repeat(
                weight.numel() // 2
            )
            weight.copy_(values.reshape(weight.shape))
    model = load_module(nn.Sequential(module).eval(), "m", shape)
    return gain(model.network.layers[0], model.weights())


def test_the_gain_is_the_largest_sum_of_the_weights_of_one_output() -> None:
    """Of 1 to 6 in two rows, the second: 4 + 5 + 6; of a transposed convolution, whose weight has
    inputs first, the last column: 2 + 4 + 6. Without weights it is 1."""
    assert _one(nn.Conv2d(3, 2, 1, bias=False), (1, 3, 4, 4)) == 15.0
    assert _one(nn.ConvTranspose2d(3, 2, 1, bias=False), (1, 3, 4, 4)) == 12.0
    assert _one(nn.Sequential(nn.Flatten(), nn.Linear(3, 2, bias=False)), (1, 3, 1, 1)) == 15.0
    assert _one(nn.ReLU(), (1, 3, 4, 4)) == 1.0


def test_where_nothing_is_quantised_no_step_is_worth_anything() -> None:
    model = load_module(nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU()).eval(), "m", (1, 3, 6, 6))
    found = steps(model.network, model.weights())
    assert set(found) == {"input", *model.network.by_name} and set(found.values()) == {0.0}
