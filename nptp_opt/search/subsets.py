"""Multisets of interchangeable devices as count vectors, numbered in mixed radix.

With classes of sizes (c_0, c_1, ...) the set that takes k_j devices of class j has the number
sum k_j * stride_j. For T = S1 + S2 the numbers add, so the rest of a split is a subtraction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from nptp_opt.geometry import IntArray


@dataclass(frozen=True)
class Subsets:
    """All count vectors over classes of the given sizes."""

    sizes: tuple[int, ...]

    @property
    def count(self) -> int:
        """Number of count vectors, the empty one included."""
        return int(np.prod([size + 1 for size in self.sizes], dtype=float))

    @property
    def split_count(self) -> float:
        """Number of ordered splits (S1, S2) of all sets: the work of a search over them."""
        return float(np.prod([(size + 1) * (size + 2) / 2 for size in self.sizes]))

    @cached_property
    def strides(self) -> IntArray:
        return np.cumprod([1, *[size + 1 for size in self.sizes[:-1]]]).astype(np.int64)

    @cached_property
    def vectors(self) -> IntArray:
        """Count vectors by number, (count, classes)."""
        number = np.arange(self.count)[:, None]
        vectors: IntArray = (number // self.strides) % (np.array(self.sizes) + 1)
        return vectors

    @cached_property
    def by_size(self) -> IntArray:
        """Non-empty sets, smaller ones first."""
        order = np.argsort(self.vectors.sum(axis=1), kind="stable")
        return order[1:]

    @property
    def full(self) -> int:
        return self.count - 1

    def parts(self, number: int) -> IntArray:
        """Numbers of all proper non-empty subsets of a set."""
        numbers = np.zeros(1, dtype=np.int64)
        for have, stride in zip(self.vectors[number], self.strides, strict=True):
            numbers = (numbers[:, None] + np.arange(have + 1) * stride).ravel()
        return np.sort(numbers)[1:-1]

    def all_parts(self) -> Mapping[int, IntArray]:
        """``parts`` of every non-empty set; those of the last pools of devices are remembered."""
        return _all_parts(self.sizes)

    def classes_in(self, number: int) -> IntArray:
        """Classes of which the set holds at least one device."""
        return np.flatnonzero(self.vectors[number])


@lru_cache(maxsize=2)
def _all_parts(sizes: tuple[int, ...]) -> Mapping[int, IntArray]:
    subsets = Subsets(sizes)
    return {int(s): subsets.parts(int(s)) for s in subsets.by_size}


@dataclass
class DevicePool:
    """Hands out the devices of each class once, while a partition is built."""

    members: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        self._free = [list(group) for group in self.members]

    def take(self, cls: int) -> int:
        return self._free[cls].pop(0)
