"""All partitions of small maps: what exhaustive searches go through."""

from __future__ import annotations

import itertools

from nptp_opt.geometry import Tile
from tests.brute import FAMILIES


def all_partitions(height: int, width: int, devices: int, family: str) -> list[dict[int, Tile]]:
    """Every partition of the family with every assignment of its tiles to different devices."""
    found = []
    cuts = range(height + 1), range(width + 1)
    for partition in {*FAMILIES[family](*cuts, devices)}:
        for owners in itertools.permutations(range(devices), len(partition)):
            found.append(dict(zip(owners, sorted(partition), strict=True)))
    return found
