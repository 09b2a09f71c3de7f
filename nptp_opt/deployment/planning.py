"""A plan made beside a running one: in a process of its own that gives way to all others.

``python -m nptp_opt.deployment.planning FOLDER PARENT`` is that process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

from nptp_opt.cluster import Cluster, load_cluster
from nptp_opt.errors import ExecutionError, NptpError
from nptp_opt.files import write_text
from nptp_opt.layer.limits import Limits
from nptp_opt.plan.document import load_plan, write_plan
from nptp_opt.plan.model import Plan
from nptp_opt.planner.options import PlanOptions
from nptp_opt.planner.planners import plan_network
from nptp_opt.planner.registry import PLANNERS
from nptp_opt.planner.replan import replan_network
from nptp_opt.runtime.children import child_environment, die_with
from nptp_opt.runtime.device_program import check_executable

NICENESS = 10
OTHER_LIMIT_S = 30.0
"""Of a search that begins from nothing, for another objective than the latency."""


def plan_again(plans: Sequence[Plan], cluster: Cluster) -> Plan:
    """A plan for ``cluster`` from the first of ``plans``, by its planner and for its objective; the
    others are starts of the search, too. Raises NptpError where there is none.
    """
    made = plans[0].provenance
    planner = made.planner if made.planner is not None and made.planner in PLANNERS else "nptp"
    if planner == "nptp" and made.objective == "latency":
        return replan_network(plans[0], cluster, plans[1:])
    options = PlanOptions(
        planner=planner,
        objective=made.objective,  # type: ignore[arg-type]
        latency_limit_s=float("inf") if made.latency_limit_s is None else made.latency_limit_s,
        limits=Limits(time_limit_s=OTHER_LIMIT_S),
        bound=False,
    )
    return plan_network(plans[0].model, plans[0].network, cluster, options)


class Planning:
    """``made`` has the plan, or the error, when it is there."""

    def __init__(self) -> None:
        self.made: Future[Plan] = Future()
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False
        self._lock = threading.Lock()

    @classmethod
    def of(cls, plan: Plan) -> Planning:
        """For a plan that is there."""
        planning = cls()
        planning.made.set_result(plan)
        return planning

    @classmethod
    def begin(cls, plans: Sequence[Plan], cluster: Cluster, folder: Path) -> Planning:
        """``plan_again`` in a process of its own, which reads and writes in ``folder``."""
        planning = cls()
        work = threading.Thread(target=planning._work, args=(tuple(plans), cluster, folder))
        work.daemon = True
        work.start()
        return planning

    def close(self) -> None:
        """Nobody wants it any more."""
        with self._lock:
            self._closed = True
            if self._process is not None:
                self._process.kill()

    def _work(self, plans: Sequence[Plan], cluster: Cluster, folder: Path) -> None:
        try:
            with tempfile.TemporaryDirectory(prefix="planning-", dir=folder) as own:
                plan = self._ask(plans, cluster, Path(own))
            check_executable(plan)
            self.made.set_result(plan)
        except Exception as error:  # noqa: BLE001 - the service goes on with the plan it has
            self.made.set_exception(error)

    def _ask(self, plans: Sequence[Plan], cluster: Cluster, folder: Path) -> Plan:
        for number, plan in enumerate(plans):
            write_plan(plan, folder / f"{number}.plan")
        write_text(folder / "cluster.json", json.dumps(cluster.to_json(), allow_nan=False))
        command = [sys.executable, "-m", "nptp_opt.deployment.planning", str(folder)]
        with self._lock:
            if self._closed:
                raise ExecutionError("nobody wants the plan any more")
            self._process = subprocess.Popen(
                [*command, str(os.getpid())],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                env=child_environment(), start_new_session=True,
            )  # fmt: skip
        _, said = self._process.communicate()
        if self._process.returncode != 0:
            raise ExecutionError(said.decode(errors="replace").strip() or "the planner was ended")
        return load_plan(folder / "made.plan")


def main(folder: Path, parent: int) -> int:
    """Make the plan that a folder asks for; returns the exit status."""
    die_with(parent)
    os.nice(NICENESS)
    plans = [load_plan(path) for path in sorted(folder.glob("[0-9]*.plan"))]
    try:
        made = plan_again(plans, load_cluster(folder / "cluster.json"))
    except NptpError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    write_plan(made, folder / "made.plan")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
