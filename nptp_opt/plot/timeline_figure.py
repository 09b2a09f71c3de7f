"""A plan on the clock: who computes when, and the messages; the critical path outlined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nptp_opt.evaluate.critical_path import critical_path
from nptp_opt.evaluate.simulate import Stretch, timeline
from nptp_opt.plan.model import Plan
from nptp_opt.plot.colours import INK, MOST_LABELS, device_keys, legend_columns, paint

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CRITICAL = "#b3003b"


def draw_timeline(plan: Plan, ax: Axes | None = None) -> Axes:
    """A row per device, the messages that it sends below its work; milliseconds from the input."""
    import matplotlib.pyplot as plt

    ax = ax or plt.figure(layout="constrained").add_subplot()
    stretches = timeline(plan.network, plan.cluster, plan.steps)
    path = set(critical_path(stretches))
    for stretch in sorted(stretches, key=lambda each: each in path):
        _bar(ax, stretch, critical=stretch in path)
    names = [device.name for device in plan.cluster.devices]
    _rows(ax, names)
    if plan.bound_s is not None:
        ax.axvline(plan.bound_s * 1e3, color=INK, lw=0.8, ls="--", label="bound")
    ax.set_xlim(0, plan.latency_s * 1e3)
    ax.set_xlabel("ms from the input")
    ax.grid(axis="x", alpha=0.3)
    return ax


def _bar(ax: Axes, stretch: Stretch, *, critical: bool) -> None:
    start_s, end_s = stretch.on_link_s or (stretch.start_s, stretch.end_s)
    low, height = (0.08, 0.22) if stretch.on_link_s else (-0.38, 0.42)
    look = paint(stretch.device) | {"linewidth": 1.2 if critical else 0.3}
    if critical:
        look["edgecolor"] = CRITICAL
    spans = [(start_s * 1e3, (end_s - start_s) * 1e3)]
    ax.broken_barh(spans, (stretch.device + low, height), **look)


def _rows(ax: Axes, names: Sequence[str]) -> None:
    """The first device at the top; many are told by numbers and a legend."""
    many = len(names) > MOST_LABELS
    ax.set_ylim(len(names) - 0.5, -0.5)
    rows = range(0, len(names), 1 + len(names) // 16) if many else range(len(names))
    ax.set_yticks([*rows], [str(i) if many else names[i] for i in rows], fontsize=7)
    if many:
        keys = device_keys([f"{i} {name}" for i, name in enumerate(names)], range(len(names)))
        ax.legend(handles=keys, fontsize=6, loc="upper left", bbox_to_anchor=(1.01, 1.0),
                  ncols=legend_columns(len(keys)))  # fmt: skip
