"""How many elements of a trained network's maps are not zero: mean and 90th percentile, by layer.

    python benchmarks/trained.py FOLDER
    python benchmarks/map_densities.py FOLDER

Protocol. The networks and photographs are those of ``trained.py``; densities are measured as
``solve --samples`` does it. Given are all maps of convolutions and poolings in their order, and the
mean over maps weighted by their elements. The figure is ``map_densities.svg``.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from about import arguments, figure, head, provenance, result, save
from trained import NETWORKS, Trained, write_samples

from nptp_opt.kernels.densities import measure_densities

Row = dict[str, Any]


def row(trained: Trained, folder: Path) -> Row:
    """One network's maps."""
    model = trained.load(folder)
    with tempfile.TemporaryDirectory() as name:
        count = write_samples(trained, folder, Path(name))
        found = measure_densities(model, Path(name))
    maps = [
        {
            "map": layer.name,
            "ops": "+".join(node.op for node in layer.nodes),
            "elements": math.prod(layer.shape),
            "mean": found[layer.name].mean,
            "p90": found[layer.name].p90,
        }
        for layer in model.network.spatial
    ]
    return {"network": trained.name, "samples": count, "maps": maps, **means(maps)}


def means(maps: list[Row]) -> Mapping[str, float]:
    """Mean densities of all elements, and of those behind a ReLU."""
    behind = [each for each in maps if each["ops"].endswith(("relu", "hardtanh"))]
    weighted = {
        name: sum(e["mean"] * e["elements"] for e in some) / sum(e["elements"] for e in some)
        for name, some in (("mean", maps), ("mean_relu", behind))
    }
    share = sum(e["elements"] for e in behind) / sum(e["elements"] for e in maps)
    spread = max(each["p90"] - each["mean"] for each in maps)
    return weighted | {"relu_share": share, "largest_spread": spread}


def page(about: Row, rows: list[Row]) -> str:
    lines = head("Densities of trained maps", "python benchmarks/map_densities.py FOLDER", about)
    for each in rows:
        lines += [
            f"## {each['network']}",
            "",
            f"{each['samples']} samples. Of all elements {each['mean']:.2f} are not zero, behind a "
            f"ReLU {each['mean_relu']:.2f} ({each['relu_share']:.0%} of the elements); the 90th "
            f"percentile lies at most {each['largest_spread']:.2f} above the mean.",
            "",
            "| map | ops | elements | mean | p90 |",
            "|---|---|---|---|---|",
        ]
        lines += [
            f"| {m['map']} | {m['ops']} | {m['elements']} | {m['mean']:.3f} | {m['p90']:.3f} |"
            for m in each["maps"]
        ]
        lines.append("")
    return "\n".join(lines)


def draw(rows: list[Row], path: Path) -> None:
    """Mean by layer, up to the 90th percentile, below where a bitmask is as long as float32."""
    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "map_densities"
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(len(rows), 1, figsize=(8, 2.6 * len(rows)), squeeze=False)
    for each, ax in zip(rows, axes[:, 0], strict=True):
        mean, p90 = ([m[key] for m in each["maps"]] for key in ("mean", "p90"))
        places = range(len(mean))
        above = [high - low for high, low in zip(p90, mean, strict=True)]
        ax.bar(places, mean, color="#3b75af", label="mean")
        ax.bar(places, above, bottom=mean, color="#f5a742", label="to the 90th percentile")
        ax.axhline(
            1 - 1 / 32, color="black", lw=0.8, ls=":", label="a bitmask is as long as float32"
        )
        ax.set(title=each["network"], ylabel="not zero", ylim=(0, 1.05), xlim=(-1, len(mean)))
    axes[-1, 0].set_xlabel("map, from input to output")
    axes[0, 0].legend(fontsize=7, loc="lower left", ncol=3)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    rows, about = [row(each, folder) for each in NETWORKS], provenance()
    save("map_densities", {"about": about, "networks": rows}, page(about, rows))
    draw(rows, figure("map_densities.svg"))
    print(result("map_densities.md"))


if __name__ == "__main__":
    main()
