"""Every formulation with every solver, and every planner, on a part of the library or all of it.

    python benchmarks/library_compare.py                                # the recorded part
    python benchmarks/library_compare.py --every 1 --networks-every 1 --limit 60 --name full

Protocol: every 15th layer and every 15th network, from the library's first on, so that nobody
picks them; all formulations with all solvers that they take, all planners, seed 0, one thread, one
run at a time, 5 s each (from where the method is called), an instance's runs in turn. Start it
again after a stop: runs that ``--results`` holds are not done again; with ``--minutes`` it stops by
itself between two instances. What is there is then written, with the part of a core that runs had.
The whole library at 60 s is up to 180 layers x 27 contenders x 60 s: 81 core hours.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any

import click
from about import provenance, result

from nptp_opt.comparison.batch import Local, run_batch
from nptp_opt.comparison.records import load_records
from nptp_opt.comparison.runs import Run
from nptp_opt.comparison.spec import runs_of, spec_from_dict
from nptp_opt.comparison.store import Store
from nptp_opt.comparison.tables import tables, to_csv, to_markdown
from nptp_opt.files import write_text
from nptp_opt.instances import library
from nptp_opt.layer import registry, solve
from nptp_opt.planner import PLANNERS

ALONE_S = 1.0
"""Runs shorter than this say little about the part of a core that was free."""


def chosen(every: int, networks_every: int) -> list[str]:
    """Names of the instances, by their place in the library."""
    entries = library.library().instances
    layers = [entry.name for entry in entries if entry.kind == "layer"]
    networks = [entry.name for entry in entries if entry.kind == "network"]
    return layers[::every] + networks[::networks_every]


def all_runs(names: Sequence[str], limit: float) -> list[Run]:
    """Everything that partitions a layer or plans a network, with every solver."""
    assert solve.solve_layer  # its import registers all methods
    content = {
        "instances": names,
        "formulations": [spec.name for spec in registry.specs()],
        "planners": list(PLANNERS),
        "solvers": ["all"],
        "time_limits_s": [limit],
    }
    return runs_of(spec_from_dict(content))


def head(rows: Sequence[dict[str, Any]], names: Sequence[str], limit: float) -> str:
    """What was run, where, and on how busy a machine."""
    about = provenance()
    long = [row for row in rows if row["wall_s"] and row["wall_s"] > ALONE_S]
    share = median(row["cpu_s"] / row["wall_s"] for row in long) if long else float("nan")
    done = {row["instance"] for row in rows}
    listed = "\n".join(f"* {name}" for name in names if name in done)
    return (
        f"`python benchmarks/library_compare.py`, {datetime.now(UTC):%Y-%m-%d}, commit "
        f"{about['commit'][:12]}{' and changes' if about['uncommitted_changes'] else ''}, "
        f"{about['cpu']}, {about['cores']} cores.\n\n"
        f"{len(done)} of the library's {len(library.library().instances)} instances "
        f"({len(names)} asked for), {len(rows)} runs, {limit:g} s each, one at a time. CPU "
        f"time over wall time of a run: median {share:.2f}; below 1 other work took part of the "
        f"core, so that times are too long and proofs too few.\n\n{listed}\n"
    )


def record(store: Store, names: Sequence[str], limit: float, name: str) -> None:
    """The CSV of all runs, and the tables below a head that says what they are."""
    records = load_records(store)
    title, rest = to_markdown(tables(records)).split("\n", 1)
    text = head([record.row for record in records], names, limit)
    write_text(result(f"{name}.csv"), to_csv(records))
    write_text(result(f"{name}.md"), f"{title} on the library\n\n{text}{rest}")


@click.command()
@click.option("--every", default=15, show_default=True, help="Layers: each how many.")
@click.option("--networks-every", default=15, show_default=True, help="Networks: each how many.")
@click.option("--limit", default=5.0, show_default=True, help="Seconds per run.")
@click.option("--minutes", default=float("inf"), help="Start no instance after these.")
@click.option("--results", default="", help="SQLite file; beside the page without it.")
@click.option("--name", default="library_compare", show_default=True)
@click.option("--record", "_", is_flag=True, help="Overwrite the committed benchmarks/results/.")
def main(
    every: int, networks_every: int, limit: float, minutes: float, results: str, name: str, _: bool
) -> None:
    """Do what is missing, then record what there is."""
    names = chosen(every, networks_every)
    runs = all_runs(names, limit)
    began = time.monotonic()
    with Store(Path(results or result(f"{name}.sqlite"))) as store:
        print(f"{len(runs)} runs, {len(store.pending(runs))} missing", file=sys.stderr)
        for _, group in groupby(runs, key=lambda run: run.name):
            if time.monotonic() - began < 60 * minutes:
                run_batch(list(group), store, Local(1))
        record(store, names, limit, name)


if __name__ == "__main__":
    main()
