"""The fresh process of one run: ``python -m nptp_opt.comparison.child FOLDER``.

Reads ``run.json`` in the folder, gets ready, makes ``started`` when it calls the method, writes
``result.json`` or ``plan.json``, then ``outcome.json``.
What it prints goes where the harness sent its stdout. Its whole process group is killed by the
kernel when the harness at the other end of stdin dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import json
import math
import os
import resource
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nptp_opt.comparison.runs import Run

MIB = 2**20
STARTED = "started"
"""The file in the folder that says that imports are done and the method is called."""
HEADROOM_MIB = 1024
"""The harness kills above the limit; the kernel refuses memory this much later."""


def die_with_harness() -> None:
    """Have the kernel kill this process group when the other end of stdin closes (Linux)."""
    if not hasattr(fcntl, "F_SETSIG"):
        return
    fcntl.fcntl(0, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(0, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)


def limit_memory(memory_mib: float) -> None:
    """A hard ceiling for what outruns the harness's measurements."""
    most = int((memory_mib + HEADROOM_MIB) * MIB)
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard == resource.RLIM_INFINITY or most < hard:
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def peak_mib() -> float | None:
    """Largest resident size of this process so far, from the kernel; None where it has no /proc."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    sizes = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(sizes[0]) / 1024 if sizes else None


def do(run: Run, folder: Path) -> dict[str, Any]:
    """Build and solve; the outcome's part that says how it ended."""
    from nptp_opt.errors import InfeasibleError, NoSolutionError, NptpError

    try:
        return solve_layer_run(run, folder) if run.kind == "layer" else plan_run(run, folder)
    except MemoryError:
        return {"harness": "out-of-memory", "message": "memory was refused"}
    except InfeasibleError as error:
        return {"harness": "finished", "status": "infeasible", "message": str(error)}
    except NoSolutionError as error:
        return {"harness": "finished", "status": "no-solution", "message": str(error)}
    except NptpError as error:
        return {"harness": "error", "message": f"{type(error).__name__}: {error}"}


def solve_layer_run(run: Run, folder: Path) -> dict[str, Any]:
    """One formulation on one layer."""
    from nptp_opt.comparison.warm import warm
    from nptp_opt.instances.reader import layer_problem_from_json
    from nptp_opt.layer.solve import solve_layer
    from nptp_opt.verification.layer_result import layer_result_to_json

    problem = layer_problem_from_json(run.instance, run.name)
    import_solver(run.solver)
    warm(run)
    (folder / STARTED).touch()
    began = time.perf_counter()
    result = solve_layer(problem, run.method, solver=run.solver, limits=limits_of(run))
    spent = time.perf_counter() - began
    content = layer_result_to_json(problem, result)
    (folder / "result.json").write_text(json.dumps(content))
    trace = [list(point) for point in result.trace]
    return {
        "harness": "finished",
        "status": content["status"],
        "trace": [*trace, [spent, result.makespan_s, result.bound_s]],
    }


def import_solver(name: str | None) -> None:
    """Import what a solver needs, so that its first call is not charged for it."""
    from nptp_opt.solvers import find

    if name is None:
        return
    for module in ("pulp", find(name).module):
        with contextlib.suppress(ImportError):  # the method names what is missing
            importlib.import_module(module)


def plan_run(run: Run, folder: Path) -> dict[str, Any]:
    """One planner on one network."""
    from nptp_opt.comparison.planning import plan_options, problem_of
    from nptp_opt.comparison.warm import warm
    from nptp_opt.instances.networks import network_problem_from_json
    from nptp_opt.network.load import load_again
    from nptp_opt.plan.document import write_plan
    from nptp_opt.planner import plan_network

    problem = problem_of(network_problem_from_json(run.instance, run.name), run.planning)
    loading = time.perf_counter()
    loaded = load_again(problem.model).of_densities(problem.densities)
    network = loaded.network
    warm(run)
    (folder / STARTED).touch()
    began = time.perf_counter()
    seen: list[tuple[float, float]] = []
    options = plan_options(
        run.method,
        run.planning,
        limits_of(run),
        lambda value: seen.append((time.perf_counter() - began, value)),
    )
    plan = plan_network(loaded.ref, network, problem.cluster, options)
    spent = time.perf_counter() - began
    write_plan(plan, folder / "plan.json")
    sought = options.objective == "latency"
    optimal = sought and plan.gap is not None and plan.gap <= run.gap
    return {
        "harness": "finished",
        "status": "optimal" if optimal else "feasible",
        "build_s": began - loading,
        "trace": [*_better_latencies(seen, plan.latency_s), [spent, plan.latency_s, plan.bound_s]],
    }


def _better_latencies(
    seen: Iterable[tuple[float, float]], final: float
) -> list[list[float | None]]:
    """Every better latency; one below the plan's own was that of a plan that exceeds memory, or
    that was given up for one that is no slower than a baseline by the clock."""
    trace: list[list[float | None]] = []
    best = math.inf
    for at, value in seen:
        if final <= value < best:
            best = value
            trace.append([at, value, None])
    return trace


def limits_of(run: Run) -> Any:
    """The run's limits as methods take them."""
    from nptp_opt.layer.limits import Limits

    return Limits(run.time_limit_s, run.gap, run.seed, run.threads)


def main(folder: Path) -> None:
    """Do the run of the folder."""
    die_with_harness()
    from nptp_opt.comparison.runs import run_from_json
    from nptp_opt.comparison.spec import load_plugins

    run = run_from_json(json.loads((folder / "run.json").read_text()))
    limit_memory(run.memory_mib)
    load_plugins(run.plugins)
    outcome = do(run, folder)
    written = folder / "outcome.part"
    written.write_text(json.dumps({**outcome, "peak_mib": peak_mib()}))
    written.replace(folder / "outcome.json")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
