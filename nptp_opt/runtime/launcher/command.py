"""What ``nptp-opt run`` does with its options: where workers run and what they are asked."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace

from nptp_opt.cluster import Cluster, load_cluster
from nptp_opt.errors import InfeasibleError, InputError
from nptp_opt.files import write_text
from nptp_opt.network.load import LoadedModel
from nptp_opt.plan.model import Plan
from nptp_opt.runtime.emulation.network import EmulatedCluster
from nptp_opt.runtime.launcher.launch import Watch, run_plan
from nptp_opt.runtime.launcher.losses import Replan
from nptp_opt.runtime.launcher.report import RunReport
from nptp_opt.runtime.launcher.request import RunRequest
from nptp_opt.runtime.launcher.site import LOCAL, Hosts, Site
from nptp_opt.runtime.profiling.calibrate import write_calibrated
from nptp_opt.runtime.profiling.timeline import chrome_trace

Say = Callable[[str], None]


def execute(
    plan: Plan,
    model: LoadedModel,
    request: RunRequest,
    say: Say,
    watch: Watch = lambda number, run: None,
    stopped: Callable[[], bool] = lambda: False,
) -> RunReport:
    """Run the plan as requested; raises ExecutionError and InputError.

    A run at the plan's speeds is set beside one device of its cluster, not of this machine.
    """
    if request.emulate:
        slow = "" if request.dilate == 1 else f", its clock {request.dilate:g} times slower"
        say(f"emulated network, {request.chosen_transport}, throttle {request.chosen_throttle}"
            + slow)  # fmt: skip
    with site_of(plan, request) as site:
        report = run_plan(
            plan,
            model,
            repeats=request.stream or request.repeats,
            warmup=0 if request.stream else request.warmup,
            timeout_s=request.timeout_s,
            threads=request.threads,
            transport=request.chosen_transport,
            throttle=request.chosen_throttle,
            seed=request.seed,
            executor=request.executor,
            in_flight=request.in_flight,
            dilation=request.dilate,
            site=site,
            listen=None if request.hosts is None else f"tcp:{request.hosts}",
            secret_file=request.secret_file,
            tls=request.tls,
            replan=replanner(plan, model, say) if request.elastic else None,
            progress=say,
            watch=watch,
            stopped=stopped,
        )
    if request.chosen_throttle != "none":
        report = replace(report, single_device_s=_single_device_s(plan, model))
    return report


def write_files(report: RunReport, request: RunRequest) -> None:
    """Write the trace and the calibrated cluster that were asked for; raises InputError for a place
    that cannot be written."""
    if request.trace is not None:
        trace = chrome_trace(report.plan, report.spans, void=request.emulate and report.is_void)
        write_text(request.trace, json.dumps(trace, allow_nan=False) + "\n")
    if request.calibrate is not None:
        write_calibrated(report, request.calibrate)


@contextlib.contextmanager
def site_of(plan: Plan, request: RunRequest) -> Iterator[Site]:
    """Where the workers run, as requested; an emulated network is there within the block."""
    if not request.emulate:
        now = None if request.cluster is None else load_cluster(request.cluster)
        yield LOCAL if request.hosts is None else Hosts(plan.cluster, now)
        return
    with EmulatedCluster(plan.cluster, request.dilate) as site:
        if site.delay_s > 0 and request.chosen_transport == "gloo":
            raise InputError(
                "`transport` gloo cannot add the network's latency, and this kernel has no netem: "
                "use `transport` tcp, or latency_ms = 0 in the cluster file"
            )
        yield site


def _single_device_s(plan: Plan, model: LoadedModel) -> float | None:
    """Latency of the best single device, by the model of cost; None where none has the memory."""
    from nptp_opt.planner import PlanOptions, plan_network

    options = PlanOptions(planner="single", bound=False)
    try:
        return plan_network(plan.model, model.network, plan.cluster, options).latency_s
    except InfeasibleError:
        return None


def replanner(plan: Plan, model: LoadedModel, say: Say) -> Replan:
    """Plans the same model again, by the same planner, for the devices that are left."""
    from nptp_opt.planner import PLANNERS, PlanOptions, plan_network
    from nptp_opt.planner.replan import replan_network

    named = plan.provenance.planner
    options = PlanOptions(planner=named if named is not None and named in PLANNERS else "nptp")

    def replan(cluster: Cluster) -> Plan:
        say(f"planning again for {len(cluster.devices)} devices by {options.planner!r}")
        if options.planner == "nptp":
            return replan_network(plan, cluster)
        return plan_network(plan.model, model.network, cluster, options)

    return replan
