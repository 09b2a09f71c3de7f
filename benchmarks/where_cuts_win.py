"""Where two-dimensional cuts win, where strips are as good, and where one board is best.

    python benchmarks/where_cuts_win.py [--models A,B] [--minutes N]

Protocol. The clusters are those of ``nptp-opt sweep -c examples/eight-shared.toml`` over the rate
of the medium and the speed of the boards (8 equal ones), the input 1x3x224x224. Each point is
searched twice with the same work and seed: among all partitions, and among strips alone (rows or
columns, another kind and other devices in every segment; starts, candidates and changes that are no
strips are left out). So what differs is the shape of the cuts, not the search. ``nothing``: one
device alone is within a tenth of a per cent of the best. The searches have a tenth of the default
work: differences below a per cent are noise. Rows are written point by point; called again, it
computes what is missing. The figure is ``where_cuts_win.svg``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import matplotlib as mpl
from about import arguments, figure, head, kept, provenance, save

from nptp_opt.cluster import Cluster, load_cluster
from nptp_opt.comparison.sweep import TIE, parse_axis, points
from nptp_opt.evaluate.assemble import Choice
from nptp_opt.evaluate.clock import Clock
from nptp_opt.geometry import Tile
from nptp_opt.network.ir import Network
from nptp_opt.network.load import load_model
from nptp_opt.planner.baselines.pooled import plans_from_solved
from nptp_opt.planner.baselines.quick import QUICK, single_on
from nptp_opt.planner.candidates.pool import solved_layers, with_families
from nptp_opt.planner.local_search.anneal import searched
from nptp_opt.planner.local_search.operators import Operators
from nptp_opt.planner.nptp import paths
from nptp_opt.planner.options import PlanOptions
from nptp_opt.planner.path.discounted import FEW_DISCOUNTS

CLUSTER = Path(__file__).parents[1] / "examples" / "eight-shared.toml"
SHAPE = (1, 3, 224, 224)
MODELS = ("vgg16", "resnet50", "mobilenet_v2")
OVER = ("gflops=1:100:4", "rate=10:1000:5")
EFFORT, SEED = 0.1, 0
NOISE = 0.01
"""Gains of two-dimensional cuts below this are not told from strips."""

Row = dict[str, Any]
Plan = list[Choice]


def is_strips(tiles: dict[int, Tile]) -> bool:
    """Do all tiles have the same rows, or the same columns?"""
    sides = [(tile.y0, tile.y1) for tile in tiles.values()]
    return len(set(sides)) <= 1 or len({(tile.x0, tile.x1) for tile in tiles.values()}) <= 1


def only_strips(plan: Plan | None) -> bool:
    return plan is not None and all(is_strips(dict(choice.tiles)) for choice in plan)


def best_s(network: Network, cluster: Cluster, *, strips: bool) -> float:
    """Seconds of the best plan that the search finds, among all or among strips."""
    solved = solved_layers(network, cluster, PlanOptions())
    templates = with_families(network, cluster, solved)
    starts = [plan(network, cluster) for plan in QUICK.values()]
    starts += plans_from_solved(network, cluster, solved)
    if strips:
        size = network.spatial[0].height, network.spatial[0].width
        templates = [each for each in templates if is_strips(dict(each.at(*size)))]
    starts += paths(network, cluster, templates, discounts=FEW_DISCOUNTS)
    clock, draw = Clock(network, cluster), Operators.draw

    def drawn(self: Operators, plan: Plan) -> Plan | None:
        changed = draw(self, plan)
        return changed if not strips or only_strips(changed) else None

    with mock.patch.object(Operators, "draw", drawn):
        starts = [plan for plan in starts if not strips or only_strips(plan)]
        return clock.seconds(searched(clock, starts, templates, effort=EFFORT, seed=SEED))


def row(network: Network, cluster: Cluster) -> Row:
    """The three contenders at one point, and the seconds that this took."""
    began = time.process_time()
    clock = Clock(network, cluster)
    single = min(clock.seconds(single_on(network, k)) for k in range(len(cluster.devices)))
    strips = best_s(network, cluster, strips=True)
    cuts = min(best_s(network, cluster, strips=False), strips)
    return {
        "single_s": single,
        "strips_s": min(strips, single),
        "cuts_s": min(cuts, single),
        "processor_s": time.process_time() - began,
    }


def verdict(found: Row) -> str:
    """``nothing``, ``strips`` or ``cuts``."""
    if found["cuts_s"] > found["single_s"] * (1 - TIE):
        return "nothing"
    return "cuts" if found["cuts_s"] < found["strips_s"] * (1 - NOISE) else "strips"


def page(record: Row, command: str) -> str:
    lines = head("Where two-dimensional cuts win", command, record["about"])
    lines += ["Predicted, 8 equal boards on one medium, 224 x 224, ms.", ""]
    lines += ["| model | GFLOP/s | Mbit/s | one board | strips | all cuts | strips / all | best |"]
    lines += ["|---|---|---|---|---|---|---|---|"]
    for r in sorted(record["rows"], key=lambda r: (r["model"], r["gflops"], r["rate"])):
        times = (f"{r[key] * 1e3:.4g}" for key in ("single_s", "strips_s", "cuts_s"))
        gain = f"{r['strips_s'] / r['cuts_s']:.3f}"
        cells = [r["model"], short(r["gflops"]), short(r["rate"]), *times, gain, verdict(r)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


COLOURS = {"nothing": "#d9d9d9", "strips": "#9ecae1", "cuts": "#fdae6b"}
SAID = {
    "nothing": "one board alone is best",
    "strips": "strips are as good",
    "cuts": "two-dimensional cuts are faster than strips (by so many per cent)",
}


def draw(rows: Sequence[Row], path: Path) -> None:
    """A map for each model: the winner's colour, speed-up over one board, gain over strips."""
    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "where_cuts_win"
    import matplotlib.pyplot as plt
    from matplotlib.patches import Patch

    models = sorted({r["model"] for r in rows}, key=MODELS.index)
    figure, axes = plt.subplots(1, len(models), figsize=(4 * len(models), 3.9), squeeze=False)
    for ax, model in zip(axes[0], models, strict=True):
        draw_model([r for r in rows if r["model"] == model], model, ax)
    patches = [Patch(color=COLOURS[key], label=SAID[key]) for key in COLOURS]
    figure.legend(handles=patches, loc="lower center", ncol=3, fontsize=8, frameon=False)
    figure.subplots_adjust(left=0.06, right=0.99, bottom=0.24, top=0.92, wspace=0.22)
    figure.savefig(path, metadata={"Date": None})


