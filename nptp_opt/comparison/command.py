"""What the commands ``compare`` and ``report`` do."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nptp_opt.comparison.batch import Backend, Local, run_batch
from nptp_opt.comparison.dask_backend import DaskCluster, Tls
from nptp_opt.comparison.execute import Request, execute_plans
from nptp_opt.comparison.page import page
from nptp_opt.comparison.paired import MEASURES, paired_ratios
from nptp_opt.comparison.records import load_records
from nptp_opt.comparison.runs import HARNESS
from nptp_opt.comparison.spec import Spec, load_spec, runs_of, spec_from_dict
from nptp_opt.comparison.store import Store
from nptp_opt.comparison.tables import BAD, RULES, TITLES, alike, tables, to_csv, to_markdown
from nptp_opt.errors import InputError
from nptp_opt.files import write_text
from nptp_opt.plot.terminal import print_pairs, print_rows, print_text
from nptp_opt.runtime.children import ENDING, handling
from nptp_opt.runtime.launcher.leftovers import remove_abandoned_folders

LISTS = (
    "instances tags formulations planners solvers objectives transfer_dtypes encodings seeds "
    "time_limits_s"
).split()
SINGLE = ("latency_limit_ms", "memory_mib")


def comparison(
    spec: Path | None, output: Path, options: Mapping[str, Any], say: Callable[[str], None]
) -> dict[str, Any]:
    """Do a batch; what ``compare`` prints: runs by how they ended, and those not done here."""
    backend = _backend(options)
    return do_batch(_spec(spec, options), output, backend, options["retry"] == "failed", say)


def do_batch(
    spec: Spec, output: Path, backend: Backend, retry_failed: bool, say: Callable[[str], None]
) -> dict[str, Any]:
    """Do the runs of a spec that the results file has not: runs by how they ended."""
    runs = runs_of(spec)
    remove_abandoned_folders()
    with Store(output) as store, handling(ENDING, _interrupt):
        left = len(store.pending(runs))
        say(f"{len(runs)} runs, {len(runs) - left} of them done before")
        run_batch(runs, store, backend, retry_failed=retry_failed)
        counts = store.counts(runs)
    done: dict[str, Any] = {status: counts.get(status, 0) for status in HARNESS}
    return {
        "results": str(output),
        "runs": len(runs),
        **done,
        "elsewhere": len(runs) - sum(done.values()),
    }


def _spec(path: Path | None, options: Mapping[str, Any]) -> Spec:
    given: dict[str, Any] = {key: options[key] for key in LISTS if options[key]}
    given |= {key: options[key] for key in SINGLE if options[key] is not None}
    if path is None:
        return spec_from_dict(given, "options")
    if given:
        names = ", ".join(given)
        raise InputError(f"{path}: give a spec or options, not both (got {names})")
    return load_spec(path)


def _backend(options: Mapping[str, Any]) -> Backend:
    workers = options["workers"] or os.cpu_count() or 1
    tls = Tls(options["tls_ca_file"], options["tls_cert"], options["tls_key"])
    if options["scheduler"] is not None:
        return DaskCluster(options["scheduler"], workers, tls)
    if tls.ca_file is not None:
        raise InputError("TLS options need `scheduler` tls://HOST:PORT")
    return Local(workers)


def _interrupt(*_: object) -> None:
    """What ends a batch does so as Ctrl-C does: it gives its claims back."""
    raise KeyboardInterrupt


def make_report(
    results: Path,
    *,
    html: Path | None,
    csv: Path | None,
    markdown: Path | None,
    baseline: str | None,
    against: str | None,
    request: Request | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Write the files asked for; what ``report`` prints. ``request`` executes plans first."""
    if (baseline is None) != (against is None):
        raise InputError("`baseline` and `against` belong together")
    with Store(results, create=False, write=request is not None) as store:
        records = load_records(store)
        if request is not None:
            execute_plans(store, records, request, say)
            records = load_records(store, request.how)
    report = tables(records)
    if html is not None:
        write_text(html, page(records, report))
    if csv is not None:
        write_text(csv, to_csv(records))
    if markdown is not None:
        write_text(markdown, to_markdown(report))
    content: dict[str, Any] = {"runs": len(records), "rules": RULES, "tables": report}
    if baseline is not None and against is not None:
        content["paired"] = paired_ratios(records, baseline, against)
    return content


def print_report(content: Mapping[str, Any]) -> None:
    """The tables on the terminal, contradictions first and in red."""
    by_name = content["tables"]
    if not by_name["disagreements"]:
        print_text("No contradictions between bounds and values.", style="green")
    for name, title in TITLES.items():
        if by_name[name]:
            print_text(f"\n{title}", style="bold red" if name in BAD else "bold")
            for number, block in enumerate(alike(by_name[name])):
                print_text("") if number else None
                print_rows(block)
    print_text(f"\n{content['rules']}", style="dim")
    if "paired" in content:
        _print_ratios(content["paired"])


def _print_ratios(ratios: Mapping[str, Any]) -> None:
    for measure in MEASURES:
        if not ratios[measure]["instances"]:
            continue
        print_text(f"\n{measure}: {ratios['against']} / {ratios['baseline']}")
        print_pairs({k: v for k, v in ratios[measure].items() if k != "by_instance"})
        if ratios[measure].get("by_instance"):
            print_rows(ratios[measure]["by_instance"])
