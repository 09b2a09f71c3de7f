"""Small networks of several inputs, of two dimensions, and of maps that few devices can share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

IMAGE = (1, 3, 12, 10)

Shapes = tuple[tuple[int, ...], ...]


class ImageAndVector(nn.Module):
    """Features of an image joined with a vector in front of a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(10, 5)

    def forward(self, image: Tensor, vector: Tensor) -> Tensor:
        features = torch.relu(self.conv(image)).mean((2, 3))
        made: Tensor = self.head(torch.cat([features, vector], 1))
        return made


class TwoImages(nn.Module):
    """Two images, one behind the other in the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(6, 8, 3, padding=1), nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        made: Tensor = self.second(torch.relu(self.first(torch.cat([left, right], 1))))
        return made


class ReadAgain(nn.Module):
    """Both inputs are read by several layers, the second for the first time in the middle."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1)
        self.third = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        z: Tensor = self.second(torch.relu(self.first(x))) + y
        return self.third(z) * y + x


class Modulated(nn.Module):
    """A vector sets the weight of every channel of a map."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1)
        self.weigh = nn.Linear(4, 8)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        made: Tensor = self.second(self.first(x) * self.weigh(style)[:, :, None, None])
        return made


class ImageAndSequence(nn.Module):
    """An image and a sequence of three dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.sequence = nn.Conv2d(3, 8, 3, padding=1), nn.Conv1d(4, 8, 3, padding=1)

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        made: Tensor = self.image(x) + self.sequence(s).mean(2)[:, :, None, None]
        return made


class OneUnused(nn.Module):
    """The first input is not read."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)

    def forward(self, unused: Tensor, x: Tensor) -> Tensor:
        made: Tensor = self.conv(x)
        return made


class TwoVectors(nn.Module):
    """Linear layers of two inputs, added."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(16, 8), nn.Linear(4, 8)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.relu(self.first(x)) + self.second(y)


def linears() -> nn.Module:
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 5))


def convolutions(*head: nn.Module) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 3, padding=1), *head
    )


def classifier() -> nn.Module:
    return convolutions(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 7))


def hourglass() -> nn.Module:
    """Down to a map of 1x1 from one of 8x8, and up again."""
    down = [nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1), nn.Conv2d(8, 4, 3, 2, 1)]
    return nn.Sequential(*down, nn.Upsample(scale_factor=4), nn.Conv2d(4, 4, 3, padding=1))


SEVERAL: dict[str, tuple[Callable[[], nn.Module], Shapes]] = {
    "image-and-vector": (ImageAndVector, (IMAGE, (1, 2))),
    "two-images": (TwoImages, (IMAGE, IMAGE)),
    "read-again": (ReadAgain, (IMAGE, IMAGE)),
    "modulated": (Modulated, (IMAGE, (1, 4))),
    "image-and-sequence": (ImageAndSequence, (IMAGE, (1, 4, 7))),
    "one-unused": (OneUnused, ((1, 2), IMAGE)),
    "two-vectors": (TwoVectors, ((1, 16), (1, 4))),
}

SMALL: dict[str, tuple[Callable[[], nn.Module], Shapes]] = {
    "linears": (linears, ((1, 16),)),
    "linears-batch": (linears, ((5, 16),)),
    "map-2x2": (convolutions, ((1, 3, 2, 2),)),
    "map-1x1": (convolutions, ((1, 3, 1, 1),)),
    "map-1x2": (convolutions, ((1, 3, 1, 2),)),
    "map-3x1-batch": (convolutions, ((2, 3, 3, 1),)),
    "classifier-2x2": (classifier, ((1, 3, 2, 2),)),
    "classifier-1x1": (classifier, ((1, 3, 1, 1),)),
    "hourglass": (hourglass, ((1, 3, 8, 8),)),
}
