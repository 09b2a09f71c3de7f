"""Where each planner wins: curves over one range, a map of winners over two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nptp_opt.comparison.sweep import TIE, Axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABELS = {
    "rate": "rate, Mbit/s",
    "devices": "devices",
    "gflops": "GFLOP/s of the fastest device",
    "latency_ms": "latency of a message, ms",
}
NEARLY_THE_SAME = 4.0
MARKERS = "osD^v<>Xph*"


def draw_sweep(rows: Sequence[dict[str, Any]], axes: Sequence[Axis], title: str) -> Figure:
    """The finished ``rows`` of a sweep over one or two ``axes``."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.6) if len(axes) == 1 else (11, 4.8), layout="constrained")
    if len(axes) == 1:
        draw_curves(rows, axes[0], figure.add_subplot())
    else:
        draw_winners(rows, axes, figure.add_subplot(1, 2, 1))
        draw_ratios(rows, axes, figure.add_subplot(1, 2, 2))
    figure.suptitle(title, fontsize=9, parse_math=False)
    return figure


def draw_curves(rows: Sequence[dict[str, Any]], axis: Axis, ax: Axes | None = None) -> Axes:
    """Predicted latencies over one range, a curve per planner."""
    import matplotlib.pyplot as plt

    ax = ax or plt.figure(layout="constrained").add_subplot()
    at = [row[axis.name] for row in rows]
    for k, name in enumerate(rows[0]["latency_s"]):
        values = [row["latency_s"][name] for row in rows]
        ms = [np.nan if value is None else value * 1e3 for value in values]
        width, order = (2.5, 3) if name == "nptp" else (1.0, 2)
        marker = MARKERS[k % len(MARKERS)]
        ax.plot(at, ms, marker=marker, ms=4, lw=width, zorder=order, color=_colour(k), label=name)
    if axis.name == "devices":
        ax.set_xticks(at)
    elif axis.values[0] > 0 and len(at) > 1:
        ax.set_xscale("log")
        ax.set_xticks(at, [_short(value) for value in at])
        ax.minorticks_off()
    _latencies(ax, [value for row in rows for value in row["latency_s"].values() if value])
    ax.set_xlabel(LABELS[axis.name])
    ax.set_ylabel("predicted latency, ms")
    ax.grid(alpha=0.3)
    ax.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return ax


def _latencies(ax: Axes, seconds: Sequence[float]) -> None:
    """Logarithmic with few numbers, which do not overlap; linear where all are nearly the same."""
    from matplotlib.ticker import LogLocator

    if not seconds or max(seconds) < NEARLY_THE_SAME * min(seconds):
        return
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter("")


def draw_winners(
    rows: Sequence[dict[str, Any]], axes: Sequence[Axis], ax: Axes | None = None
) -> Axes:
    """Who is fastest over two ranges."""
    import matplotlib.pyplot as plt
    from matplotlib.patches import Patch

    ax = ax or plt.figure(layout="constrained").add_subplot()
    names = list(rows[0]["latency_s"])
    image = np.ones((len(axes[1].values), len(axes[0].values), 3))
    for (x, y), row in _cells(rows, axes):
        if row["winner"] is not None:
            image[y, x] = _colour(names.index(row["winner"]))[:3]
    ax.imshow(image, origin="lower", aspect="auto")
    won = [name for name in names if any(row["winner"] == name for row in rows)]
    patches = [Patch(color=_colour(names.index(name)), label=name) for name in won]
    ax.legend(handles=patches, fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.15), ncol=4)
    ax.set_title(f"fastest (nptp where it gains over {TIE:.1%})", fontsize=9)
    _ticks(ax, axes)
    return ax


def draw_ratios(
    rows: Sequence[dict[str, Any]], axes: Sequence[Axis], ax: Axes | None = None
) -> Axes:
    """The latency of nptp over that of the best baseline, over two ranges."""
    import matplotlib.pyplot as plt

    ax = ax or plt.figure(layout="constrained").add_subplot()
    values = np.full((len(axes[1].values), len(axes[0].values)), np.nan)
    for (x, y), row in _cells(rows, axes):
        if row["ratio"] is not None:
            values[y, x] = row["ratio"]
            ax.text(x, y, f"{row['ratio']:.3f}", ha="center", va="center", fontsize=8)
    ax.imshow(values, origin="lower", aspect="auto", cmap="RdYlGn_r", vmin=0.3, vmax=1.7)
    ax.set_title("latency of nptp / best baseline", fontsize=9)
    _ticks(ax, axes)
    return ax


def _cells(
    rows: Sequence[dict[str, Any]], axes: Sequence[Axis]
) -> list[tuple[tuple[int, int], dict[str, Any]]]:
    """Column and line of every row."""
    x, y = axes
    return [((x.values.index(r[x.name]), y.values.index(r[y.name])), r) for r in rows]


def _ticks(ax: Axes, axes: Sequence[Axis]) -> None:
    x, y = axes
    ax.set_xticks(range(len(x.values)), [_short(value) for value in x.values])
    ax.set_yticks(range(len(y.values)), [_short(value) for value in y.values])
    ax.set_xlabel(LABELS[x.name])
    ax.set_ylabel(LABELS[y.name])


def _short(value: float) -> str:
    """Three digits, without an exponent up to a million."""
    return f"{float(f'{value:.3g}'):g}"


def _colour(number: int) -> tuple[float, float, float, float]:
    from matplotlib import colormaps

    red, green, blue, alpha = colormaps["tab20"](number * 2 % 20 + number // 10)
    return red, green, blue, alpha
