"""Inputs of uint8 in files: those of plans and of network instances."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from nptp_opt.files import ONE, SEVERAL, Strict
from nptp_opt.network.ref import InputPixels, Pixels

Numbers = Annotated[tuple[float, ...], Field(strict=False, min_length=1)]


class PixelsEntry(Strict):
    """An input of uint8 that the network normalises: ((x / scale) - mean) / std."""

    dtype: Literal["uint8"]
    scale: float
    mean: Numbers
    std: Numbers

    @model_validator(mode="after")
    def _possible(self) -> Self:
        self.pixels()
        return self

    def pixels(self) -> Pixels:
        """The same in code."""
        return Pixels(self.scale, self.mean, self.std)


_Several = Annotated[tuple[PixelsEntry | None, ...], Field(strict=False, min_length=2)]


def _one_or_several(data: Any) -> str:
    return SEVERAL if isinstance(data, (list, tuple)) else ONE


PixelsField = (
    Annotated[
        Annotated[PixelsEntry, Tag(ONE)] | Annotated[_Several, Tag(SEVERAL)],
        Discriminator(_one_or_several),
    ]
    | None
)
"""Of the only input, or of every input (null for one of float32)."""


def pixels_from_json(entry: PixelsEntry | tuple[PixelsEntry | None, ...] | None) -> InputPixels:
    """The same in code."""
    if entry is None:
        return ()
    entries = entry if isinstance(entry, tuple) else (entry,)
    return tuple(None if each is None else each.pixels() for each in entries)


def pixels_to_json(pixels: InputPixels) -> dict[str, Any]:
    """The field ``pixels`` of a model, or nothing where all inputs are float32."""
    if not pixels:
        return {}
    entries = [None if each is None else _entry(each) for each in pixels]
    return {"pixels": entries[0] if len(entries) == 1 else entries}


def _entry(pixels: Pixels) -> dict[str, Any]:
    numbers = {"scale": pixels.scale, "mean": list(pixels.mean), "std": list(pixels.std)}
    return {"dtype": "uint8", **numbers}
