"""The distribution: a wheel made from the sdist, installed alone, does what the README says.

Nothing is downloaded: the build is without isolation, and what ``nptp-opt`` depends on is borrowed
from this environment by a path file, which does not bring its editable install along.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import nptp_opt
from tests.doc_blocks import ROOT, blocks, commands

COSTLY = {"run", "profile", "worker", "compare", "report", "sweep", "explain", "completion"}
"""Commands that start processes or plan often: ``tests/test_doc_blocks.py`` executes them, as it
does with the other ways to solve that the README shows."""

BUILD = """
import sys
from setuptools import build_meta
print(getattr(build_meta, sys.argv[1])(sys.argv[2]))
"""

DRIVER = """
import json, sys
import torch
from click.testing import CliRunner
import nptp_opt
from nptp_opt.cli import main
from nptp_opt.commands import support
from nptp_opt.network import zoo
from nptp_opt.planner.local_search import anneal

zoo.build = lambda name: torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU()).eval()
anneal.WORK, anneal.LEAST_WORK = anneal.WORK / 200, anneal.LEAST_WORK / 200
support.COMMON_INPUT = "1x3x16x16"
failed = []
for words in json.load(sys.stdin):
    done = CliRunner().invoke(main, words)
    if done.exit_code:
        failed.append([words, done.output])
print(json.dumps({"file": nptp_opt.__file__, "failed": failed}))
"""


def built(source: Path, kind: str, target: Path) -> Path:
    """An sdist or a wheel of a source tree, by the build backend."""
    done = subprocess.run(
        [sys.executable, "-c", BUILD, f"build_{kind}", str(target)],
        cwd=source, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return target / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sdist of what a clone has, and the wheel that is made from nothing but the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    source = folder / "clone"
    skipped = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "nptp_opt", source / "nptp_opt", ignore=skipped)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    sdist = built(source, "sdist", folder)
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    return sdist, built(unpacked, "wheel", folder)


@pytest.fixture(scope="module")
def environment(distributions: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty environment with the wheel alone, beside borrowed dependencies."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    options = ["--no-deps", "--no-index", str(distributions[1])]
    subprocess.run([*pip, *options], check=True, capture_output=True, text=True)
    (site,) = (folder / "lib").glob("python*/site-packages")
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


def test_the_wheel_has_every_module_and_data_file(distributions: tuple[Path, Path]) -> None:
    """Schemas, pages and the library go along; tests, benchmarks and caches do not."""
    with zipfile.ZipFile(distributions[1]) as archive:
        names = {name for name in archive.namelist() if name.startswith("nptp_opt/")}
        others = {name.split("/")[0] for name in archive.namelist()} - {"nptp_opt"}
    there = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "nptp_opt").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert names == there
    assert all(name.endswith(".dist-info") for name in others)


def test_the_readmes_commands_run_from_the_wheel(environment: Path, tmp_path: Path) -> None:
    """Outside of the repository; models are tiny, searches short, and nothing is compiled: numba
    would do it again for a package in a new place."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    words = [
        each[1:]
        for block in blocks(ROOT / "README.md")
        if block.kind == "shell"
        for each in commands(block.code)
        if each[0] == "nptp-opt" and each[1] not in COSTLY and "FOLDER" not in each
    ]
    solves = [line for line in words if line[0] == "solve"][1:]
    asked = [line for line in words if "--trace" not in line and line not in solves]
    assert {"inspect", "solve", "verify", "show", "solve-layer"} <= {line[0] for line in asked}
    done = subprocess.run(
        [environment / "bin" / "python", "-c", DRIVER], input=json.dumps(asked), cwd=tmp_path,
        capture_output=True, text=True,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "NUMBA_DISABLE_JIT": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["failed"] == []
    assert Path(said["file"]).is_relative_to(environment)


def test_the_changelog_has_a_heading_for_this_version() -> None:
    """What is not released stands first; versions are numbers with their day, the newest first."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    first, *versions = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert first == "Unreleased"
    numbers = [re.fullmatch(r"(\d+)\.(\d+)\.(\d+) \(\d{4}-\d\d-\d\d\)", each) for each in versions]
    assert all(numbers), versions
    found = [tuple(map(int, each.groups())) for each in numbers if each]
    assert found == sorted(found, reverse=True)
    assert nptp_opt.__version__ in [each.split()[0] for each in versions]


def test_the_command_is_installed(environment: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [environment / "bin" / "nptp-opt", "--version"], cwd=tmp_path, capture_output=True,
        text=True, env={"PATH": os.environ["PATH"]},
    )  # fmt: skip
    assert done.returncode == 0 and done.stdout.startswith("nptp-opt"), done.stderr
