"""Small torch models to execute; ``load_model`` finds them as ``tests.runtime.models:NAME``."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def chain() -> nn.Module:
    """Kernels of 1, 3 and 5, stride 2, a pool, batch norm and a head."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(6, 8, 5, stride=2, padding=2),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 4, 1),
        nn.MaxPool2d(3, 2, 1),
        nn.Conv2d(4, 6, 3, padding=1),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(24, 7),
    )


class _Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.a = nn.Conv2d(4, 4, 3, padding=1)
        self.b = nn.Conv2d(4, 4, 5, padding=2)
        self.down = nn.Conv2d(4, 6, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = (self.b(self.a(x).relu()) + x).relu()
        return self.down(x)


def residual() -> nn.Module:
    """A skip around two convolutions; the result is a feature map."""
    return _Residual()


class _Squeeze(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3, padding=1)
        self.down, self.up = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.b = nn.Conv2d(8, 6, 3, stride=2, padding=1)
        self.norm = nn.GroupNorm(2, 6)
        self.c = nn.Conv2d(6, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x).relu()
        scale = self.up(self.down(nn.functional.adaptive_avg_pool2d(x, 1)).relu()).sigmoid()
        return self.c(self.norm(self.b(x * scale)))


def squeeze() -> nn.Module:
    """Squeeze and excitation, and a group norm: reductions over all devices."""
    return _Squeeze()


def classifier() -> nn.Module:
    """A flattened map, two linear layers, and a softmax of what they make."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(720, 50),
        nn.ReLU(),
        nn.Linear(50, 9, bias=False),
        nn.Softmax(1),
    )


def pooled() -> nn.Module:
    """Two linear layers of channels that every device holds."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2, padding=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 20),
        nn.ReLU(),
        nn.Linear(20, 9),
    )


class _Together(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.a, self.b = nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.down = nn.Sequential(nn.Conv2d(6, 8, 3, 2, 1), nn.ReLU(), nn.MaxPool2d(2))
        self.side = nn.Conv2d(6, 2, 1)
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(240, 256), nn.ReLU(), nn.Dropout(), nn.Linear(256, 10)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stem(x)
        x = (self.b(self.a(x).relu()) + x).relu()
        return self.head(self.down(x)), self.side(x)


def together() -> nn.Module:
    """Batch norm, a skip, stride 2, a pool and a head of two linear layers; two outputs."""
    return _Together()


class _Attentive(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.ReLU())
        self.out = nn.Conv2d(6, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        tokens = x.flatten(2).transpose(1, 2)
        mixed = (tokens @ tokens.transpose(1, 2)).softmax(-1) @ tokens
        x = x + mixed.transpose(1, 2).reshape(x.shape)
        x = x * torch.cumsum(x.mean((2, 3)), 1).sigmoid().view(x.shape[0], -1, 1, 1)
        y: Tensor = self.out(self.body(x))
        return y


def attentive() -> nn.Module:
    """Attention over pixels, channels weighed by an op without a rule, then convolutions."""
    return _Attentive()
