"""The scripts of ``examples/`` do what they say."""

from __future__ import annotations

import ast
import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("plan_and_verify.py", "tiles: right"),
        ("a_layer_by_hand.py", "<LayerResult guillotine-dp: optimal"),
        ("compare_formulations.py", "'finished': 3"),
        ("camera_on_wifi.py", "the module's own output: True"),
        ("large_image.py", "the tiles are right: True"),
    ],
)
def test_a_script_runs_and_says_what_it_found(
    script: str,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [script, str(tmp_path / "results.sqlite"), "24"])
    runpy.run_path(str(EXAMPLES / script), run_name="__main__")
    assert words in capsys.readouterr().out


def shown_by_cells(path: Path) -> list[Any]:
    """Execute a notebook's code cells in order, in one namespace; what each ends with, or None."""
    content, names, shown = json.loads(path.read_text()), dict[str, Any](), list[Any]()
    for cell in content["cells"]:
        if cell["cell_type"] != "code":
            continue
        body = ast.parse("".join(cell["source"])).body
        last = body.pop() if isinstance(body[-1], ast.Expr) else None
        exec(compile(ast.Module(body, []), path.name, "exec"), names)
        shown.append(last and eval(compile(ast.Expression(last.value), path.name, "eval"), names))
    return shown


def test_the_notebook_of_a_deployment_shows_it_at_work(capsys: pytest.CaptureFixture[str]) -> None:
    """Its tables are those of the service, before and after the questions, and of an answer."""
    shown = shown_by_cells(EXAMPLES / "deploy_and_ask.ipynb")
    said = capsys.readouterr().out
    assert "the module's own output: True" in said and "input" in said
    tables = [each for each in shown if hasattr(each, "_repr_html_")]
    assert [type(each).__name__ for each in tables] == [
        "LoadedModel", "Plan", "Service", "Answer", "Service",
    ]  # fmt: skip
    service, answer = tables[-1], tables[-2]
    assert shown[-1] == "closed"
    assert "<td>21</td>" in service._repr_html_() and "pi-0, pi-1" in service._repr_html_()
    assert repr(service).endswith("on 2 devices: closed, 21 answered, 0 in flight, 0 waiting>")
    assert "bytes sent by pi-1" in answer._repr_html_() and "1x16x32x32" in repr(answer)


def test_notebooks_are_stored_without_what_they_showed() -> None:
    """It would be out of date, and nothing would tell."""
    for path in EXAMPLES.glob("*.ipynb"):
        for cell in json.loads(path.read_text())["cells"]:
            assert not cell.get("outputs") and cell.get("execution_count") is None
