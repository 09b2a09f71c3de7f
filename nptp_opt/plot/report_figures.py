"""The figures of a plan, or of a results file, as SVG and PDF in a folder."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from nptp_opt.comparison.measures import gap_curves, profiles
from nptp_opt.comparison.records import Record, by_contender, load_records, shared_cases
from nptp_opt.comparison.store import Store
from nptp_opt.errors import InputError
from nptp_opt.plan.model import Plan
from nptp_opt.plot.convergence_figure import draw_convergence
from nptp_opt.plot.figure_file import new_axes, write_report_figure
from nptp_opt.plot.halo_figure import draw_halos, most_sent
from nptp_opt.plot.latency_figure import draw_latencies
from nptp_opt.plot.plan_figure import draw_plan
from nptp_opt.plot.profile_figure import draw_profile
from nptp_opt.plot.timeline_figure import draw_timeline

ROW = 0.32
"""Inches of a row of a timeline or of a bar."""


def write_plan_figures(plan: Plan, folder: Path) -> None:
    """``partitions``, ``timeline`` and, where parts of maps are sent, ``halos``."""
    _make(folder)
    write_report_figure(draw_plan(plan), folder, "partitions")
    figure, ax = new_axes(9.0, 1.2 + ROW * min(len(plan.cluster.devices), 32))
    draw_timeline(plan, ax)
    write_report_figure(figure, folder, "timeline")
    number = most_sent(plan)
    if number is not None:
        figure, ax = new_axes(5.0, 4.4)
        draw_halos(plan, number, ax)
        write_report_figure(figure, folder, "halos")


def write_run_figures(results: Path, folder: Path) -> None:
    """Of each kind of run in a results file: ``profile-time``, ``profile-value``, ``convergence``,
    and for networks ``latencies``."""
    _make(folder)
    with Store(results, create=False) as store:
        records = load_records(store)
    for kind in ("layer", "network"):
        group = [record for record in records if record.row["kind"] == kind]
        if group:
            _write_curves(group, folder, kind)
        if kind == "network" and group:
            _write_latencies(group, folder)


def _write_curves(group: Sequence[Record], folder: Path, kind: str) -> None:
    for measure in ("time", "value"):
        figure, ax = new_axes()
        draw_profile(profiles(group, measure), measure, ax)
        write_report_figure(figure, folder, f"{kind}-profile-{measure}")
    figure, ax = new_axes()
    draw_convergence(gap_curves(group), ax)
    write_report_figure(figure, folder, f"{kind}-convergence")


def _write_latencies(group: Sequence[Record], folder: Path) -> None:
    """Geometric means over the cases that every planner has."""
    predicted: dict[str, float] = {}
    executed: dict[str, float] = {}
    for name, own in by_contender(shared_cases(group)).items():
        values = [record.value_s for record in own if record.value_s]
        measured = [record.measured_s for record in own if record.measured_s]
        if values and len(values) == len(own):
            predicted[name] = statistics.geometric_mean(values)
        if measured and len(measured) == len(own):
            executed[name] = statistics.geometric_mean(measured)
    if predicted:
        figure, ax = new_axes(7.0, 1.6 + 2 * ROW * len(predicted))
        draw_latencies(predicted, executed, ax=ax)
        write_report_figure(figure, folder, "network-latencies")


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made a folder: {error.strerror}") from None
