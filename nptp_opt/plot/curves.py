"""Looks of curves that stay apart in print: colours, and dashes after those are used up."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from nptp_opt.plot.colours import COLOURS

DASHES = ("-", "--", ":", "-.")
PALE = "#f0e442"
"""No colour for a line on white."""


def line_looks() -> Iterator[dict[str, Any]]:
    """Keywords of one line after the other, without end."""
    dark = [colour for colour in COLOURS if colour != PALE]
    for dash, colour in itertools.cycle(itertools.product(DASHES, dark)):
        yield {"color": colour, "linestyle": dash, "linewidth": 1.6}
