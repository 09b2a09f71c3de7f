"""From pixels to what a model takes: scale, mean and deviation per channel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nptp_opt.errors import InputError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""What torchvision's models were trained with, red first."""


@dataclass(frozen=True)
class Normalising:
    """A pixel p of 0 to 255 becomes (p * scale - mean) / std, channel by channel."""

    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __str__(self) -> str:
        mean, std = (",".join(f"{value:.6g}" for value in each) for each in (self.mean, self.std))
        return f"scale {self.scale:.6g}, mean {mean}, std {std}"


def normalising(
    channels: int,
    scale: float | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Normalising:
    """What is given, with ImageNet's values for colour and none for grey where it is not.

    One value stands for all channels. Raises InputError for another number of them.
    """
    colour = channels == 3
    chosen = {
        "mean": mean or (IMAGENET_MEAN if colour else (0.0,)),
        "std": std or (IMAGENET_STD if colour else (1.0,)),
    }
    spread = {}
    for name, values in chosen.items():
        if len(values) not in (1, channels):
            raise InputError(f"`{name}`: {len(values)} values for {channels} channels")
        spread[name] = tuple(values) * (channels if len(values) == 1 else 1)
    if 0 in spread["std"]:
        raise InputError("`std`: must not be 0")
    return Normalising(1 / 255 if scale is None else scale, spread["mean"], spread["std"])
