"""Tables on the terminal."""

from __future__ import annotations

import pytest

from nptp_opt.plot.terminal import print_pairs


def test_every_fault_has_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    """All faults of a plan were in one cell, as one paragraph."""
    faults = ["step 2 of conv: no tile", "step 3 of pool: 2 bytes too many"]
    print_pairs({"ok": False, "faults": faults, "devices": ["a", "b"], "none": []})
    lines = [line.strip().split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert lines[1] == ["faults", faults[0]]
    assert " ".join(lines[2]) == faults[1]
    assert lines[3] == ["devices", "a, b"]
    assert len(lines) == 5
