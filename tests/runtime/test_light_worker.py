"""The distribution of a worker alone: what it holds, what it needs, and a run with it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from nptp_opt import __version__
from nptp_opt.cluster import cluster_from_json
from nptp_opt.errors import ExecutionError
from nptp_opt.geometry import Tile
from nptp_opt.network.load import load_module
from nptp_opt.plan.model import Plan
from nptp_opt.runtime.launcher.launch import run_plan
from nptp_opt.runtime.launcher.site import Hosts
from tests.builders import make_cluster
from tests.kernels.executors.modules import Apply
from tests.runtime.plans import hand_plan, in_pieces, model_of
from tests.runtime.test_hosts import _free_port

ROOT = Path(__file__).parents[2]
PROJECT = ROOT / "packaging" / "worker"
LIMIT_BYTES = 150e6
HEAVY = (
    "torch numba scipy onnx safetensors click rich pulp ortools highspy networkx matplotlib"
).split()  # fmt: skip

IMPORTS = """
import json, sys
import nptp_opt.runtime.worker.start, nptp_opt.runtime.worker.main, nptp_opt.runtime.worker.job
from nptp_opt.kernels.executors import EXECUTORS
from nptp_opt.kernels.executors import onnx_lowering
from nptp_opt.runtime.transport import tcp
from nptp_opt.runtime.profiling import layers, link  # what `init` asks of it
assert len(EXECUTORS) > 1  # plug-ins, too, are looked for
json.dump(sorted(sys.modules), sys.stdout)
"""


def test_a_workers_modules_are_in_its_distribution_and_import_nothing_heavy() -> None:
    """What a worker imports before and for a job, in the full environment."""
    found = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, check=True)
    modules = json.loads(found.stdout)
    assert not {name.partition(".")[0] for name in modules} & set(HEAVY)
    packages = set(
        tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    )
    ours = {name for name in modules if name.partition(".")[0] == "nptp_opt"}
    homes = {name if name in packages else name.rpartition(".")[0] for name in ours}
    assert homes <= packages, sorted(homes - packages)


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment that has the worker's distribution, and nothing else."""
    folder = tmp_path_factory.mktemp("board")
    source = folder / "source"
    shutil.copytree(PROJECT, source / "packaging" / "worker")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "nptp_opt", source / "nptp_opt", ignore=ignored)
    venv.create(folder / "env", with_pip=True)
    pip = [folder / "env" / "bin" / "python", "-m", "pip", "install", "--retries", "1"]
    found = subprocess.run([*pip, source / "packaging" / "worker"], capture_output=True, text=True)
    if found.returncode and "from versions: none" in found.stderr:
        pytest.skip("pip cannot reach an index: the worker's distribution cannot be installed")
    assert found.returncode == 0, found.stderr
    return folder / "env" / "bin"


def _python(board: Path, code: str) -> str:
    """What a line of code prints there, in a folder without our sources."""
    words = [board / "python", "-c", code]
    return subprocess.run(words, capture_output=True, text=True, check=True, cwd=board).stdout


def test_it_is_small_and_has_no_torch(board: Path) -> None:
    """Under 150 MB, what pip brought for its own use left out."""
    installed = _python(board, "import importlib.metadata as m\n"
                        "print(*(d.name.lower() for d in m.distributions()))").split()  # fmt: skip
    assert not set(installed) & set(HEAVY) and "nptp-opt-worker" in installed
    (site,) = (board.parent / "lib").glob("python3*/site-packages")
    own = {"pip", "setuptools", "pkg_resources", "_distutils_hack"}
    size = sum(
        file.stat().st_size
        for file in site.rglob("*")
        if file.is_file() and file.relative_to(site).parts[0].partition("-")[0] not in own
    )
    assert size < LIMIT_BYTES, size


