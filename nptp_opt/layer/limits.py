"""When a method stops, and what it is told before."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from nptp_opt.errors import InputError
from nptp_opt.geometry import Tile


@dataclass(frozen=True)
class Limits:
    """When to stop. ``gap`` is (value - bound) / value; ``threads`` 0 lets the solver choose.

    ``prove`` False: only the partition matters, so methods leave out what serves the bound alone.
    """

    time_limit_s: float = math.inf
    gap: float = 1e-6
    seed: int = 0
    threads: int = 1
    prove: bool = True

    def __post_init__(self) -> None:
        if not self.time_limit_s > 0:
            raise InputError(f"time limit must be above 0 s, got {self.time_limit_s}")
        if not 0 <= self.gap < 1:
            raise InputError(f"gap must be in [0, 1), got {self.gap}")
        if not 0 <= self.seed < 2**31:
            raise InputError(f"seed must be in [0, 2^31), got {self.seed}")
        if self.threads < 0:
            raise InputError(f"threads must be 0 or more, got {self.threads}")


@dataclass(frozen=True)
class Hints:
    """What is known before: a partition to start from, and a lower bound on any makespan."""

    start: Mapping[int, Tile] | None = None
    bound_s: float | None = None
