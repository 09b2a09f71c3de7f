"""What a killed launcher leaves is found; what belongs to a run under way is not touched."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from nptp_opt.runtime.leftovers import FOLDER_PREFIX, claim, clean_leftovers


def test_only_abandoned_folders_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder whose lock is held, or that has none yet, stays."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    used, dead, fresh = (tmp_path / f"{FOLDER_PREFIX}{name}" for name in ("used", "dead", "fresh"))
    for folder in (used, dead, fresh):
        folder.mkdir()
    claim(dead).close()
    with claim(used):
        assert clean_leftovers().folders == (dead,)
    assert used.exists()
    assert fresh.exists()
    assert not dead.exists()
