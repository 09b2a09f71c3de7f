"""How much is told: ``-q``, ``-v`` and ``--wide``, before the command or behind it."""

from __future__ import annotations

import logging
import shutil
import sys
import textwrap
from dataclasses import dataclass
from typing import Any

import click


@dataclass
class Speech:
    """What was asked for; of the whole command line, whichever side of the command it stood."""

    verbose: int = 0
    quiet: bool = False
    json: bool = False
    """Whether exactly one JSON object is wanted on stdout."""
    printed: bool = False
    """Whether it was printed."""

    @property
    def level(self) -> int:
        """Of the loggers."""
        return logging.ERROR if self.quiet else logging.WARNING - 10 * min(self.verbose, 2)


def speech() -> Speech:
    """That of the command that runs in this thread; the default outside of any."""
    context = click.get_current_context(silent=True)
    return Speech() if context is None else context.find_root().ensure_object(Speech)


def say(text: str) -> None:
    """Progress, on stderr; nothing with ``-q``."""
    if not speech().quiet:
        click.echo(_fitted(text) if sys.stderr.isatty() else text, err=True)


def _fitted(text: str) -> str:
    """Broken between words where the terminal's lines end; paths and names stay whole."""
    columns = shutil.get_terminal_size().columns
    return textwrap.fill(text, columns, break_long_words=False, break_on_hyphens=False)


def _more(context: click.Context, _: click.Parameter, count: int) -> None:
    asked = context.find_root().ensure_object(Speech)
    asked.verbose += count
    _apply(asked)


def _less(context: click.Context, _: click.Parameter, quiet: bool) -> None:
    asked = context.find_root().ensure_object(Speech)
    asked.quiet = asked.quiet or quiet
    _apply(asked)


def _apply(asked: Speech) -> None:
    """Let the loggers of this package tell so much."""
    logging.basicConfig(stream=sys.stderr, format="%(name)s: %(message)s")
    logging.getLogger().setLevel(asked.level)


def _widen(context: click.Context, _: click.Parameter, wide: bool) -> None:
    from nptp_opt.plot.width import WIDE

    if wide or context.parent is None:  # a new command line forgets the one before
        WIDE.set(wide)


COMMON: tuple[tuple[tuple[str, ...], dict[str, Any]], ...] = (
    (("-q", "--quiet"), {"is_flag": True, "callback": _less,
                         "help": "Nothing on stderr but errors."}),
    (("-v", "--verbose"), {"count": True, "callback": _more, "show_default": False,
                           "help": "More on stderr, and tracebacks; twice for still more."}),
    (("--wide",), {"is_flag": True, "callback": _widen,
                   "help": "All columns of a table, however wide."}),
)  # fmt: skip


def common_options() -> list[click.Parameter]:
    """The options that every command has, and the command line itself."""
    return [click.Option(list(names), expose_value=False, **more) for names, more in COMMON]
