"""The audit of installed packages tells a vulnerability, and never takes silence for a pass."""

from __future__ import annotations

import pytest

from tools import audit
from tools.audit import NOT_AUDITED, report

KNOWN = {"name": "click", "version": "8.1.0", "vulns": []}
UNKNOWN = {"name": "own", "skip_reason": "not on the index"}


def _weak(*fixed_in: str) -> dict[str, object]:
    found = {"id": "PYSEC-1", "fix_versions": [*fixed_in]}
    return {"name": "h11", "version": "0.14.0", "vulns": [found]}


def test_a_vulnerability_is_told_with_the_version_that_mends_it() -> None:
    lines, status = report([KNOWN, _weak("0.16.0"), UNKNOWN])
    assert status == 1 and lines[0] == "h11 0.14.0: PYSEC-1, mended in 0.16.0"
    assert lines[-1] == "2 packages audited, the database does not know own"
    assert report([_weak()])[0][0].endswith("mended in no version yet")


def test_nothing_found_is_a_pass_only_where_something_was_asked() -> None:
    """Bug of the tool behind it: packages that its database does not know pass as sound."""
    assert report([KNOWN, UNKNOWN])[1] == 0
    assert report([UNKNOWN])[1] == report([])[1] == NOT_AUDITED
    assert report([UNKNOWN])[0] == ["nothing was audited: the database knows none of 1 packages"]


@pytest.mark.parametrize("words", ["import sys; sys.exit('no network')", "print('{}')"])
def test_a_tool_that_fails_is_no_pass(
    words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(audit, "COMMAND", ("-c", words))
    assert audit.main() == NOT_AUDITED
    assert "nothing was audited" in capsys.readouterr().err
