"""Latencies by planner: predicted, executed where that was measured, and the bound."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from nptp_opt.plot.colours import COLOURS, INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_latencies(
    predicted_s: Mapping[str, float],
    executed_s: Mapping[str, float] | None = None,
    *,
    bound_s: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """A bar per planner, in seconds; beside it the executed latency of those that have one."""
    import matplotlib.pyplot as plt

    ax = ax or plt.figure(layout="constrained").add_subplot()
    executed_s = executed_s or {}
    names = list(predicted_s)
    ways = [("predicted", predicted_s, COLOURS[0]), ("executed", executed_s, COLOURS[1])]
    height = 0.8 if not executed_s else 0.4
    for k, (word, seconds, colour) in enumerate(ways):
        rows = [i for i, name in enumerate(names) if name in seconds]
        values = [seconds[names[i]] * 1e3 for i in rows]
        if rows:
            at = [i + (k - 0.5) * height * bool(executed_s) for i in rows]
            bars = ax.barh(at, values, height, color=colour, ec=INK, lw=0.4, label=word)
            ax.bar_label(bars, fmt="%.4g", fontsize=7, padding=2)
    if bound_s is not None:
        ax.axvline(bound_s * 1e3, color=INK, lw=0.8, ls="--", label="bound of every plan")
    ax.set_yticks(range(len(names)), names, parse_math=False)
    ax.invert_yaxis()
    ax.margins(x=0.12)
    ax.set_xlabel("latency, ms")
    ax.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=3)
    return ax
