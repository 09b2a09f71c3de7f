"""Which model something is about: what is needed to load it again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nptp_opt.errors import InputError

GIVEN = "given:"
"""Begins the reference of a module that was handed over as an object: only its owner has it."""

Shape = tuple[int, ...]

InputShape = Shape | Sequence[Shape]
"""The shape of a model's only input, or those of all its inputs in the model's own order."""


@dataclass(frozen=True)
class ModelRef:
    """Which model a plan is for: a name that ``network.load`` knows, input shape, weight seed.

    ``input`` is the shape of the model's only input, or a tuple of shapes where it has several.
    A module that was given as an object is ``given:MODULE:CLASS``; it has to be given again.
    """

    ref: str
    input: Shape | tuple[Shape, ...]
    seed: int = 0

    def __post_init__(self) -> None:
        shapes = shapes_of(self.input)
        object.__setattr__(self, "input", shapes[0] if len(shapes) == 1 else shapes)

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """The shape of every input, in the model's own order."""
        return shapes_of(self.input)

    @property
    def is_given(self) -> bool:
        """True where only the one who has the module can load it."""
        return self.ref.startswith(GIVEN)

    def __str__(self) -> str:
        return f"{self.ref} at {spelled(self.input)}"


def shapes_of(shape: InputShape) -> tuple[Shape, ...]:
    """The shapes of all inputs; raises InputError for what is neither one shape nor several."""
    parts: Sequence[Any] = tuple(shape)
    if all(isinstance(part, int) for part in parts):
        return (tuple(parts),)
    several = [tuple(part) for part in parts if isinstance(part, Sequence)]
    if len(several) < len(parts) or not all(isinstance(n, int) for each in several for n in each):
        raise InputError(
            f"input {parts}: give one shape, such as (1, 3, 224, 224), or a sequence of shapes"
        )
    return tuple(several)


def spelled(shape: InputShape) -> str:
    """One or several shapes as the command line takes them: ``1x3x32x32,1x2``."""
    return ",".join("x".join(map(str, each)) for each in shapes_of(shape))


def shape_to_json(shape: InputShape) -> list[Any]:
    """A list of numbers for one input, a list of lists for several."""
    shapes = [list(each) for each in shapes_of(shape)]
    return shapes[0] if len(shapes) == 1 else shapes
