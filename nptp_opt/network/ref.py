"""Which model something is about: what is needed to load it again."""

from __future__ import annotations

from dataclasses import dataclass

GIVEN = "given:"
"""Begins the reference of a module that was handed over as an object: only its owner has it."""


@dataclass(frozen=True)
class ModelRef:
    """Which model a plan is for: a name that ``network.load`` knows, input shape, weight seed.

    A module that was given as an object is ``given:MODULE:CLASS``; it has to be given again.
    """

    ref: str
    input: tuple[int, ...]
    seed: int = 0

    @property
    def is_given(self) -> bool:
        """True where only the one who has the module can load it."""
        return self.ref.startswith(GIVEN)

    def __str__(self) -> str:
        return f"{self.ref} at {'x'.join(map(str, self.input))}"
