"""What the comparison harness costs: ``python benchmarks/compare_overhead.py``.

Per run: wall time of a tiny run less that of a bare process with the same imports. Per batch: the
part of the workers' time in which a run's process was alive.
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
from layer_cases import provenance

from nptp_opt.compare.batch import Local, run_batch
from nptp_opt.compare.harness import execute
from nptp_opt.compare.runs import Run
from nptp_opt.compare.store import Store
from nptp_opt.instances import library

INSTANCE = "vgg11-max2x2s2-512to512-at7-n8-equal-shared-100"
IMPORTS = "import nptp_opt.compare.child, nptp_opt.compare.spec, nptp_opt.solve, highspy, pulp"


def tiny(seed: int) -> Run:
    """A run of about a tenth of a second of solving."""
    content = library.problem_to_json(library.open_instance(INSTANCE))
    return Run(content, "strip", "highs", seed=seed)


def bare_s() -> float:
    """Wall seconds of a process that only imports."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", IMPORTS], check=True, capture_output=True)
    return time.perf_counter() - began


def overhead_s() -> float:
    """Harness seconds of one run: all but imports, build and solve."""
    began = time.perf_counter()
    row = execute(tiny(0))
    spent = time.perf_counter() - began
    assert row["status"] == "optimal" and row["fault"] is None
    return spent - float(row["trace"][-1][0]) - bare_s()


@click.command()
@click.option("--runs", default=1000, show_default=True)
@click.option("--workers", default=os.cpu_count(), show_default=True)
def main(runs: int, workers: int) -> None:
    """Print the figures as JSON."""
    single = [overhead_s() for _ in range(11)]
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "r.sqlite") as store:
        began = time.perf_counter()
        run_batch([tiny(seed) for seed in range(runs)], store, Local(workers), saw=lambda _: None)
        wall = time.perf_counter() - began
        alive = sum(row["wall_s"] for row in store.rows(("wall_s",)))
    found = {
        "overhead_s": {"median": median(single), "max": max(single)},
        "batch": {"runs": runs, "workers": workers, "wall_s": wall},
        "busy": alive / (wall * workers),
        "load": os.getloadavg()[0],
        **provenance(),
    }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
