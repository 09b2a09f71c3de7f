"""Updates the library's table of best known values: ``python benchmarks/library_best.py``.

Layers are solved by every ``--method`` (``auto``, or others such as ``cover/highs``), networks by
the planner ``nptp``, each with a time limit; what is better than the table's entry replaces it,
value and bound on their own. A layer's methods start from nothing, and process seconds of their
proofs are kept: these, not the clock of a busy machine, give the grades (``instances/best.py``).
``--from-known`` starts from the table's tiles and keeps no seconds. The table is written after
every instance: with ``--record`` the library's own, else a copy.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import click
from about import result

from nptp_opt.comparison.runs import Run
from nptp_opt.comparison.warm import warm
from nptp_opt.cost import LayerCost
from nptp_opt.errors import NptpError
from nptp_opt.files import write_text
from nptp_opt.geometry import Tile
from nptp_opt.instances import best as table
from nptp_opt.instances import library
from nptp_opt.instances.best import TABLE, Best, grade_of, proven
from nptp_opt.instances.certificates import pack
from nptp_opt.instances.library import LibraryEntry, problem_to_json
from nptp_opt.layer.limits import Hints, Limits
from nptp_opt.layer.problem import LayerProblem
from nptp_opt.layer.solve import solve_layer

LIBRARY = Path(table.__file__).with_name("best.json")


def solve_layer_best(
    problem: LayerProblem, method: str, known: Best | None, limits: Limits
) -> Best:
    """What a method finds, from nothing or from the known value on."""
    name, _, solver = method.partition("/")
    warm(Run(problem_to_json(problem), name, solver or None))
    start = {i: Tile(*sides) for i, *sides in known.tiles} if known else None
    began = cpu_s()
    result = solve_layer(
        problem, name, solver=solver or None, limits=limits, hints=Hints(start or None)
    )
    spent = cpu_s() - began
    tiles = result.tiles
    found = Best(
        value_s=None if tiles is None else LayerCost(problem).makespan_s(tiles),
        value_by=result.notes.get("value", method),
        bound_s=result.any_bound_s,
        bound_by=result.notes.get("bound", method),
        tiles=tuple((i, t.y0, t.y1, t.x0, t.x1) for i, t in (tiles or {}).items()),
    )
    if known:
        return found
    seconds = round(spent, 3) if proven(found) else None
    return found.model_copy(update={"proofs": {method: seconds}})


def cpu_s() -> float:
    """Process seconds so far, those of finished child processes with them."""
    return sum(os.times()[:4])


@cache
def import_model(ref: str, shape: tuple[int, ...]) -> Any:
    """The model's network; many instances share it."""
    from nptp_opt.network.load import load_model

    return load_model(ref, shape).network


def plan_network_best(problem: Any, limits: Limits) -> Best:
    """What the planner ``nptp`` finds; its bound holds for every plan."""
    from nptp_opt.planner import PlanOptions, plan_network

    network = import_model(problem.model.ref, problem.model.input)
    plan = plan_network(problem.model, network, problem.cluster, PlanOptions(limits=limits))
    return Best(
        value_s=plan.latency_s,
        value_by="nptp",
        bound_s=plan.bound_s,
        bound_by="plan-bound",
        plan=pack(plan),
    )


def merge(old: Best, new: Best) -> Best:
    """The better value, the better bound, and the fastest proof of each method.

    A value counts only with what proves it.
    """
    values = [b for b in (old, new) if b.value_s is not None and (b.tiles or b.plan)]
    bounds = [b for b in (old, new) if b.bound_s is not None]
    value = min(values, key=lambda b: b.value_s or 0.0) if values else old
    bound = max(bounds, key=lambda b: b.bound_s or 0.0) if bounds else old
    proofs = dict(old.proofs)
    for method, seconds in new.proofs.items():
        known = [s for s in (seconds, proofs.get(method)) if s is not None]
        proofs[method] = min(known, default=None)
    update = {"bound_s": bound.bound_s, "bound_by": bound.bound_by, "proofs": proofs}
    return value.model_copy(update=update)


def work(
    entry: LibraryEntry, best: Best, options: Mapping[str, Any], limits: Limits
) -> Iterator[Best]:
    """What the entry's methods find, one after the other; ``--missing`` ones only, if asked."""
    problem = library.library().problem(entry)
    if not isinstance(problem, LayerProblem):
        if not (options["missing"] and best.plan):
            yield plan_network_best(problem, limits)
        return
    known = best if options["from_known"] else None
    for method in options["methods"]:
        if not (options["missing"] and method in best.proofs):
            yield solve_layer_best(problem, method, known, limits)


@click.command()
@click.option("--tag", "tags", multiple=True, help="Only instances with this tag.")
@click.option("--name", "names", default="*", help="Only instances of this pattern.")
@click.option("--method", "methods", multiple=True, default=("auto",))
@click.option("--limit", default=10.0, show_default=True, help="Seconds per instance and method.")
@click.option("--missing", is_flag=True, help="Only what the table lacks: plans, proofs tried.")
@click.option("--from-known", is_flag=True, help="Layers: start from the known value.")
@click.option("--record", is_flag=True, help="Write the library's own table.")
@click.option("--budget", default=float("inf"), help="Start no instance after these seconds.")
def main(**options: Any) -> None:
    """Solve and update."""
    began = time.monotonic()
    path = LIBRARY if options["record"] else result("best.json")
    found = table.best_table()
    limits = Limits(time_limit_s=options["limit"])
    for entry in library.select(options["tags"], options["names"]):
        if time.monotonic() - began > options["budget"]:
            break
        best = found.get(entry.name, Best())
        try:
            for new in work(entry, best, options, limits):
                best = merge(best, new)
                print(f"{grade_of(best):7}{entry.name}  {best.proofs}", file=sys.stderr)
        except NptpError as error:
            print(f"{entry.name}: {error}", file=sys.stderr)
        if best != found.get(entry.name, Best()):
            keep(path, entry.name, best)


def keep(path: Path, name: str, best: Best) -> None:
    """Write the table with this entry, on the table as another process may have left it."""
    found = TABLE.validate_json((path if path.exists() else LIBRARY).read_text())
    found[name] = merge(found.get(name, Best()), best)
    rows = (
        f"{json.dumps(name)}: {best.model_dump_json(exclude_defaults=True)}"
        for name, best in sorted(found.items())
    )
    write_text(path, "{\n" + ",\n".join(rows) + "\n}\n")


if __name__ == "__main__":
    main()
