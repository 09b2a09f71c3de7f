"""What the comparison harness costs: ``python benchmarks/compare_overhead.py``.

Per run: wall time of a tiny run without build and solve, less that of a bare process with the same
imports (medians of 11, taken in turn). Per batch: the
part of the workers' time in which a run's process was alive (``busy``), and in which a core worked
for a run or the batch (``cores_used``).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import click
from about import provenance

from nptp_opt.comparison.batch import Local, run_batch
from nptp_opt.comparison.harness import execute
from nptp_opt.comparison.runs import Run
from nptp_opt.comparison.store import Store
from nptp_opt.instances import library

INSTANCE = "vgg11-max2x2s2-512to512-at7-n8-equal-shared-100"
IMPORTS = (
    "import nptp_opt.comparison.child, nptp_opt.comparison.spec, nptp_opt.layer.solve, "
    "highspy, pulp"
)


def tiny(seed: int) -> Run:
    """A run of about a tenth of a second of solving."""
    content = library.problem_to_json(library.open_instance(INSTANCE))
    return Run(content, "strip", "highs", seed=seed)


def bare_s() -> float:
    """Wall seconds of a process that only imports."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", IMPORTS], check=True, capture_output=True)
    return time.perf_counter() - began


def run_s() -> float:
    """Wall seconds of one run without build and solve."""
    began = time.perf_counter()
    row = execute(tiny(0))
    spent = time.perf_counter() - began
    assert row["status"] == "optimal" and row["fault"] is None
    return spent - float(row["trace"][-1][0])


@click.command()
@click.option("--runs", default=1000, show_default=True)
@click.option("--workers", default=os.cpu_count(), show_default=True)
def main(runs: int, workers: int) -> None:
    """Print the figures as JSON."""
    pairs = [(run_s(), bare_s()) for _ in range(11)]
    whole, bare = (median(values) for values in zip(*pairs, strict=True))
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "r.sqlite") as store:
        before = sum(os.times()[:2])
        began = time.perf_counter()
        run_batch([tiny(seed) for seed in range(runs)], store, Local(workers), saw=lambda _: None)
        wall = time.perf_counter() - began
        rows = store.rows(("wall_s", "cpu_s", "harness"))
    assert [row["harness"] for row in rows] == ["finished"] * runs
    alive = sum(row["wall_s"] for row in rows)
    own = os.times()
    used = sum(row["cpu_s"] for row in rows) + own.user + own.system - before
    found = {
        "overhead_s": whole - bare,
        "run_s": whole,
        "imports_s": bare,
        "batch": {"runs": runs, "workers": workers, "wall_s": wall},
        "busy": alive / (wall * workers),
        "cores_used": used / (wall * workers),
        "load": os.getloadavg()[0],
        **provenance(),
    }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
