"""Images as a camera gives them: the network takes uint8 and normalises it itself.

The normalisation is a layer of its own in front of all others, computed by whoever needs the
pixels; so an input's transfers take a byte per element. Its operations and their order are those
of normalising first, ``((x / scale) - mean) / std`` in the type of all values, to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from nptp_opt.errors import InputError
from nptp_opt.geometry import Window
from nptp_opt.network.given import Given, tensors_of
from nptp_opt.network.ir import Layer, Network, Node
from nptp_opt.network.ops import flop_per_element
from nptp_opt.network.ref import Pixels

PIXELS = ".pixels"
"""Follows on a model's own name of an input in the name of its pixels."""


def normalised(
    x: torch.Tensor, scale: float, mean: Sequence[float], std: Sequence[float]
) -> torch.Tensor:
    """Pixels (N, C, rows, columns), carried in floating point, as the model takes them."""
    mean_of, std_of = (
        torch.tensor(each, dtype=x.dtype, device=x.device).view(1, -1, 1, 1) for each in (mean, std)
    )
    return ((x / scale) - mean_of) / std_of


def of_pixels(network: Network, pixels: Mapping[str, Pixels]) -> Network:
    """The network of pixels: inputs named in ``pixels`` are uint8, and a layer in front of all
    others normalises each.

    Where nothing is to be normalised there is no such layer. Raises InputError for numbers that do
    not fit an input's channels.
    """
    for image, each in reversed([*pixels.items()]):  # so that the first is in front
        network = _of_image(network, image, each)
    return network


def _of_image(network: Network, image: str, pixels: Pixels) -> Network:
    shape = network.shapes[image]
    for name, values in (("mean", pixels.mean), ("std", pixels.std)):
        if len(values) not in (1, shape[1]):
            raise InputError(
                f"`{name}` has {len(values)} numbers, the input {image!r} {shape[1]} channels: "
                "give one for each, or one for all"
            )
    if pixels.changes_nothing:
        return replace(network, input_dtypes={**network.input_dtypes, image: "uint8"})
    given = image + PIXELS
    return replace(
        network,
        inputs=tuple(given if name == image else name for name in network.inputs),
        layers=(_normalising(given, image, shape, pixels), *network.layers),
        shapes={given: shape, **network.shapes},
        input_dtypes={**network.input_dtypes, given: "uint8"},
    )


def _normalising(given: str, image: str, shape: tuple[int, ...], pixels: Pixels) -> Layer:
    axes = Window(shape[2], shape[2]), Window(shape[3], shape[3])
    flop = flop_per_element("normalise") * math.prod(shape)
    attrs = {"scale": pixels.scale, "mean": list(pixels.mean), "std": list(pixels.std)}
    node = Node(image, "normalise", (given,), shape, attrs, {}, (axes,), flop)
    return Layer(image, "spatial", (node,), (given,), shape, {given: axes}, flop, 0)


def as_model_takes(x: Given, pixels: Sequence[Pixels | None]) -> Given:
    """Inputs of a network of pixels as the model behind it takes them; ``pixels`` are theirs."""
    given = tensors_of(x)
    if not any(pixels) or len(given) != len(pixels):  # another number is told where they are read
        return x
    return tuple(map(_as_taken, given, pixels))


def _as_taken(x: torch.Tensor, pixels: Pixels | None) -> torch.Tensor:
    if pixels is None or pixels.changes_nothing:
        return x
    return normalised(x if x.is_floating_point() else x.float(), *pixels.numbers)
