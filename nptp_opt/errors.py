"""Typed errors. Every message says what is wrong, where, and what to do next.

``exit_code`` is the status with which the command line ends (docs/exit-codes.md).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class NptpError(Exception):
    """Base of everything that nptp-opt raises on purpose."""

    exit_code = 2


class InputError(NptpError, ValueError):
    """What the user gave cannot be used: a file, an option, a name."""


class UnsupportedError(InputError):
    """A model uses an op, or a way of using it, that is not handled."""


class VerificationError(NptpError):
    """A plan does not compute what the model computes."""

    exit_code = 1


class InfeasibleError(NptpError):
    """No partition satisfies the constraints."""

    exit_code = 3


class NoSolutionError(NptpError):
    """The limit was reached before any solution was found."""

    exit_code = 4


class SolverError(NptpError):
    """A solver refused the model, crashed, or is not installed."""

    exit_code = 5


class ExecutionError(NptpError):
    """A run on devices failed: a process died, or a peer did not answer."""

    exit_code = 6


INTERNAL = 7
"""Exit status where an exception ends the command line that is none of the above: a bug."""


REFUSED, LAUNCHER_LOST = 8, 9
"""Exit status of a worker that its launcher does not let in, and of one that has lost it."""


INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""


def internal_error(error: BaseException) -> str:
    """The one line that the command line says of such an exception."""
    first = (str(error).strip().splitlines() or [""])[0]
    what = type(error).__name__ + (f": {first}" if first else "")
    return f"internal error ({what}); please report it with the command and `nptp-opt versions`"


LAST_LINES = 3
MOST_LETTERS = 300


def last_lines(error: BaseException) -> str:
    """The end of an exception's message in one line: what is wrong stands there, not in its title.

    Lines and letters that are left out are replaced by dots.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    kept = [*(["..."] if len(lines) > LAST_LINES else []), *lines[-LAST_LINES:]]
    short = (line if len(line) <= MOST_LETTERS else f"{line[:MOST_LETTERS]}..." for line in kept)
    return " ".join(short)


def printable(text: str) -> str:
    """What another machine says, fit for a terminal: control characters are spelled out, and only
    ``MOST_LETTERS`` are kept."""
    short = text if len(text) <= MOST_LETTERS else f"{text[:MOST_LETTERS]}..."
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii")
                   for each in short)  # fmt: skip


MOST_NAMES = 20
"""Known names that one message lists; of more, the nearest."""


def unknown_name(what: str, name: str, known: Iterable[str]) -> InputError:
    """The error for a name that is not in a registry, with the nearest one and all known ones."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    if len(names) > MOST_NAMES:
        nearest = difflib.get_close_matches(name, names, n=MOST_NAMES, cutoff=0.0)
        names = [*nearest, "..."]
    return InputError(f"unknown {what} {name!r}.{hint} Known: {', '.join(names)}.")
