"""Which rims of a tile are computed apart from its interior (``pieces``)."""

from __future__ import annotations

from typing import Literal, get_args

Rims = Literal["none", "incoming", "outgoing", "both"]
"""The rims that are computed apart from the interior."""

RIMS: tuple[Rims, ...] = get_args(Rims)

INCOMING, OUTGOING = 1, 2
"""Bits of a place in ``RIMS``."""
