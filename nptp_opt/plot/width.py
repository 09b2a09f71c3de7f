"""Whether tables show all columns, on a terminal too: what ``--wide`` asks for."""

from __future__ import annotations

from contextvars import ContextVar

WIDE: ContextVar[bool] = ContextVar("wide", default=False)
