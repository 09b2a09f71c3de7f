"""Updates the library's table of best known values: ``python benchmarks/library_best.py``.

Layers are solved by ``auto`` and networks by the planner ``nptp``, each with a time limit; what is
better than the table's entry replaces it, value and bound on their own. The table is written after
every instance. Run it alone on the machine: grades come from the times.
"""

from __future__ import annotations

import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

import click

from nptp_opt.errors import NptpError
from nptp_opt.files import write_text
from nptp_opt.instances import best as table
from nptp_opt.instances import library
from nptp_opt.instances.best import Best, grade_of
from nptp_opt.instances.certificates import packed
from nptp_opt.methods import Hints, Limits
from nptp_opt.problem import LayerProblem

PATH = Path(table.__file__).with_name("best.json")


def solved_layer(problem: LayerProblem, known: Best, limits: Limits) -> Best:
    """What ``auto`` finds from the known value on."""
    from nptp_opt.cost import LayerCost
    from nptp_opt.geometry import Tile
    from nptp_opt.solve import solve_layer

    start = {i: Tile(*sides) for i, *sides in known.tiles} or None
    began = time.perf_counter()
    result = solve_layer(problem, "auto", limits=limits, hints=Hints(start))
    spent = time.perf_counter() - began
    tiles = result.tiles
    return Best(
        value_s=None if tiles is None else LayerCost(problem).makespan_s(tiles),
        value_by=result.notes.get("value"),
        bound_s=result.bound_s,
        bound_by=result.notes.get("bound"),
        seconds=round(spent, 3),
        tiles=tuple((i, t.y0, t.y1, t.x0, t.x1) for i, t in (tiles or {}).items()),
    )


@cache
def imported(ref: str, shape: tuple[int, ...]) -> Any:
    """The model's network; many instances share it."""
    from nptp_opt.network.load import load_model

    return load_model(ref, shape).network


def planned(problem: Any, limits: Limits) -> Best:
    """What the planner ``nptp`` finds; its bound holds for every plan."""
    from nptp_opt.planner import PlanOptions, plan_network

    network = imported(problem.model.ref, problem.model.input)
    plan = plan_network(problem.model, network, problem.cluster, PlanOptions(limits=limits))
    return Best(
        value_s=plan.latency_s,
        value_by="nptp",
        bound_s=plan.bound_s,
        bound_by="plan-bound",
        plan=packed(plan),
    )


def merged(old: Best, new: Best) -> Best:
    """The better value and the better bound; the time is that of the run that closed them.

    A value counts only with what proves it.
    """
    values = [b for b in (old, new) if b.value_s is not None and (b.tiles or b.plan)]
    bounds = [b for b in (old, new) if b.bound_s is not None]
    value = min(values, key=lambda b: b.value_s or 0.0) if values else old
    bound = max(bounds, key=lambda b: b.bound_s or 0.0) if bounds else old
    update = {"bound_s": bound.bound_s, "bound_by": bound.bound_by}
    seconds = old.seconds if grade_of(old) != "open" else new.seconds
    return value.model_copy(update={**update, "seconds": seconds})


@click.command()
@click.option("--tag", "tags", multiple=True, help="Only instances with this tag.")
@click.option("--limit", default=10.0, show_default=True, help="Seconds per instance.")
@click.option("--missing", is_flag=True, help="Only instances that the table lacks.")
@click.option("--budget", default=float("inf"), help="Start no instance after these seconds.")
def main(tags: tuple[str, ...], limit: float, missing: bool, budget: float) -> None:
    """Solve and update."""
    began = time.monotonic()
    found = dict(table.best_table())
    known = {name for name, b in found.items() if b.tiles or b.plan}
    entries = [e for e in library.select(tags) if not (missing and e.name in known)]
    limits = Limits(time_limit_s=limit)
    for entry in entries:
        if time.monotonic() - began > budget:
            break
        old = found.get(entry.name, Best())
        problem = library.library().problem(entry)
        try:
            layer = isinstance(problem, LayerProblem)
            new = solved_layer(problem, old, limits) if layer else planned(problem, limits)
        except NptpError as error:
            print(f"{entry.name}: {error}", file=sys.stderr)
            continue
        found[entry.name] = merged(old, new)
        print(f"{grade_of(found[entry.name]):7}{entry.name}", file=sys.stderr)
        rows = (
            f"{name!r}: {b.model_dump_json(exclude_defaults=True)}"
            for name, b in sorted(found.items())
        )
        write_text(PATH, "{\n" + ",\n".join(r.replace("'", '"', 2) for r in rows) + "\n}\n")


if __name__ == "__main__":
    main()
