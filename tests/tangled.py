"""Small random networks of all shapes that the planner may meet: ``Tangled``.

Branches that read the input again, joins, skips, pads, slices and shuffles without an operation,
reductions of any map, several outputs of any kind, maps that nothing reads, and single pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor, nn

from nptp_opt.network.load import LoadedModel, load_module

Op = Callable[..., Tensor]

SIZES = [(1, 1), (1, 2), (1, 5), (6, 1), (2, 2), (3, 4), (5, 5), (6, 7)]
"""Heights and widths of inputs: many have fewer rows, columns or pixels than there are devices."""


class Tangled(nn.Module):
    """Grown an op at a time from any maps that are there; ``seed`` decides it all."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.rng = Random(seed)
        self.shape = (self.rng.choice([1, 1, 2]), 4, *self.rng.choice(SIZES))
        self.ops: list[tuple[Op, Sequence[int]]] = []
        self.parts = nn.ModuleList()
        self.maps = [torch.zeros(self.shape)]
        wanted = self.rng.randint(1, 8)
        while len(self.ops) < wanted:
            self._grow()
        self.outputs = self._chosen_outputs()

    def _grow(self) -> None:
        """One more op; one that does not fit the maps is left out."""
        makers = [self._conv, self._conv, self._still, self._still, self._pool, self._join,
                  self._join, self._reduce, self._scale, self._norm, self._large]  # fmt: skip
        self.rng.choice(makers)()

    def _some(self) -> int:
        """Any map that is there, a late one rather than an early one."""
        return max(self.rng.randrange(len(self.maps)) for _ in range(self.rng.randint(1, 2)))

    def _add(self, op: Op, *sources: int) -> None:
        with torch.no_grad():
            self.maps.append(op(*(self.maps[k] for k in sources)))
        self.ops.append((op, sources))

    def _part(self, part: nn.Module) -> nn.Module:
        self.parts.append(part.eval())
        return part

    def _conv(self) -> None:
        at = self._some()
        kernel, padding, stride = self.rng.choice([(1, 0, 1), (3, 1, 1), (3, 1, 2), (1, 1, 2)])
        channels = self.rng.choice([2, 4])
        conv = nn.Conv2d(self.maps[at].shape[1], channels, kernel, stride, padding)
        self._add(self._part(conv), at)

    def _still(self) -> None:
        """An op without a single operation."""
        at = self._some()
        c, h, w = self.maps[at].shape[1:]
        ops: list[Op] = [lambda x: F.pad(x, (1, 0, 0, 2)), lambda x: x[:, :, : (h + 1) // 2]]
        ops += [lambda x: F.channel_shuffle(x, 2)] if c % 2 == 0 else []
        ops += [lambda x: F.pixel_shuffle(x, 2)] if c % 4 == 0 and h * w < 20 else []
        ops += [lambda x: torch.cat([x[:, 1:], x], 1)] if 1 < c < 6 else []
        ops += [lambda x: x[:, :, :, 1:]] if w > 1 else []
        self._add(self.rng.choice(ops), at)

    def _pool(self) -> None:
        pool: Op = self.rng.choice([nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(3, 1, 1), nn.ReLU()])
        self._add(pool, self._some())

    def _join(self) -> None:
        """A sum or a concat of two maps; the second is fitted to the first."""
        one, two = self._some(), self._some()
        c, h, w = self.maps[one].shape[1:]
        if self.maps[two].shape[2:] != (h, w):
            return
        if self.rng.random() < 0.4:
            self._add(lambda a, b: torch.cat([a, b], 1), one, two)
            return
        if self.maps[two].shape[1] != c:
            self._add(self._part(nn.Conv2d(self.maps[two].shape[1], c, 1)), two)
            two = len(self.maps) - 1
        self._add(lambda a, b: (a + b).relu(), one, two)

    def _reduce(self) -> None:
        ops: list[Op] = [nn.AdaptiveAvgPool2d(1), nn.AdaptiveMaxPool2d(1)]
        self._add(self.rng.choice(ops), self._some())

    def _scale(self) -> None:
        """A map times what another one (or itself) is reduced to."""
        at, other = self._some(), self._some()
        dense = self._part(nn.Conv2d(self.maps[other].shape[1], self.maps[at].shape[1], 1))
        self._add(lambda x, y: x * dense(F.adaptive_avg_pool2d(y, 1)).sigmoid(), at, other)

    def _norm(self) -> None:
        """Also of what is reduced already: a group norm of a pooled map."""
        at = self._some()
        c = self.maps[at].shape[1]
        self._add(self._part(self.rng.choice([nn.GroupNorm(1, c), nn.BatchNorm2d(c)])), at)

    def _large(self) -> None:
        at = self._some()
        if max(self.maps[at].shape[2:]) < 6:
            self._add(nn.Upsample(scale_factor=2), at)

    def _chosen_outputs(self) -> list[int]:
        """The last map, at times others too."""
        made = range(1, len(self.maps))
        more = self.rng.sample(made, min(len(made), self.rng.choice([0, 1, 1, 2])))
        return list(dict.fromkeys([len(self.maps) - 1, *more]))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        maps = [x]
        for op, sources in self.ops:
            maps.append(op(*(maps[k] for k in sources)))
        return tuple(maps[k] for k in self.outputs)


def tangled(seed: int) -> LoadedModel:
    """The network of a seed, imported."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = Tangled(seed).eval()
    return load_module(module, f"tangled {seed}", module.shape)
