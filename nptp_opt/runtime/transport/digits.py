"""Numbers in headers and addresses, which others write. Standard library alone."""

from __future__ import annotations

MOST_PORT = 2**16 - 1

MOST_DIGITS = 20
"""No size in bytes has more."""


def whole_number(text: str) -> int | None:
    """The number that ASCII digits write; None for anything else.

    ``str.isdigit`` is true of characters that ``int`` refuses, and of more digits than it takes.
    """
    plain = text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS
    return int(text) if plain else None


def port_number(text: str) -> int | None:
    """The port that the text writes; None where it is none."""
    number = whole_number(text)
    return None if number is None or number > MOST_PORT else number
