"""A moving line on a terminal while something takes its time; nothing in scripts and logs."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from nptp_opt.commands.speech import speech

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

log = logging.getLogger("nptp_opt")


class Line:
    """What is being done and for how long; without a terminal all of this is silent."""

    def __init__(self, text: str, progress: Progress, task: TaskID, *, quiet: bool) -> None:
        self._text, self._progress, self._task = text, progress, task
        self._quiet = quiet

    def fastest(self, latency_s: float) -> None:
        """A better plan is known."""
        text = f"{self._text}, fastest so far {latency_s * 1e3:.4g} ms"
        self._progress.update(self._task, description=text)

    def note(self, text: str) -> None:
        """How far it is."""
        self._progress.update(self._task, description=f"{self._text}, {text}")

    def tell(self, text: str) -> None:
        """A warning, above the line."""
        with self._aside():
            log.warning(text)

    def say(self, text: str) -> None:
        """A line of progress that stays; nothing with ``-q``."""
        if self._quiet:
            return
        with self._aside():
            sys.stderr.write(f"{text}\n")

    @contextmanager
    def _aside(self) -> Iterator[None]:
        self._progress.stop()
        try:
            yield
        finally:
            if not self._progress.disable:
                self._progress.start()


def _console() -> Console:
    """Stderr, its cursor left visible: a command that is killed cannot bring it back."""
    from rich.console import Console

    class Steady(Console):
        def show_cursor(self, show: bool = True) -> bool:
            return False

    return Steady(stderr=True)


@contextmanager
def show_progress(text: str) -> Iterator[Line]:
    """Show ``text`` and the seconds since on stderr until the block ends, then take it away."""
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    quiet = speech().quiet
    columns = (SpinnerColumn("line"), TextColumn("{task.description}", markup=False))
    with Progress(
        *columns,
        TimeElapsedColumn(),
        console=_console(),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
        disable=quiet or not sys.stderr.isatty(),
    ) as progress:
        yield Line(text, progress, progress.add_task(text, total=None), quiet=quiet)
