"""What a network is run on: a tensor for each of its inputs."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from nptp_opt.errors import InputError
from nptp_opt.network.ir import Network

Given = torch.Tensor | Sequence[torch.Tensor]
"""The tensor of a network's only input, or one for every input, in the network's order."""


def tensors_of(x: Given) -> tuple[torch.Tensor, ...]:
    """The tensors of all inputs."""
    return tuple(x) if isinstance(x, Sequence) else (x,)


def by_input(network: Network, x: Given) -> dict[str, torch.Tensor]:
    """The tensor of every input by its name; raises InputError for another number of tensors."""
    given = tensors_of(x)
    if len(given) != len(network.inputs):
        raise InputError(
            f"network {network.name!r} reads {len(network.inputs)} inputs "
            f"({', '.join(network.inputs)}), {len(given)} are given"
        )
    return dict(zip(network.inputs, given, strict=True))


def random_inputs(
    network: Network, seed: int, dtype: torch.dtype | None = None
) -> tuple[torch.Tensor, ...]:
    """Normally distributed values for every input of a network, as the network shapes it."""
    random = torch.Generator().manual_seed(seed)
    shapes = (network.shapes[name] for name in network.inputs)
    return tuple(torch.randn(shape, generator=random, dtype=dtype) for shape in shapes)
