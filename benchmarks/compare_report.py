"""How long a report of many rows takes: ``python benchmarks/compare_report.py``.

Rows are made up but complete: 50 layer instances, 20 methods, 10 seeds, each with a partition of
eight tiles and a trace of ten points.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
from about import provenance

from nptp_opt.comparison.runs import Run
from nptp_opt.comparison.store import Store

METHODS = ["strip", "grid", "column", "guillotine", "dissection-bigm", "dissection-config", "cover"]
SOLVERS = ["highs", "scip", "cbc"]
SEEDS = 10


def contenders() -> list[tuple[str, str | None]]:
    """Twenty: seven formulations by three solvers, less one."""
    return list(itertools.product(METHODS, SOLVERS))[:20]


def row(run: Run, dice: random.Random) -> dict[str, Any]:
    """A finished run whose values scatter around those of its instance."""
    value = 1 + int(run.name[1:]) + dice.random() / 10
    bound = value * (1 - dice.random() / 10) if dice.random() < 0.3 else value
    names = [f"d{i}" for i in range(8)]
    return {
        "run": run,
        "harness": "finished",
        "status": "optimal" if bound == value else "feasible",
        "value_s": value,
        "bound_s": min(bound, 1 + int(run.name[1:])),
        "root_bound_s": bound / 2,
        "build_s": 0.1,
        "solve_s": dice.random() * 9,
        "wall_s": 10.0,
        "peak_mib": 100.0,
        "rows": 1000,
        "columns": 1000,
        "tiles": [
            {"device": name, "y0": 7 * i, "y1": 7 * i + 7, "x0": 0, "x1": 56}
            for i, name in enumerate(names)
        ],
        "trace": [[k / 2, value * (2 - k / 10), bound * k / 10] for k in range(11)],
    }


def fill(path: Path, rows: int) -> None:
    """Store so many rows."""
    dice = random.Random(0)
    made = itertools.islice(itertools.product(range(rows), contenders(), range(SEEDS)), rows)
    with Store(path) as store:
        for number, (method, solver), seed in made:
            content = {"name": f"i{number}", "kind": "layer"}
            store.finish(row(Run(content, method, solver, seed, time_limit_s=10.0), dice))


@click.command()
@click.option("--rows", default=10_000, show_default=True)
def main(rows: int) -> None:
    """Print the figures as JSON."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fill(folder / "r.sqlite", rows)
        files = ["--html", folder / "r.html", "--csv", folder / "r.csv"]
        words = ["report", folder / "r.sqlite", *files, "--markdown", folder / "r.md", "--json"]
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "nptp_opt.cli", *map(str, words)],
            capture_output=True,
            text=True,
            check=True,
        )
        wall = time.perf_counter() - began
        html = (folder / "r.html").stat().st_size
    assert json.loads(done.stdout)["runs"] == rows
    used = os.times()
    found = {
        "rows": rows,
        "wall_s": wall,
        "cpu_s": used.children_user + used.children_system,
        "html_mb": html / 1e6,
        "load": os.getloadavg()[0],
        **provenance(),
    }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
