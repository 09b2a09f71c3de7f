"""Live progress of a batch: one line per finished run, with an estimate of the time left."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nptp_opt.comparison import batch
from nptp_opt.comparison.batch import Progress
from tests.comparison.runs import run
from tests.comparison.test_batch import Bench


@pytest.mark.parametrize(
    ("done", "spent", "line"),
    [
        (1, 10.0, "1/100  99 left in about 16 min"),
        (99, 99.0, "99/100  1 left in about 1 s"),
        (10, 1000.0, "10/100  90 left in about 2.5 h"),
    ],
)
def test_the_estimate_is_the_mean_so_far_times_what_is_left(
    done: int, spent: float, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch.time, "monotonic", lambda: 50.0 + spent)
    assert Progress(100, done=done, began=50.0).head() == line


def test_a_row_is_counted_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(2)
    progress.saw({"run": run("test-quick"), "harness": "finished", "status": "feasible"})
    progress.saw({"run": run("test-die"), "harness": "crash", "message": "died by SIGSEGV"})
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("1/2  1 left in about") and first.endswith("test-quick  feasible")
    assert second.startswith("2/2  0 left in about 0 s") and second.endswith(
        "crash: died by SIGSEGV"
    )


def test_lines_come_while_the_batch_is_running(tmp_path: Path) -> None:
    """Read from the pipe of a living batch; the numbers go up and what is left goes down."""
    process = Bench(tmp_path, seeds=4).start("--workers", "1")
    assert process.stderr is not None
    lines = [line for line in process.stderr if "left in about" in line and process.poll() is None]
    assert process.wait() == 0
    heads = [re.match(r"(\d)/4  (\d) left in about \d+ (s|min)  tiny  test-slow", x) for x in lines]
    assert lines and all(heads)
    numbers = [(int(h[1]), int(h[2])) for h in heads if h]
    assert numbers == [(k, 4 - k) for k in range(1, len(numbers) + 1)]
