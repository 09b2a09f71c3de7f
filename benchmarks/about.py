"""What the benchmarks of imports share: the record of commit and machine, and what is cut."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Any

import torch

from nptp_opt.network.ir import Layer

ROOT = Path(__file__).parent.parent


def machine() -> dict[str, Any]:
    """Commit, day, machine, load and versions; no host name."""
    info = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":")[1].strip() for line in info if "model name" in line), "unknown")
    command = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True).stdout
    return {
        "commit": commit.strip(),
        "date": date.today().isoformat(),
        "cpu": cpu,
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def cut_share(layers: Iterable[Layer]) -> float:
    """Share of the layers' FLOP that is partitioned: what runs whole is not; 1 without a FLOP."""
    every = list(layers)
    total = sum(layer.flop for layer in every)
    cut = [layer for layer in every if layer.kind == "spatial" and not layer.is_whole]
    return sum(layer.flop for layer in cut) / total if total else 1.0
