"""How a model's own dimensions lie on the canonical (N, C, H, W).

Models permute to channels-last, drop dimensions of size 1 and split channels into groups. None of
that moves data between pixels, so it is tracked here instead of becoming an op.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Axis = str | int
"""``n``, ``h``, ``w``, ``1`` (a dimension of size 1 that is none of them), or a channel factor."""

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """``axes`` names each dimension of a model's tensor.

    ``factors`` are the sizes of the channel factors in canonical order; their product is C. A
    letter that is missing from ``axes`` has size 1.
    """

    axes: tuple[Axis, ...]
    factors: Shape

    @property
    def is_standard(self) -> bool:
        return self.axes == ("n", 0, "h", "w")

    @property
    def channels(self) -> tuple[int, ...]:
        """Positions of the channel dimensions."""
        return tuple(i for i, axis in enumerate(self.axes) if isinstance(axis, int))

    def canonical(self, shape: Sequence[int]) -> Shape:
        """(N, C, H, W) of a tensor of this layout and ``shape``."""
        size = dict(zip(self.axes, shape, strict=True))
        return size.get("n", 1), math.prod(self.factors), size.get("h", 1), size.get("w", 1)

    def order(self) -> tuple[int, ...]:
        """Permutation of the dimensions after which a reshape gives the canonical tensor."""
        rank: dict[Axis, float] = {"n": -1, "1": 0.5, "h": 1e6, "w": 2e6}
        return tuple(
            sorted(range(len(self.axes)), key=lambda i: rank.get(self.axes[i], self.axes[i]))
        )

    def permuted(self, dims: Sequence[int]) -> Layout:
        return Layout(tuple(self.axes[d] for d in dims), self.factors)


FEATURES = Layout(("n", "h"), (1,))
"""What a linear layer makes: samples x features, the features lying as the rows of a map."""


def standard(channels: int) -> Layout:
    """The layout of a tensor that already is (N, C, H, W)."""
    return Layout(("n", 0, "h", "w"), (channels,))


def layout_of_input(shape: Sequence[int], *, channels_last: bool = False) -> Layout | None:
    """Layout of a model input of rank 2 to 4; None for any other rank."""
    if channels_last and len(shape) == 4:
        return Layout(("n", "h", "w", 0), (shape[3],))
    axes: dict[int, tuple[Axis, ...]] = {2: ("n", 0), 3: ("n", 0, "w"), 4: ("n", 0, "h", "w")}
    return Layout(axes[len(shape)], (shape[1],)) if len(shape) in axes else None


def reshaped(layout: Layout, old: Sequence[int], new: Sequence[int]) -> Layout | None:
    """Layout after a reshape that only splits or merges channels or dimensions of size 1.

    Channels that are merged must be in canonical order. None when a reshape does anything else:
    then pixels, samples and channels are mixed and the tensor is no feature map any more.
    """
    axes: list[Axis | None] = [None] * len(new)
    factors = layout.factors
    mixed: tuple[list[int], list[int]] | None = None
    for sources, targets in _groups(old, new):
        if len(sources) == len(targets) == 1:
            axes[targets[0]] = layout.axes[sources[0]]
        elif mixed is None:
            mixed = [axis for i in sources if isinstance(axis := layout.axes[i], int)], targets
            if len(mixed[0]) < len(sources):
                return None
        else:
            return None
    if mixed is not None:
        merged, targets = mixed
        first, last = merged[0], merged[-1]
        if merged != list(range(first, last + 1)):
            return None
        shift = len(targets) - len(merged)
        axes = [axis + shift if isinstance(axis, int) and axis > last else axis for axis in axes]
        for i, target in enumerate(targets):
            axes[target] = first + i
        factors = (*factors[:first], *(new[t] for t in targets), *factors[last + 1 :])
    return _named(axes, factors)


def _groups(old: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Smallest runs of old and new dimensions (size 1 left out) that hold the same elements."""
    left = [i for i, size in enumerate(old) if size != 1]
    right = [i for i, size in enumerate(new) if size != 1]
    groups = []
    while left and right:
        a, b = [left.pop(0)], [right.pop(0)]
        while (p := math.prod(old[i] for i in a)) != (q := math.prod(new[i] for i in b)):
            (a if p < q else b).append((left if p < q else right).pop(0))
        groups.append((a, b))
    return groups


def _named(axes: list[Axis | None], factors: Shape) -> Layout:
    """Fill in dimensions of size 1 with the letters that are missing, in the usual order.

    Factors of size 1 without a dimension are dropped or taken up again; that moves nothing.
    """
    used = [axis for axis in axes if isinstance(axis, int)]
    renumber = {axis: i for i, axis in enumerate(sorted(used))}
    found = [renumber[axis] if isinstance(axis, int) else axis for axis in axes]
    kept = tuple(factors[axis] for axis in sorted(used))
    if not used:
        found, kept = _with_channel(found), (1,)
    for position, axis in enumerate(found):
        if axis is None:
            found[position] = _letter(found, position)
    return Layout(tuple(axis for axis in found if axis is not None), kept)


def _with_channel(axes: list[Axis | None]) -> list[Axis | None]:
    """Give the channel (of size 1) the free dimension where it usually is, if there is any."""
    free = [i for i, axis in enumerate(axes) if axis is None]
    if free:
        axes[1 if 1 in free else free[0]] = 0
    return axes


def _letter(axes: list[Axis | None], position: int) -> Axis:
    """The letter of a dimension of size 1: n before the channels, then h and w, where free."""
    after = any(isinstance(axis, int) for axis in axes[:position])
    if not after:
        return "n" if "n" not in axes else "1"
    if "w" in axes[:position]:
        return "1"
    last = position == len(axes) - 1
    if "h" not in axes and not last:
        return "h"
    return "w" if last and "w" not in axes else "1"
