"""Performance profiles (Dolan and Moré): the share of cases within a factor of the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from nptp_opt.plot.curves import line_looks

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Curve = Sequence[tuple[float, float]]


def draw_profile(curves: Mapping[str, Curve], measure: str, ax: Axes | None = None) -> Axes:
    """``curves`` by contender, points (factor, share), as ``comparison.measures.profiles`` gives
    them; ``measure`` is what the factor is of."""
    import matplotlib.pyplot as plt

    ax = ax or plt.figure(layout="constrained").add_subplot()
    last = max((curve[-1][0] for curve in curves.values() if curve), default=1.0)
    end = max(1.05, last * 1.05)
    for look, (name, curve) in zip(line_looks(), curves.items(), strict=False):
        points = [*curve, (end, curve[-1][1] if curve else 0.0)]
        ax.step(*zip(*points, strict=True), where="post", label=name, **look)
    if end > 4:
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter("{x:g}")
    ax.set(xlim=(1.0, end), ylim=(0, 1.02), ylabel="share of the shared cases")
    ax.set_xlabel(f"{measure} / best {measure}, at most")
    ax.grid(alpha=0.3)
    ax.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return ax