def draw_model(rows: Sequence[Row], model: str, ax: Any) -> None:
    """One model's map."""
    rates = sorted({r["rate"] for r in rows})
    speeds = sorted({r["gflops"] for r in rows})
    for r in rows:
        x, y, best = rates.index(r["rate"]), speeds.index(r["gflops"]), verdict(r)
        ax.add_patch(mpl.patches.Rectangle((x, y), 1, 1, color=COLOURS[best], ec="white"))
        said = "" if best == "nothing" else f"{r['single_s'] / r['cuts_s']:.1f}x"
        said += f"\n{r['strips_s'] / r['cuts_s'] - 1:+.0%}" if best == "cuts" else ""
        ax.text(x + 0.5, y + 0.5, said, ha="center", va="center", fontsize=8)
    ax.set(xlim=(0, len(rates)), ylim=(0, len(speeds)), title=model)
    ax.set(xlabel="medium, Mbit/s", ylabel="a board, GFLOP/s")
    ax.set_xticks([k + 0.5 for k in range(len(rates))], [short(rate) for rate in rates])
    ax.set_yticks([k + 0.5 for k in range(len(speeds))], [short(speed) for speed in speeds])


def short(value: float) -> str:
    """Three digits, without an exponent."""
    return f"{float(f'{value:.3g}'):g}"


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--minutes", type=float, default=float("inf"), help="then stop; resumable")
    args = parser.parse_args()
    record = kept("where_cuts_win") or {"about": provenance(), "rows": []}
    done = {(r["model"], r["gflops"], r["rate"]) for r in record["rows"]}
    deadline = time.monotonic() + 60 * args.minutes
    for model in args.models.split(","):
        network = load_model(model, SHAPE).network
        for point, cluster in points(load_cluster(CLUSTER), [parse_axis(text) for text in OVER]):
            if (model, point["gflops"], point["rate"]) in done or time.monotonic() > deadline:
                continue
            record["rows"].append({"model": model, **point, **row(network, cluster)})
            print(record["rows"][-1], file=sys.stderr, flush=True)
            save("where_cuts_win", record, page(record, "python benchmarks/where_cuts_win.py"))
    save("where_cuts_win", record, page(record, "python benchmarks/where_cuts_win.py"))
    draw(record["rows"], figure("where_cuts_win.svg"))


if __name__ == "__main__":
    main()
