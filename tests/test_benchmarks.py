"""Benchmarks: where they write, and that the list of them is complete."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
LIST = (FOLDER / "README.md").read_text(encoding="utf-8")
SCRIPTS = sorted(FOLDER.glob("*.py"))
SHARED = {"about.py", "layer_cases.py", "runtime_cases.py", "trained.py"}


@pytest.fixture
def about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The shared module, with a record and a build folder of this test."""
    spec = importlib.util.spec_from_file_location("about", FOLDER / "about.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "RECORDED", tmp_path / "results")
    monkeypatch.setattr(module, "FRESH", tmp_path / "fresh")
    return module


@pytest.mark.parametrize("options", [[], ["--quick"], ["--record"], ["--quick", "--record"]])
def test_only_a_run_that_records_writes_the_committed_results(
    about: ModuleType, options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: trying a benchmark out overwrote its record."""
    monkeypatch.setattr(sys, "argv", ["speed.py", *options])
    about.save("speed", {"rows": [1]}, "# Speed\n")
    kind, other = ("results", "fresh") if "--record" in options else ("fresh", "results")
    assert sorted(path.name for path in (tmp_path / kind).iterdir()) == ["speed.json", "speed.md"]
    assert not (tmp_path / other).exists()
    assert about.kept("speed") == {"rows": [1]} and about.kept("other") is None


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_results_go_where_the_shared_module_says(script: Path) -> None:
    """No script names the folder of records itself, and the list has each."""
    text = script.read_text(encoding="utf-8")
    if script.name != "about.py":
        assert not re.search(r"[\"']results[\"'/]|benchmarks/results/\w", text)
        assert "savefig" not in text or "result(" in text or "figure(" in text
    assert f"`{script.name}" in LIST
    if script.name not in SHARED:
        assert re.search(rf"^\| `{script.name}", LIST, re.MULTILINE)


def test_every_figure_of_the_readme_has_a_command() -> None:
    """Benchmarks that the README leans on stand in the list of its figures."""
    readme = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    figures = LIST.split("## Figures in the README")[1]
    measured = readme.split("## What was measured")[1].split("\n## ")[0]
    named = set(re.findall(r"\(`(\w+)`[;)]|`(runtime_\w+|clock_gap|model_zoo)`", measured))
    scripts = {name for pair in named for name in pair if name}
    assert {"clock_gap", "runtime_accuracy"} <= scripts
    for name in scripts:
        assert f"{name}.py" in figures, name
