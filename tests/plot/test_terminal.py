"""Tables fit the terminal that they are printed on, and nothing that is named is cut."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from nptp_opt.plot.terminal import HINT, print_pairs, print_rows, print_text
from nptp_opt.plot.width import WIDE

NAME = "mobilenet_v2-depthwise3x3s2-96to96-at56-n2-equal-shared-100-step2"
PROSE = "no model of its own, but a bound of the family that the others search in"


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """80 columns, in black and white."""
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def wide() -> Iterator[None]:
    token = WIDE.set(True)
    yield
    WIDE.reset(token)


def _printed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def _matrix() -> list[dict[str, Any]]:
    names = [f"contender-{k}" for k in range(12)]
    return [{"contender": name, **{n: k * 1.5 for k, n in enumerate(names)}} for name in names]


@pytest.mark.usefixtures("terminal")
def test_many_numbers_are_continued_below_each_behind_its_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Bug: headers of `report` and `sweep` became vertical letters."""
    print_rows(_matrix())
    lines = _printed(capsys)
    assert max(map(len, lines)) <= 80
    headers = [line.split() for line in lines if line.startswith("contender ")]
    assert len(headers) > 1
    assert [name for header in headers for name in header[1:]] == [
        f"contender-{k}" for k in range(12)
    ]
    assert sum(line.startswith("contender-3") for line in lines) == len(headers)


@pytest.mark.usefixtures("terminal")
def test_a_long_name_is_whole_and_what_does_not_fit_is_left_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Bug: `instances list` broke names over six lines."""
    rows = [{"name": NAME, "value_s": 0.001, "grade": "easy", "by": "multilevel"}]
    print_rows(rows, ("name", "grade", "value_s"))
    header, line, hint = _printed(capsys)
    assert header.split() == ["name", "grade"]
    assert line.split() == [NAME, "easy"]
    assert hint == HINT


@pytest.mark.usefixtures("terminal", "wide")
def test_wide_shows_all_columns(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows([{"name": NAME, "value_s": 0.001, "by": PROSE}], ("name",))
    assert _printed(capsys)[1].split() == [NAME, "1", *PROSE.split()]


def test_a_pipe_gets_all_columns_in_one_line_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(_matrix())
    lines = _printed(capsys)
    assert len(lines) == 13 and len(lines[0].split()) == 13
    assert not any(line.endswith(" ") for line in lines)


@pytest.mark.usefixtures("terminal")
def test_sentences_are_wrapped_at_words(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows([{"name": "a", "one": PROSE, "two": PROSE}])
    lines = _printed(capsys)
    assert max(map(len, lines)) <= 80
    words = " ".join(lines).split()
    assert all(words.count(word) >= 2 for word in PROSE.split())
    print_text(f"{PROSE} {PROSE}")
    print_pairs({"note": PROSE + PROSE, "faults": [PROSE, PROSE]})
    assert max(map(len, _printed(capsys))) <= 80


@pytest.mark.usefixtures("terminal")
def test_rows_of_many_sentences_are_records(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows([{"name": f"m{k}", **{f"about-{n}": PROSE for n in range(4)}} for k in range(2)])
    lines = _printed(capsys)
    assert max(map(len, lines)) <= 80
    assert [line for line in lines if not line.startswith(" ")] == ["m0", "m1"]
    assert sum(line.startswith("  about-3") for line in lines) == 2


@pytest.mark.usefixtures("terminal")
def test_letters_that_are_two_columns_wide_stay_in_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_rows([{"device": "カメラ", "n": 1}, {"device": "board", "n": 2}])
    assert _printed(capsys) == ["device  n", "カメラ  1", "board   2"]