def test_its_command_knows_its_options(board: Path, tmp_path: Path) -> None:
    """Version and messages as of ``nptp-opt worker``, with its exit codes."""

    def said(*words: str) -> subprocess.CompletedProcess[str]:
        command = [str(board / "nptp-opt-worker"), *words]
        return subprocess.run(command, capture_output=True, text=True)

    assert said("--version").stdout == f"nptp-opt-worker {__version__}\n"
    secret = tmp_path / "secret"
    secret.write_text("a secret of this test alone")
    given = ["--connect", "127.0.0.1:1", "--name", "d0", "--secret-file", str(secret)]
    refused = said(*given, "--interface", "0.0.0.0")
    assert refused.returncode == 2 and "--interface 0.0.0.0 means every" in refused.stderr
    missing = said(*given, "--executor", "torch")
    assert missing.returncode == 6 and "'torch' is not installed" in missing.stderr


def two_hosts() -> Any:
    content = make_cluster([1.0, 2.0], latency_ms=0.1).to_json()
    for i, device in enumerate(content["device"]):
        device["address"] = f"127.0.0.{i + 2}"
    return cluster_from_json(content)


def halves(height: int, width: int) -> dict[int, Tile]:
    """Left and right."""
    middle = (width + 1) // 2
    return {0: Tile(0, height, 0, middle), 1: Tile(0, height, middle, width)}


@contextmanager
def workers(board: Path, plan: Plan, folder: Path) -> Iterator[dict[str, Any]]:
    """Two workers of the small environment, and how a launcher reaches them."""
    secret, port = folder / "secret", _free_port()
    secret.write_text("a secret of this test alone")
    started = [
        subprocess.Popen(
            [board / "nptp-opt-worker", "--connect", f"127.0.0.1:{port}", "--name", device.name,
             "--secret-file", secret, "--interface", str(device.address)],
            stderr=subprocess.PIPE, cwd=folder,
        )
        for device in plan.cluster.devices
    ]  # fmt: skip
    try:
        yield {"transport": "tcp", "site": Hosts(plan.cluster), "secret_file": secret,
               "listen": f"tcp:127.0.0.1:{port}"}  # fmt: skip
    finally:
        for process in started:
            process.kill()
            process.communicate()


@pytest.mark.parametrize("sent_as", ["float32", "int8"])
@pytest.mark.parametrize("name", ["squeeze", "classifier"])
def test_two_workers_without_torch_give_the_models_output(
    board: Path, name: str, sent_as: Any, tmp_path: Path
) -> None:
    """Reductions with what is folded onto them, heads, halos that overlap with computing."""
    model = model_of(name)
    plan = in_pieces(hand_plan(model, name, halves, two_hosts().sending_as(sent_as)))
    told: list[str] = []
    with workers(board, plan, tmp_path) as reached:
        report = run_plan(
            plan, model, repeats=2, warmup=0, executor=None, progress=told.append, **reached
        )
    assert report.ok and report.bytes == plan.transfer_bytes
    assert report.executors == {"d0": "onnxruntime", "d1": "onnxruntime"}
    assert any("torch is not installed there" in line for line in told)


def test_what_needs_torch_is_an_error_before_anything_is_computed(
    board: Path, tmp_path: Path
) -> None:
    """The executor that is asked for, and a layer that no graph expresses."""
    import torch
    from torch import nn

    model = load_module(
        nn.Sequential(nn.Conv2d(3, 4, 3), Apply(torch.lgamma)).eval(), "case", (1, 3, 16, 16)
    )
    plan = hand_plan(model, "case", halves, two_hosts())
    for executor, words in (
        (None, r"'d\d' failed: .*torch is not installed.*op lgamma.*install nptp-opt instead"),
        ("torch", "'d0' has no executor 'torch', only onnxruntime"),
    ):
        with (
            workers(board, plan, tmp_path) as reached,
            pytest.raises(ExecutionError, match=words),
        ):
            run_plan(plan, model, repeats=1, warmup=0, executor=executor, **reached)
