"""How a model's own dimensions lie on the canonical (N, C, H, W).

Models permute to channels-last, drop dimensions of size 1 and split channels into groups. None of
that moves data between pixels, so it is tracked here instead of becoming an op.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

Axis = str | int
"""``n``, ``h``, ``w``, ``hw`` (rows and columns as one dimension), ``1`` (a dimension of size 1
that is none of them), or a channel factor."""

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """``axes`` names each dimension of a model's tensor.

    ``factors`` are the sizes of the channel factors in canonical order; their product is C. A
    letter that is missing from ``axes`` has size 1. ``pixels`` are the rows and columns that make
    up a dimension ``hw``.
    """

    axes: tuple[Axis, ...]
    factors: Shape
    pixels: tuple[int, int] | None = None

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
        rows, columns = self.pixels or (size.get("h", 1), size.get("w", 1))
        return size.get("n", 1), math.prod(self.factors), rows, columns

    @property
    def spatial(self) -> tuple[int, ...]:
        """Positions of the dimensions that are rows, columns, or both."""
        return tuple(i for i, axis in enumerate(self.axes) if axis in ("h", "w", "hw"))

    def order(self) -> tuple[int, ...]:
        """Permutation of the dimensions after which a reshape gives the canonical tensor."""
        rank: dict[Axis, float] = {"n": -1, "1": 0.5, "h": 1e6, "hw": 1e6, "w": 2e6}
        return tuple(
            sorted(range(len(self.axes)), key=lambda i: rank.get(self.axes[i], self.axes[i]))
        )

    def permute(self, dims: Sequence[int]) -> Layout:
        return replace(self, axes=tuple(self.axes[d] for d in dims))

    def with_channels(self, *factors: int) -> Layout:
        """The same dimensions, the channels being others."""
        return replace(self, factors=factors)

    def reduced(self, dims: Sequence[int], *, keep: bool) -> Layout:
        """What is left when ``dims`` are summed over: of size 1 where they are kept, else gone."""
        gone = {self.axes[i] for i in dims}
        flat = bool(gone & {"h", "w", "hw"})
        axes = tuple(
            "h" if flat and axis == "hw" else axis
            for i, axis in enumerate(self.axes)
            if keep or i not in dims
        )
        factors = [1 if i in gone else size for i, size in enumerate(self.factors)]
        return _renumbered(axes, factors, None if flat else self.pixels)


FEATURES = Layout(("n", "h"), (1,))
"""What a linear layer makes: samples x features, the features lying as the rows of a map."""


def standard(channels: int) -> Layout:
    """The layout of a tensor that already is (N, C, H, W)."""
    return Layout(("n", 0, "h", "w"), (channels,))


def layout_of_input(shape: Sequence[int], *, channels_last: bool = False) -> Layout | None:
    """Layout of a model input of rank 2 to 5, a volume being the last; None for any other rank."""
    if len(shape) < 2:
        return None
    if channels_last and len(shape) == 4:
        return Layout(("n", "h", "w", 0), (shape[3],))
    axes: dict[int, tuple[Axis, ...]] = {
        2: ("n", 0),
        3: ("n", 0, "w"),
        4: ("n", 0, "h", "w"),
        5: ("n", 0, 1, "h", "w"),
    }
    channels = tuple(shape[1:3]) if len(shape) == 5 else (shape[1],)
    return Layout(axes[len(shape)], channels) if len(shape) in axes else None


def reshape_layout(layout: Layout, old: Sequence[int], new: Sequence[int]) -> Layout | None:
    """Layout after a reshape that only splits or merges channels, pixels or dimensions of size 1.

    Channels that are merged must be in canonical order. None when a reshape does anything else:
    then pixels, samples and channels are mixed and the tensor is no feature map any more.
    """
    axes: list[Axis | None] = [None] * len(new)
    runs: list[tuple[int, int, list[int]]] = []
    pixels = layout.pixels
    for sources, targets in groups(old, new):
        names = [layout.axes[i] for i in sources]
        if all(isinstance(name, int) for name in names):
            factors = [int(name) for name in names]
            if factors != list(range(factors[0], factors[0] + len(factors))):
                return None
            runs.append((factors[0], len(factors), targets))
        elif len(names) == len(targets) == 1:
            axes[targets[0]] = names[0]
        elif names == ["h", "w"] and len(targets) == 1:
            axes[targets[0]], pixels = "hw", (old[sources[0]], old[sources[1]])
        elif names == ["hw"] and tuple(new[t] for t in targets) == pixels:
            (axes[targets[0]], axes[targets[1]]), pixels = ("h", "w"), None
        else:
            return None
    order = [target for _, _, targets in sorted(runs) for target in targets]
    for place, target in enumerate(order):
        axes[target] = place
    return _name_axes(axes, tuple(new[target] for target in order), pixels)


def groups(old: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]]:
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


def _name_axes(axes: list[Axis | None], factors: Shape, pixels: tuple[int, int] | None) -> Layout:
    """Fill in dimensions of size 1 with the letters that are missing, in the usual order."""
    if not factors:
        axes, factors = _with_channel(axes), (1,)
    for position, axis in enumerate(axes):
        if axis is None:
            axes[position] = _letter(axes, position)
    return Layout(tuple(axis for axis in axes if axis is not None), factors, pixels)


def _renumbered(
    axes: tuple[Axis, ...], factors: Sequence[int], pixels: tuple[int, int] | None
) -> Layout:
    """The layout without factors of size 1 that no dimension stands for."""
    used = sorted(axis for axis in axes if isinstance(axis, int))
    places = {axis: i for i, axis in enumerate(used)}
    found = tuple(places[axis] if isinstance(axis, int) else axis for axis in axes)
    return Layout(found, tuple(factors[axis] for axis in used) or (1,), pixels)


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
    if "hw" in axes or "w" in axes[:position]:
        return "1"
    last = position == len(axes) - 1
    if "h" not in axes and not last:
        return "h"
    return "w" if last and "w" not in axes else "1"
