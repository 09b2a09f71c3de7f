"""One-layer methods: values, bounds and times on layers of VGG-16 and ResNet-50.

    python benchmarks/layer_methods.py [--quick]

Protocol. Every method runs once in this process, one after the other, single-threaded, after a
warm-up on a 14 x 14 map that compiles everything (compile time is not counted). Times are wall
clock from the call of ``solve_layer`` to its result, the configuration bound and exact evaluation
included. ``auto``, which runs the others first, has three times their limit; all methods stop at a
gap of 1e-4. Each case asserts that every bound is at most every value, and that ``auto`` is no
worse than any other method. Parts: named targets, the table of methods, growth with
devices and with map size (plot and fitted exponent of the times), and ``auto`` against
``dissection-bigm`` with HiGHS. Rows are written as soon as they are measured.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from about import arguments, provenance, result
from about import save as saved
from layer_cases import LAYERS, conv, problem, unequal

from nptp_opt.layer.limits import Limits
from nptp_opt.layer.problem import LayerProblem
from nptp_opt.layer.solve import solve_layer
from nptp_opt.search.bounds import configuration_bound

GAP = 1e-4
AUTO_FACTOR = 3
"""``auto`` runs the other methods first, so its limit is the sum of theirs."""
METHODS = ("multilevel", "column-dp", "guillotine-dp", "auto")
Row = dict[str, Any]


def run(name: str, case: LayerProblem, limit_s: float, **labels: Any) -> Row:
    """One measured solve."""
    limits = Limits(time_limit_s=limit_s, gap=GAP)
    started = time.perf_counter()
    result = solve_layer(case, name, limits=limits)
    seconds = time.perf_counter() - started
    row = {
        **labels,
        "method": name,
        "status": result.status.value,
        "makespan_s": result.makespan_s,
        "bound_s": result.bound_s,
        "any_bound_s": result.any_bound_s,
        "gap": result.gap,
        "tiles": len(result.tiles or ()),
        "seconds": seconds,
        "notes": dict(result.notes),
    }
    print(
        json.dumps({k: row[k] for k in (*labels, "method", "status", "seconds")}), file=sys.stderr
    )
    return row


def bound_row(case: LayerProblem, **labels: Any) -> Row:
    """The configuration bound alone."""
    started = time.perf_counter()
    value = configuration_bound(case)
    seconds = time.perf_counter() - started
    return {**labels, "method": "configuration-bound", "bound_s": value, "seconds": seconds}


def warm_up() -> None:
    """Compile every kernel for both network kinds."""
    for shared in (False, True):
        for name in METHODS:
            run(name, problem("vgg16-conv5_2-14", unequal(3), shared=shared), 60.0, part="warm-up")


def targets(limit_s: float) -> list[Row]:
    """The named numbers of issue 3."""
    large, rows = "vgg16-conv1_2-224", []
    for n in (4, 6, 8):
        case = problem(large, unequal(n))
        rows.append(run("guillotine-dp", case, limit_s, part="target", what=f"{n} on 224"))
    case = problem(large, [10.0] * 64)
    rows.append(run("guillotine-dp", case, limit_s, part="target", what="64 equal on 224"))
    for shared in (False, True):
        for n, layer in ((4, "vgg16-conv3_2-56"), (6, "vgg16-conv4_2-28")):
            case = problem(layer, unequal(n), shared=shared)
            label = f"{n} on {layer}{' shared' if shared else ''}"
            for name in ("dissection-search", "cover"):
                rows.append(run(name, case, limit_s, part="target", what=label))
    many = problem(conv(64, 64, 1024), [1.0] * 1000, 1000.0)
    rows.append(run("multilevel", many, limit_s, part="target", what="1000 equal on 1024"))
    return rows


def table_cases(quick: bool) -> list[tuple[str, str, float, bool]]:
    """Layer, cluster, rate, shared."""
    clusters = ("4 unequal", "6 unequal", "8 equal")
    if quick:
        return [("vgg16-conv5_2-14", c, 100.0, s) for c in clusters[:2] for s in (False, True)]
    base = [(layer, c, 100.0, s) for layer in LAYERS for c in clusters for s in (False, True)]
    rates = [
        (layer, "4 unequal", rate, s)
        for layer in ("vgg16-conv1_2-224", "vgg16-conv3_2-56", "vgg16-conv5_2-14")
        for rate in (10.0, 1000.0)
        for s in (False, True)
    ]
    return base + rates


def speeds(name: str) -> list[float]:
    count, kind = name.split()
    return unequal(int(count)) if kind == "unequal" else [10.0] * int(count)


def table(quick: bool, limit_s: float) -> Iterator[Row]:
    """All methods on all cases, with the two assertions of the protocol."""
    for layer, name, rate, shared in table_cases(quick):
        case = problem(layer, speeds(name), rate, shared=shared)
        labels = {"part": "table", "layer": layer, "cluster": name, "rate": rate, "shared": shared}
        limits = dict.fromkeys(METHODS, limit_s) | {"auto": AUTO_FACTOR * limit_s}
        own = [bound_row(case, **labels)]
        own += [run(name, case, limits[name], **labels) for name in METHODS]
        check(own)
        yield from own


def check(rows: list[Row]) -> None:
    """Bounds below values, and ``auto`` no worse than any other method."""
    found = {r["method"]: r["makespan_s"] for r in rows if r.get("makespan_s") is not None}
    best = min(found.values())
    bounds = [r["any_bound_s"] for r in rows if r.get("any_bound_s") is not None]
    assert max([*bounds, rows[0]["bound_s"]]) <= best * (1 + 1e-9), rows
    assert found["auto"] <= best * (1 + GAP), rows


def growth(quick: bool, limit_s: float) -> list[Row]:
    """Times against the number of devices (56 x 56) and the map size (4 unequal devices)."""
    rows = []
    layer = conv(64, 64, 56)
    for n in (2, 4, 8) if quick else (2, 4, 8, 16, 32, 64):
        for kind, gflops in (("equal", [10.0] * n), ("unequal", unequal(n))):
            case = problem(layer, gflops)
            labels = {"part": "devices", "x": n, "kind": kind}
            rows.append(bound_row(case, **labels))
            names = METHODS[:3] if kind == "equal" or n <= 8 else METHODS[:1]
            rows += [run(name, case, limit_s, **labels) for name in names]
    for size in (14, 28, 56) if quick else (14, 28, 56, 112, 224, 512, 1024):
        case = problem(conv(64, 64, size), unequal(4))
        labels = {"part": "size", "x": size, "kind": "unequal"}
        rows.append(bound_row(case, **labels))
        rows += [run(name, case, limit_s, **labels) for name in METHODS[:3]]
    return rows


def against_bigm(limit_s: float) -> list[Row]:
    """``auto`` and the textbook MILP on 4 unequal devices, 28 x 28."""
    case = problem("vgg16-conv4_2-28", unequal(4))
    return [run(name, case, limit_s, part="bigm") for name in ("auto", "dissection-bigm")]


def exponents(rows: list[Row]) -> dict[str, float]:
    """Slope of log(seconds) over log(x) per part, kind and method."""
    found = {}
    for key, points in series(rows).items():
        if len(points) > 2:
            x, y = np.log(np.array(points)).T
            found[key] = float(np.polyfit(x, y, 1)[0])
    return found


def series(rows: list[Row]) -> dict[str, list[tuple[float, float]]]:
    """Points (x, seconds) per curve."""
    curves: dict[str, list[tuple[float, float]]] = {}
    for r in rows:
        if r["part"] in {"devices", "size"}:
            key = f"{r['part']}: {r['method']}, {r['kind']}"
            curves.setdefault(key, []).append((r["x"], max(r["seconds"], 1e-4)))
    return curves


def plot(rows: list[Row], path: Path) -> None:
    """Both growth plots side by side, log-log."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(12, 4.5), sharey=True)
    slopes = exponents(rows)
    for key, points in series(rows).items():
        part, label = key.split(": ")
        axis = axes[0 if part == "devices" else 1]
        slope = slopes.get(key, math.nan)
        axis.loglog(*zip(*points, strict=True), marker="o", label=f"{label} (x^{slope:.1f})")
    axes[0].set(xlabel="devices (56 x 56 map)", ylabel="seconds")
    axes[1].set(xlabel="map size (4 unequal devices)")
    for axis in axes:
        axis.legend(fontsize=7)
        axis.grid(True, alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=130)


