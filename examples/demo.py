"""The demo: VGG-16 on eight unequal boards; four plans, executed, and one photo classified.

The boards are emulated: network namespaces with the rates of ``demo.toml``, computation at its
speeds. Where this machine permits none, the plans are executed as local processes, whose times say
nothing of boards and are not shown. Leaves plans, a trace and two pages in ``demo/``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.cbook import get_sample_data
from rich.console import Console
from rich.table import Table

import nptp_opt as nptp
from nptp_opt.commands.progress import Line, show_progress
from nptp_opt.deployment.inputs import read_image
from nptp_opt.deployment.normalising import normalising
from nptp_opt.errors import ExecutionError, NptpError
from nptp_opt.plot.viewer.measured import load_trace
from nptp_opt.plot.viewer.page import write_viewer
from nptp_opt.runtime.emulation.network import EmulatedCluster
from nptp_opt.runtime.launcher.command import execute, write_files
from nptp_opt.runtime.launcher.request import RunRequest

HERE = Path(__file__).parent
MODEL, INPUT = "vgg16", (1, 3, 224, 224)
CLUSTER = HERE / "demo.toml"
RIVAL, OURS = "coedge-style", "nptp"
PLANNERS = ("single", "strip-equal", RIVAL, OURS)
REPEATS, EQUAL = 2, 1e-5
DILATION = 2.0
"""So many times slower is the boards' clock than this machine's: two cores stand in for eight,
and the executed times, in the boards' own clock, are not to depend on how fast they are."""
INSIDE = "NPTP_DEMO_INSIDE_UNSHARE"
PREDICTED_ONLY = """\
The boards were not emulated here: {why}
The plans were executed as processes that share this machine's cores, which shows that their outputs
are right, not how fast boards are: so no executed times. With the programs ip, tc, nsenter and
sysctl (packages iproute2, util-linux, procps), as root or where `unshare -Urn true` works, they
are."""
VOID = """
void: this machine was too busy, or is too slow, for the boards' speeds; run it again alone"""


@dataclass(frozen=True)
class Photo:
    """What the boards make of a photo, and what the unpartitioned model makes of it."""

    answer: torch.Tensor
    expected: torch.Tensor

    @property
    def difference(self) -> float:
        """The largest, relative to the largest output."""
        return float((self.answer - self.expected).abs().max() / self.expected.abs().max())

    @property
    def ok(self) -> bool:
        same = torch.equal(self.answer.argmax(), self.expected.argmax())
        return same and self.difference < EQUAL


def main() -> int:
    cluster = nptp.Cluster.from_file(CLUSTER)
    missing = why_not_emulated(cluster)
    if missing and may_unshare():
        again = ["unshare", "-Ur", sys.executable, __file__, *sys.argv[1:]]
        os.execvpe(again[0], again, {**os.environ, INSIDE: "1"})
    out = Path(sys.argv[1] if len(sys.argv) > 1 else HERE.parent / "demo")
    out.mkdir(parents=True, exist_ok=True)
    with step(f"importing {MODEL}"):
        model = nptp.load_model(MODEL, INPUT)
    plans = {name: planned(name, model, cluster, out) for name in PLANNERS}
    runs = {name: executed(name, plan, model, out, not missing) for name, plan in plans.items()}
    with step(f"{OURS}: classifying a photo on the boards"):
        photo = classified(plans[OURS], model, not missing)
    with step(f"{OURS}: verifying every layer in float32 and float64"):
        report = nptp.verify(plans[OURS], model)
    write_pages(plans, out, not missing)
    tell(plans, runs, photo, report, missing, out)
    return 0 if report.ok and photo.ok and all(run.ok for run in runs.values()) else 1


# -- where it runs -----------------------------------------------------------------------------


def why_not_emulated(cluster: nptp.Cluster) -> str | None:
    """None where this machine permits an emulated network, else what is missing."""
    try:
        with EmulatedCluster(cluster):
            return None
    except ExecutionError as error:
        return str(error)


def may_unshare() -> bool:
    """Can this script be started again in a user namespace of its own, where it is root?"""
    if os.geteuid() == 0 or INSIDE in os.environ or shutil.which("unshare") is None:
        return False
    tried = subprocess.run(["unshare", "-Urn", "true"], check=False, capture_output=True)
    return tried.returncode == 0


# -- steps -------------------------------------------------------------------------------------


