"""What all benchmarks share: where results go, and the record of commit, machine and versions."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

from nptp_opt.network.ir import Layer

ROOT = Path(__file__).parent.parent
RECORDED = ROOT / "benchmarks" / "results"
"""Committed; only a run with ``--record`` writes there."""
FIGURES = ROOT / "docs" / "figures"
"""Committed likewise: pages show them."""
FRESH = ROOT / "build" / "benchmarks"
"""Not committed: what a run without ``--record`` leaves."""

PACKAGES = ("numpy", "numba", "highspy", "ortools", "pulp", "torch", "onnxruntime")


def arguments(doc: str | None) -> argparse.ArgumentParser:
    """A parser of a benchmark's options; it has ``--record``, which ``result`` reads."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_record(parser)
    return parser


def add_record(parser: argparse.ArgumentParser) -> None:
    """The option of every benchmark that writes results."""
    parser.add_argument(
        "--record", action="store_true", help="overwrite the committed benchmarks/results/"
    )


def result(file: str) -> Path:
    """Where this run writes ``file``: in ``FRESH``, or with ``--record`` in ``RECORDED``."""
    return _in(RECORDED, file)


def figure(file: str) -> Path:
    """Where this run draws ``file`` for a page: ``FRESH``, or with ``--record`` ``FIGURES``."""
    return _in(FIGURES, file)


def _in(recorded: Path, file: str) -> Path:
    folder = recorded if "--record" in sys.argv[1:] else FRESH
    folder.mkdir(parents=True, exist_ok=True)
    return folder / file


def save(name: str, content: Mapping[str, Any], page: str) -> None:
    """``NAME.json`` for machines and ``NAME.md`` to read."""
    result(f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    result(f"{name}.md").write_text(page, encoding="utf-8")


def kept(name: str) -> dict[str, Any] | None:
    """What an earlier run has saved at the same place, None without one."""
    path = result(f"{name}.json")
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def provenance() -> dict[str, Any]:
    """Commit, day, machine, load and versions; no host name."""
    return {
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "date": date.today().isoformat(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in PACKAGES},
    }


def head(title: str, command: str, about: Mapping[str, Any]) -> list[str]:
    """First lines of a page: what was run, on what, when it was how busy."""
    return [
        f"# {title}",
        "",
        f"`{command}`; {about['cpu']}, {about['cores']} cores, load {about['load']:.1f}, commit "
        f"{about['commit'][:12]}, {about['date']}.",
        "",
    ]


def cut_share(layers: Iterable[Layer]) -> float:
    """Share of the layers' FLOP that is partitioned: what runs whole is not; 1 without a FLOP."""
    every = list(layers)
    total = sum(layer.flop for layer in every)
    cut = [layer for layer in every if layer.kind == "spatial" and not layer.is_whole]
    return sum(layer.flop for layer in cut) / total if total else 1.0


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
