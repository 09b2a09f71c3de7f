"""Tables that fit the terminal they are printed on.

In a pipe or a file, and with ``--wide``, each row is one line with all columns: no name is cut.
"""

from __future__ import annotations

import errno
import os
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from nptp_opt.plot.units import beside, column, is_number, quantity, with_unit
from nptp_opt.plot.width import WIDE

GAP = "  "
"""Between two columns."""

PROSE = 24
"""Letters that a column of sentences needs at least."""

HINT = "--wide shows all columns"


class Terminal(Console):
    """Where tables are printed; a pipe that nobody reads any more is the command line's to tell."""

    def __init__(self) -> None:
        super().__init__(highlight=False, soft_wrap=True, markup=False, emoji=False)

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    @property
    def room(self) -> int | None:
        """Letters of a line; None where lines may be as long as they get."""
        return self.width if self.is_terminal and not WIDE.get() else None


@dataclass(frozen=True)
class Column:
    """A column of text. ``cells`` may have several lines."""

    key: str
    header: str
    cells: tuple[str, ...]
    right: bool

    @property
    def width(self) -> int:
        return max(cell_len(line) for cell in (self.header, *self.cells) for line in _lines(cell))

    @property
    def is_prose(self) -> bool:
        """Whether it may be wrapped at its words."""
        return not self.right and self.width > PROSE and any(" " in cell for cell in self.cells)

    @property
    def least(self) -> int:
        """Letters that it needs."""
        return max(PROSE, cell_len(self.header)) if self.is_prose else self.width

    def wrapped(self, width: int) -> Column:
        """The same with no line above ``width``."""
        cells = tuple("\n".join(_wrap_all(cell, width)) for cell in self.cells)
        return Column(self.key, self.header, cells, self.right)

    def lines(self, row: int) -> list[str]:
        """The lines of a cell, each as wide as the column."""
        width = self.width
        return [_pad(line, width, right=self.right) for line in _lines(self.cells[row])]


def shows_all() -> bool:
    """Whether a row is one line with all that there is: in a pipe, and with ``--wide``."""
    return Terminal().room is None


def print_text(text: str, style: str | None = None) -> None:
    """A paragraph, wrapped at its words."""
    console = Terminal()
    room = console.room
    for line in _wrap_all(text, room):
        console.print(Text(line), style=style)


def print_pairs(content: Mapping[str, Any]) -> None:
    """A two-column table of names and values; of several sentences each has a row."""
    rows: list[tuple[str, str]] = []
    for name, value in content.items():
        key = with_unit(name, content)
        sentences = isinstance(value, list) and all(" " in str(part) for part in value)
        for number, part in enumerate(value if value and sentences else [value]):
            rows.append((quantity(key).name if number == 0 else "", beside(key, part)))
    console = Terminal()
    _print_lines(console, _pair_lines(rows, console.room))


def print_rows(rows: Sequence[Mapping[str, Any]], first: Sequence[str] = ()) -> None:
    """A table with the keys of the first row as its header; nothing without rows.

    ``first`` names the columns that matter, the most important first: where not all fit, as many of
    these are shown as do. Without it all are: below each other if need be.
    """
    if not rows:
        return
    columns = [_column(key, [row[key] for row in rows]) for key in rows[0]]
    console = Terminal()
    room = console.room
    if room is None or _least(columns) <= room:
        _print_table(console, columns, room)
    elif first:
        _print_table(console, _chosen(columns, first, room), room)
        console.print(Text(HINT), style="dim")
    elif any(each.is_prose for each in columns):
        _print_records(console, columns, room)
    else:
        for number, part in enumerate(_parts(columns, room)):
            if number:
                console.print()
            _print_table(console, part, room)


def _column(key: str, values: Sequence[Any]) -> Column:
    header, cells = column(key, values)
    known = [value for value in values if value is not None]
    return Column(key, header, tuple(cells), bool(known) and all(map(is_number, known)))


