"""Exports without torch's own account of a failure, which is pages long before our one line."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import warnings
from collections.abc import Iterator

SILENT = logging.CRITICAL + 1
"""A level that no record has."""


TORCH_S_OWN = (
    "The tensor attributes? .* assigned during export",
    ".*isinstance.treespec, LeafSpec",
)
"""Warnings about torch's own code, or about attributes that a copy of the model has been given."""


@contextlib.contextmanager
def quiet_export() -> Iterator[None]:
    """Silence torch's logs, and the graph so far that it prints where data decide.

    What else is written to stderr, by the model or as a warning, comes at the end.
    """
    held, graph = io.StringIO(), ""
    try:
        with _silent_logs(), contextlib.redirect_stderr(held), warnings.catch_warnings():
            for message in TORCH_S_OWN:
                warnings.filterwarnings("ignore", message=message)
            yield
    except Exception as error:
        graph = getattr(error, "partial_fx_graph", "")
        raise
    finally:
        text = held.getvalue()
        sys.stderr.write(text.replace(f"{graph}\n", "") if graph else text)


@contextlib.contextmanager
def _silent_logs() -> Iterator[None]:
    """Handlers, not loggers: those of modules that are imported meanwhile write through them."""
    levels = {handler: handler.level for logger in _loggers() for handler in logger.handlers}
    for handler in levels:
        handler.setLevel(SILENT)
    try:
        yield
    finally:
        for handler, level in levels.items():
            handler.setLevel(level)


def _loggers() -> list[logging.Logger]:
    known = list(logging.root.manager.loggerDict.items())
    return [
        logger
        for name, logger in known
        if isinstance(logger, logging.Logger) and name.partition(".")[0] == "torch"
    ]
