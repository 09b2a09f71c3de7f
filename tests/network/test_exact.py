"""Which maps travel in fewer bytes without loss: what the nodes say, by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from nptp_opt.network.exact import Exact, Grid, Half
from nptp_opt.network.load import load_module


class Quantised(nn.Module):
    """A convolution, whose result is rounded in some way."""

    def __init__(self, after: Callable[[Quantised, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.after = nn.Conv2d(2, 4, 3), after
        self.register_buffer("scale", torch.tensor(0.1))
        self.register_buffer("zero", torch.tensor(3.0))
        self.register_buffer("many", torch.rand(1, 4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self, self.conv(x))


def grid_of(after: Callable[[Quantised, Tensor], Tensor]) -> Exact | None:
    """What is known of the result."""
    network = load_module(Quantised(after).eval(), "case", (1, 2, 9, 9)).network
    return network.exact.get(network.outputs[0])


def whole(m: Quantised, x: Tensor) -> Tensor:
    return ((x / m.scale).round() + m.zero).clamp(0, 255)


def test_rounded_and_bounded_numbers_are_whole() -> None:
    assert grid_of(whole) == Grid(0.0, 255.0)
    assert grid_of(lambda m, x: x.round().clamp(-128, 127)) == Grid(-128.0, 127.0)


def test_what_they_stand_for_is_on_a_grid() -> None:
    found = grid_of(lambda m, x: (whole(m, x) - m.zero) * m.scale)
    assert isinstance(found, Grid) and (found.low, found.high) == (0.0, 255.0)
    assert found.zero is not None and found.scale is not None and found.keys == {
        found.zero, found.scale,
    }  # fmt: skip


@pytest.mark.parametrize(
    "move",
    [
        lambda x: nn.functional.max_pool2d(x, 2), lambda x: x[:, :, 1:, ::2], lambda x: x[:, 1:3],
        lambda x: nn.functional.pixel_shuffle(x, 2), lambda x: nn.functional.channel_shuffle(x, 2),
    ],
)  # fmt: skip
def test_elements_that_only_move_stay_on_it(move: Callable[[Tensor], Tensor]) -> None:
    assert grid_of(lambda m, x: move((whole(m, x) - m.zero) * m.scale)) is not None


@pytest.mark.parametrize(
    "after",
    [
        lambda m, x: x, lambda m, x: x.round(), lambda m, x: x.round().clamp(0, 256),
        lambda m, x: x.round().clamp(0.5, 9), lambda m, x: x.clamp(0, 255),
        lambda m, x: whole(m, x) * m.many, lambda m, x: whole(m, x) + m.zero,
        lambda m, x: whole(m, x) * m.scale * m.scale, lambda m, x: whole(m, x).sqrt(),
        lambda m, x: whole(m, x) * m.scale - m.zero, lambda m, x: whole(m, x) + x,
        lambda m, x: nn.functional.avg_pool2d(whole(m, x), 2),
    ],
)  # fmt: skip
def test_what_may_take_other_values_is_not(after: Callable[[Quantised, Tensor], Tensor]) -> None:
    """Without bounds, with too many levels, scaled by channel, moved, summed, averaged."""
    assert grid_of(after) is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_what_is_computed_in_a_shorter_type_is_of_that_type(dtype: torch.dtype) -> None:
    name = str(dtype).removeprefix("torch.")
    assert grid_of(lambda m, x: nn.functional.max_pool2d(x.to(dtype).float().relu(), 2)) == Half(
        name  # type: ignore[arg-type]
    )
    assert grid_of(lambda m, x: torch.cat([x.to(dtype).float()] * 2, 1)) == Half(name)  # type: ignore[arg-type]
    assert grid_of(lambda m, x: torch.cat([x.to(dtype).float(), x], 1)) is None
    assert grid_of(lambda m, x: x.to(dtype).float() * m.scale) is None