def markdown(record: dict[str, Any]) -> str:
    """The record as tables."""
    rows = record["rows"]
    lines = ["# Methods for one layer", "", f"Commit {record['commit']}, {record['cpu']}, "]
    lines[-1] += f"{record['cores']} cores, Python {record['python']}, {record['versions']}."
    lines += [
        "",
        f"Limit {record['limit_s']} s per method, `auto` {AUTO_FACTOR} times that; gap {GAP}; "
        "protocol in the script.",
        "",
    ]
    keys = ("part", "what", "layer", "cluster", "rate", "shared", "kind", "x", "method", "status")
    numbers = ("makespan_s", "bound_s", "gap", "seconds")
    lines += [f"| {' | '.join((*keys, *numbers))} |", "|" + "---|" * (len(keys) + len(numbers))]
    for r in rows:
        cells = [str(r.get(k, "")) for k in keys]
        cells += ["" if r.get(k) is None else f"{r[k]:.6g}" for k in numbers]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "Fitted exponents (seconds ~ x^e):", ""]
    lines += [f"* {key}: {value:.2f}" for key, value in record["exponents"].items()]
    return "\n".join(lines) + "\n"


def save(record: dict[str, Any]) -> None:
    saved(stem(record), record, markdown(record))


def stem(record: dict[str, Any]) -> str:
    return "layer_methods_quick" if record["quick"] else "layer_methods"


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--quick", action="store_true", help="a few small cases, about a minute")
    quick = parser.parse_args().quick
    limit_s = 2.0 if quick else 3.0
    record = {**provenance(), "quick": quick, "limit_s": limit_s, "rows": [], "exponents": {}}
    warm_up()
    parts = [
        lambda: against_bigm(5.0 if quick else 40.0),
        lambda: [] if quick else targets(40.0),
        lambda: growth(quick, limit_s),
        lambda: table(quick, limit_s),
    ]
    for part in parts:
        for row in part():
            record["rows"].append(row)
            save(record)
        record["exponents"] = exponents(record["rows"])
    save(record)
    plot(record["rows"], result(f"{stem(record)}.png"))


if __name__ == "__main__":
    main()