def _least(columns: Sequence[Column]) -> int:
    return sum(each.least for each in columns) + len(GAP) * (len(columns) - 1)


def _chosen(columns: Sequence[Column], first: Sequence[str], room: int) -> list[Column]:
    """As many of the columns ``first`` as there is room for, in the table's own order."""
    chosen: list[str] = []
    for key in first:
        with_it = [each for each in columns if each.key in (*chosen, key)]
        if chosen and _least(with_it) > room:
            break
        chosen.append(key)
    return [each for each in columns if each.key in chosen]


def _parts(columns: Sequence[Column], room: int) -> Iterable[list[Column]]:
    """The columns in groups that fit, each behind the first column, which names the rows."""
    title, part = columns[0], [columns[0]]
    for each in columns[1:]:
        if len(part) > 1 and _least([*part, each]) > room:
            yield part
            part = [title]
        part.append(each)
    yield part


def _print_table(console: Terminal, columns: Sequence[Column], room: int | None) -> None:
    """The header and one line or more per row."""
    fitted = columns if room is None else _fitted(columns, room)
    header = GAP.join(_pad(each.header, each.width, right=each.right) for each in fitted)
    console.print(Text(header.rstrip()), style="bold")
    for row in range(len(fitted[0].cells)):
        _print_lines(console, _joined([each.lines(row) for each in fitted], fitted))


def _fitted(columns: Sequence[Column], room: int) -> list[Column]:
    """Columns of sentences share the room that the others leave, in proportion to their need."""
    spare = room - _least(columns)
    wanted = sum(each.width - each.least for each in columns) or 1
    share = min(1.0, max(0.0, spare / wanted))
    return [
        each.wrapped(each.least + int(share * (each.width - each.least))) if each.is_prose else each
        for each in columns
    ]


def _joined(cells: Sequence[list[str]], columns: Sequence[Column]) -> list[str]:
    """The lines of one row."""
    height = max(map(len, cells))
    blank = [" " * each.width for each in columns]
    filled = [
        [*lines, *[gap] * (height - len(lines))] for lines, gap in zip(cells, blank, strict=True)
    ]
    return [GAP.join(line) for line in zip(*filled, strict=True)]


def _print_records(console: Terminal, columns: Sequence[Column], room: int) -> None:
    """Each row on lines of its own: its first cell, then what else is known of it, by name."""
    title, *others = columns
    for row, name in enumerate(title.cells):
        console.print(Text(name), style="bold")
        cells = ((each.header, each.cells[row]) for each in others)
        known = [(header, cell) for header, cell in cells if cell not in ("", "-")]
        _print_lines(console, (GAP + line for line in _pair_lines(known, room - len(GAP))))


def _pair_lines(rows: Sequence[tuple[str, str]], room: int | None) -> list[str]:
    """Names and values; a value that is too long for its line goes on below itself."""
    width = max((cell_len(name) for name, _ in rows), default=0)
    lines: list[str] = []
    for name, value in rows:
        left = None if room is None else max(PROSE, room - width - len(GAP))
        parts = _wrap_all(value, left)
        names = [name, *[""] * (len(parts) - 1)]
        lines += [_pad(n, width) + GAP + part for n, part in zip(names, parts, strict=True)]
    return lines


def _print_lines(console: Terminal, lines: Iterable[str]) -> None:
    for line in lines:
        console.print(Text(line.rstrip()))


def _lines(text: str) -> list[str]:
    return text.split("\n")


def _wrap_all(text: str, width: int | None) -> list[str]:
    """Every line of ``text``, none above ``width`` if there is one."""
    if width is None:
        return _lines(text)
    return [line for part in _lines(text) for line in _wrap(part, width)]


def _wrap(text: str, width: int) -> list[str]:
    """At spaces only: who copies a long name gets the whole name."""
    wrapped = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
    return wrapped or [""]


def _pad(text: str, width: int, *, right: bool = False) -> str:
    blank = " " * (width - cell_len(text))
    return blank + text if right else text + blank
