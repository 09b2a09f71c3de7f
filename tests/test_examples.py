"""The scripts of ``examples/`` do what they say."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("plan_and_verify.py", "tiles: right"),
        ("a_layer_by_hand.py", "<LayerResult guillotine-dp: optimal"),
        ("compare_formulations.py", "'finished': 3"),
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
    monkeypatch.setattr(sys, "argv", [script, str(tmp_path / "results.sqlite")])
    runpy.run_path(str(EXAMPLES / script), run_name="__main__")
    assert words in capsys.readouterr().out
