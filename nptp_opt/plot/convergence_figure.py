"""Convergence: the mean gap between value and bound over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from nptp_opt.plot.curves import line_looks

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_convergence(
    curves: Mapping[str, Sequence[tuple[float, float]]], ax: Axes | None = None
) -> Axes:
    """``curves`` by contender, points (seconds, gap from 0 to 1), as
    ``comparison.measures.gap_curves`` gives them."""
    import matplotlib.pyplot as plt

    ax = ax or plt.figure(layout="constrained").add_subplot()
    for look, (name, curve) in zip(line_looks(), curves.items(), strict=False):
        ax.step(*zip(*curve, strict=True), where="post", label=name, **look)
    ax.set(xscale="log", ylim=(0, 1.02), xlabel="s", ylabel="mean gap, (value - bound) / value")
    ax.grid(alpha=0.3)
    ax.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return ax