@contextmanager
def step(text: str) -> Iterator[Line]:
    """Something that may take long: said on stderr at once, then how long it took."""
    began, moving = time.monotonic(), sys.stderr.isatty()
    if not moving:
        print(f"{text} ...", file=sys.stderr, flush=True)
    with show_progress(text) as line:
        yield line
    print(f"{text}: {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)


def planned(name: str, model: nptp.LoadedModel, cluster: nptp.Cluster, out: Path) -> nptp.Plan:
    with step(f"{name}: planning") as line:
        plan = nptp.solve(model, cluster, planner=name, watch=line.fastest)
    nptp.save_plan(plan, out / f"{name}.json")
    return plan


def executed(
    name: str, plan: nptp.Plan, model: nptp.LoadedModel, out: Path, emulate: bool
) -> nptp.RunReport:
    """Measured on the emulated boards; without them executed once, to see that it is right."""
    request = RunRequest(
        repeats=REPEATS if emulate else 1,
        warmup=1 if emulate else 0,
        emulate=emulate,
        dilate=DILATION if emulate else 1.0,
        trace=out / f"{name}.trace.json",
    )
    count = len(plan.computing)
    with step(f"{name}: executing on {count} device{'s' * (count > 1)}") as line:
        report = execute(plan, model, request, line.note)
    write_files(report, request)
    return report


def classified(plan: nptp.Plan, model: nptp.LoadedModel, emulate: bool) -> Photo:
    """The photo through the deployed plan, and through the model as it is."""
    [spec] = model.signature.inputs
    with get_sample_data("grace_hopper.jpg") as file:
        pixels = read_image(Path(file.name), spec, normalising(channels=3))
    site = "emulated" if emulate else "local"
    with nptp.deploy(plan, model, site=site, allow_other_weights=True) as service:
        answer = service(pixels)
    assert isinstance(answer, torch.Tensor)
    [expected] = model.witness_outputs(torch.from_numpy(pixels)).values()
    return Photo(answer[0], expected[0])


def write_pages(plans: Mapping[str, nptp.Plan], out: Path, measured: bool) -> None:
    spans = {
        name: load_trace(out / f"{name}.trace.json", plans[name])
        for name in (OURS, RIVAL)
        if measured
    }
    write_viewer(
        out / "plan.html", {OURS: plans[OURS]}, {k: v for k, v in spans.items() if k == OURS}
    )
    write_viewer(out / "both.html", {name: plans[name] for name in (OURS, RIVAL)}, spans)


# -- what it found -----------------------------------------------------------------------------


def tell(
    plans: Mapping[str, nptp.Plan],
    runs: Mapping[str, nptp.RunReport],
    photo: Photo,
    report: nptp.Report,
    missing: str | None,
    out: Path,
) -> None:
    console = Console(width=80, highlight=False, soft_wrap=True)
    console.print("", results(plans, runs, emulated=missing is None), sep="\n")
    if missing:
        console.print(PREDICTED_ONLY.format(why=missing))
    elif any(run.is_void for run in runs.values()):
        console.print(VOID)
    console.print("", photo_text(photo), verified_text(report), "", "Open in a browser:", sep="\n")
    for name, what in (("plan.html", "the plan at work"), ("both.html", f"beside {RIVAL}")):
        console.print(f"  {(out / name).resolve()}   {what}")
    console.print(f"In sentences:\n  nptp-opt explain {out / OURS}.json   what would help, too")


def photo_text(photo: Photo) -> str:
    """The boards' answer beside the model's; what the classes are means nothing."""
    ours, theirs = int(photo.answer.argmax()), int(photo.expected.argmax())
    same = f"class {ours} by the boards, {theirs} by the unpartitioned model"
    return (
        f"photo     {'ok' if photo.ok else 'FAILED'}: {same}; outputs differ by\n"
        f"          {photo.difference:.0e} at most (the weights are random ones, always the same)"
    )


def verified_text(report: nptp.Report) -> str:
    found = report.to_json()
    return (
        f"verified  {'ok' if report.ok else 'FAILED'}: {report.layers} layers, "
        f"{report.tiles} tiles; relative error {found['max_rel_error']:.0e} in float32,\n"
        f"          {found['max_rel_error_float64']:.0e} in float64"
    )


def results(
    plans: Mapping[str, nptp.Plan], runs: Mapping[str, nptp.RunReport], *, emulated: bool
) -> Table:
    rival, model = plans[RIVAL], plans[RIVAL].model
    table = Table(title=f"{model.ref}, {'x'.join(map(str, model.input))}, {rival.cluster.name}")
    table.add_column("planner")
    for header in ("predicted ms", *["executed ms"] * emulated, "MB sent", "speed-up"):
        table.add_column(header, justify="right")
    for name, plan in plans.items():
        run, base = runs[name], runs[RIVAL]
        ratio = base.median_s / run.median_s if emulated else rival.latency_s / plan.latency_s
        void = run.is_void or (emulated and base.is_void)
        table.add_row(
            name,
            f"{plan.latency_s * 1e3:.0f}",
            *([f"{run.median_s * 1e3:.0f}" + " (void)" * run.is_void] if emulated else []),
            f"{run.bytes / 1e6:.2f}",
            "void" if void else f"{ratio:.2f}x",
        )
    kind = "executed" if emulated else "predicted"
    table.caption = f"speed-up: {kind}, over {RIVAL}"
    return table


if __name__ == "__main__":
    try:
        sys.exit(main())
    except NptpError as error:
        sys.exit(f"demo: {error}")
