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
    carried = (each if each.is_floating_point() else each.float() for each in given)
    return dict(zip(network.inputs, carried, strict=True))


def random_inputs(
    network: Network, seed: int, dtype: torch.dtype | None = None
) -> tuple[torch.Tensor, ...]:
    """Values for every input of a network, as the network shapes it: normally distributed ones.

    Those of an input of uint8 are whole numbers from 0 to 255, in floating point like all values.
    """
    random = torch.Generator().manual_seed(seed)

    def drawn(name: str) -> torch.Tensor:
        shape = network.shapes[name]
        if name in network.input_dtypes:
            whole = torch.randint(0, 256, shape, generator=random)
            return whole.to(dtype or torch.get_default_dtype())
        return torch.randn(shape, generator=random, dtype=dtype)

    return tuple(map(drawn, network.inputs))
