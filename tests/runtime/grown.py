"""Small random networks with branches, reductions, several outputs and linear layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

import torch
from torch import Tensor, nn
from torch.nn import functional

from nptp_opt.network.load import LoadedModel, load_module

Op = Callable[..., Tensor]


class Grown(nn.Module):
    """Grown at random, an op at a time, from the maps that are there; ``seed`` decides it all."""

    def __init__(self, seed: int, channels: int = 3) -> None:
        super().__init__()
        self.rng = Random(seed)
        self.ops: list[tuple[Op, Sequence[int]]] = []
        self.parts = nn.ModuleList()
        self.channels, self.scale = [channels], [0]
        for _ in range(self.rng.randint(3, 7)):
            self._grow()
        last = len(self.channels) - 1
        self.outputs = [last]
        if self.rng.random() < 0.5 and last > 2:
            self.outputs.append(self.rng.randrange(1, last))
        self._end(last)

    def _grow(self) -> None:
        at = len(self.channels) - 1
        grow = self.rng.choice(
            [self._conv, self._conv, self._conv, self._pool, self._add, self._cat, self._squeeze,
             self._norm, self._up]
        )  # fmt: skip
        grow(at)

    def _keep(self, part: nn.Module) -> nn.Module:
        self.parts.append(part)
        return part

    def _note(self, op: Op, sources: Sequence[int], channels: int, scale: int) -> None:
        self.ops.append((op, sources))
        self.channels.append(channels)
        self.scale.append(scale)

    def _conv(self, at: int) -> None:
        kernel, stride = self.rng.choice([(1, 1), (3, 1), (3, 1), (5, 1), (3, 2), (1, 2), (2, 2)])
        stride = stride if self.scale[at] < 2 else 1
        channels = self.rng.choice([2, 4, 6])
        conv = self._keep(
            nn.Conv2d(self.channels[at], channels, kernel, stride, padding=kernel // 2)
        )
        relu = self.rng.random() < 0.5
        self._note(
            lambda x: conv(x).relu() if relu else conv(x),
            [at],
            channels,
            self.scale[at] + (stride == 2),
        )

    def _pool(self, at: int) -> None:
        if self.scale[at] < 2:
            pool = self.rng.choice([nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2, ceil_mode=True)])
            self._note(pool, [at], self.channels[at], self.scale[at] + 1)
        else:
            self._note(nn.MaxPool2d(3, 1, 1), [at], self.channels[at], self.scale[at])

    def _add(self, at: int) -> None:
        """A block with a skip around one or two convolutions."""
        c = self.channels[at]
        for _ in range(self.rng.randint(1, 2)):
            conv = self._keep(nn.Conv2d(c, c, 3, padding=1))
            self._note(conv, [len(self.channels) - 1], c, self.scale[at])
        self._note(lambda a, b: (a + b).relu(), [at, len(self.channels) - 1], c, self.scale[at])

    def _cat(self, at: int) -> None:
        """Two branches of one map, joined by their channels."""
        c, scale = self.channels[at], self.scale[at]
        for kernel in (1, 3):
            conv = self._keep(nn.Conv2d(c, kernel + 1, kernel, padding=kernel // 2))
            self._note(conv, [at], kernel + 1, scale)
        here = len(self.channels)
        self._note(lambda a, b: torch.cat([a, b], 1), [here - 2, here - 1], 6, scale)

    def _squeeze(self, at: int) -> None:
        """Squeeze and excitation."""
        conv = self._keep(nn.Conv2d(self.channels[at], self.channels[at], 1))
        self._note(
            lambda x: x * conv(functional.adaptive_avg_pool2d(x, 1)).sigmoid(),
            [at],
            self.channels[at],
            self.scale[at],
        )

    def _norm(self, at: int) -> None:
        norm = self.rng.choice([nn.BatchNorm2d, lambda c: nn.GroupNorm(1, c)])
        part = self._keep(norm(self.channels[at]))
        self._note(part, [at], self.channels[at], self.scale[at])

    def _up(self, at: int) -> None:
        if self.scale[at] == 0:
            self._conv(at)
            return
        up = self.rng.choice(
            [nn.Upsample(scale_factor=2), nn.Upsample(scale_factor=2, mode="bilinear")]
        )
        self._note(up, [at], self.channels[at], self.scale[at] + 8)

    def _end(self, last: int) -> None:
        """Nothing more, or linear layers of a pooled map."""
        size = self.rng.choice([0, 0, 1, 2])
        self.head: nn.Module | None = None
        if size:
            features = self.channels[last] * size * size
            self.head = nn.Sequential(
                nn.AdaptiveAvgPool2d(size), nn.Flatten(), nn.Linear(features, 9),
                nn.ReLU(), nn.Linear(9, 5),
            )  # fmt: skip

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        maps = [x]
        for op, sources in self.ops:
            maps.append(op(*(maps[k] for k in sources)))
        found = [maps[k] for k in self.outputs]
        if self.head is not None:
            found[0] = self.head(found[0])
        return tuple(found)


def grown_model(seed: int, rng: Random, rows: int, columns: int) -> LoadedModel:
    """One of a batch or two, of up to so many rows and columns; ``rng`` decides."""
    shape = (rng.choice([1, 2]), 3, rng.randint(9, rows), rng.randint(8, columns))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return load_module(Grown(seed).eval(), f"grown {seed}", shape)
