"""Small torch models, for tests that go through the importer: ``tests.models:small_cnn``."""

from __future__ import annotations

import sys

import torch
from torch import nn


def small_cnn() -> nn.Module:
    """Convolutions (k3, k5 with stride 2), pooling, batch norm, and a linear head."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 5, stride=2, padding=2, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Dropout(),
        nn.Linear(64, 10),
    )


def fully_convolutional() -> nn.Module:
    """The result is a feature map: the sink collects it."""
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 3, 2))


class Factoring(nn.Module):
    """Uses an op that no importer handles."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.qr(x)[0]


class Deciding(nn.Module):
    """Data decide what it computes; it says so on stderr."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.conv(x)
        print("deciding", file=sys.stderr)
        return y if y.sum() > 0 else -y


def handing_on() -> nn.Module:
    """Hands its input on."""
    return nn.Identity()


def noisy() -> nn.Module:
    """A user's module that prints while it is built."""
    print("hello from my module")
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())


def quitting() -> nn.Module:
    """A user's module that ends the process."""
    raise SystemExit(7)
