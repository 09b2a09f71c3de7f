"""Which model something is about: what is needed to load it again."""

from __future__ import annotations

import math
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
class Pixels:
    """Inputs as uint8, which the network itself normalises: ((x / scale) - mean) / std.

    ``mean`` and ``std`` have one number for all channels, or one for each. Raises InputError for
    numbers that no normalisation has.
    """

    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        for name, values in (("scale", (self.scale,)), ("std", self.std)):
            if not values or not all(math.isfinite(each) and each > 0 for each in values):
                raise InputError(f"`{name}` must be positive and finite, got {_shown(values)}")
        if not self.mean or not all(map(math.isfinite, self.mean)):
            raise InputError(f"`mean` must be finite, got {_shown(self.mean)}")

    @property
    def changes_nothing(self) -> bool:
        """True where the model takes the pixels' values as they are."""
        return self == Pixels()

    @property
    def numbers(self) -> tuple[float, tuple[float, ...], tuple[float, ...]]:
        """Scale, mean and std."""
        return self.scale, self.mean, self.std


InputPixels = tuple[Pixels | None, ...]
"""Of every input in the model's own order: None for one that is as the model takes it."""

Channels = float | Sequence[float]
"""A number for all channels, or one for each."""


def pixels_of(
    count: int,
    input_dtype: str | Sequence[str],
    scale: Channels | None = None,
    mean: Channels | Sequence[Channels] | None = None,
    std: Channels | Sequence[Channels] | None = None,
) -> InputPixels:
    """The pixels that are asked for of a model with ``count`` inputs; empty where all are float32.

    One type is that of all inputs. ``scale``, ``mean`` and ``std`` are the same for all inputs of
    uint8, or there is one for each of them. Raises InputError for another number, and for what
    cannot be meant.
    """
    dtypes = _dtypes(count, input_dtype)
    given = {"scale": scale, "mean": mean, "std": std}
    named = [name for name, value in given.items() if value is not None]
    images = dtypes.count("uint8")
    if not images:
        if named:
            raise InputError(f"`{named[0]}` is for pixels: give `input_dtype` uint8, too")
        return ()
    by_image = {name: _by_image(name, given[name], images) for name in named}
    made = (_pixels({name: values[k] for name, values in by_image.items()}) for k in range(images))
    return tuple(next(made) if dtype == "uint8" else None for dtype in dtypes)


def _dtypes(count: int, given: str | Sequence[str]) -> list[str]:
    dtypes = [given] if isinstance(given, str) else list(given)
    unknown = [dtype for dtype in dtypes if dtype not in ("float32", "uint8")]
    if unknown:
        raise InputError(f"`input_dtype` must be float32 or uint8, got {unknown[0]!r}")
    if len(dtypes) not in (1, count):
        raise InputError(
            f"`input_dtype` has {len(dtypes)} types, the model {count} inputs: give one for each, "
            "or one for all"
        )
    return dtypes * count if len(dtypes) == 1 else dtypes


def _by_image(name: str, value: Any, images: int) -> list[tuple[float, ...]]:
    """The numbers of every image: a sequence of scales, or of means of which one is a sequence
    itself, has those of one image after the other."""
    several = isinstance(value, Sequence) and not isinstance(value, str)
    if several and (name == "scale" or any(isinstance(each, Sequence) for each in value)):
        if len(value) not in (1, images):
            raise InputError(
                f"`{name}` is given {len(value)} times for {images} inputs of uint8: give it once "
                "for all, or once for each"
            )
        return [_channels(name, each) for each in value] * (images if len(value) == 1 else 1)
    return [_channels(name, value)] * images


def _channels(name: str, value: Channels) -> tuple[float, ...]:
    try:
        return tuple(map(float, value if isinstance(value, Sequence) else [value]))
    except (TypeError, ValueError):
        raise InputError(f"`{name}` must be a number, or one for each channel") from None


def _pixels(given: dict[str, tuple[float, ...]]) -> Pixels:
    if len(given.get("scale", (1.0,))) != 1:
        raise InputError("`scale` must be one number for an input")
    values: dict[str, Any] = {**given}
    return Pixels(**values | ({"scale": given["scale"][0]} if "scale" in given else {}))


def _shown(values: Sequence[float]) -> str:
    return ",".join(f"{each:g}" for each in values) or "nothing"


@dataclass(frozen=True)
class ModelRef:
    """Which model a plan is for: a name that ``network.load`` knows, input shape, weight seed.

    ``input`` is the shape of the model's only input, or a tuple of shapes where it has several.
    A module that was given as an object is ``given:MODULE:CLASS``; it has to be given again.
    ``weights`` is the hash of those that a file brought (``network.weights``); None where no file
    was named: they are random, by ``seed``, or the module's own.
    """

    ref: str
    input: Shape | tuple[Shape, ...]
    seed: int = 0
    weights: str | None = None
    """sha256 of the content of the weights that a file brought."""
    pixels: InputPixels = ()
    """How the network normalises inputs of uint8; empty where it has none."""

    def __post_init__(self) -> None:
        shapes = shapes_of(self.input)
        object.__setattr__(self, "input", shapes[0] if len(shapes) == 1 else shapes)
        if self.pixels and len(self.pixels) != len(shapes):
            raise InputError(f"pixels of {len(self.pixels)} inputs, the model has {len(shapes)}")

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
