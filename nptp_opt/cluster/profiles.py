"""A device's measured speed, layer shape by layer shape: what ``profile`` writes, clusters name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from nptp_opt.files import Strict, explain, load_json, write_text

PROFILE_SCHEMA = "nptp-opt/profile/1"

_Speed = Annotated[float, Field(ge=1e-9, le=1e15, allow_inf_nan=False)]
_Amount = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]


class LayerSpeed(Strict):
    """Seconds of a tile of one layer shape: overhead + FLOP of the tile / rate."""

    layer: str
    """The layer's shape in words, as ``cost.layer_key`` gives it."""
    gflops: _Speed
    overhead_ms: _Amount

    @property
    def flop_per_s(self) -> float:
        return self.gflops * 1e9

    @property
    def overhead_s(self) -> float:
        return self.overhead_ms * 1e-3


class MeasuredLayer(LayerSpeed):
    """A fitted speed and how well it fits."""

    residual: _Amount
    """Largest relative distance between a tile measured alone and the line through them."""
    points: Annotated[int, Field(ge=1)]


class Link(Strict):
    """The way to one peer over the tcp transport."""

    latency_ms: _Amount
    """One way of a small message: half its round trip."""
    message_ms: _Amount = 0.0
    """What handing over one small message takes of the sender's time."""
    up_mbit_per_s: _Speed
    down_mbit_per_s: _Speed


CODEC_RATES = (
    "encode_mb_per_s", "decode_mb_per_s", "huffman_encode_mb_per_s", "huffman_decode_mb_per_s"
)  # fmt: skip
"""Keys of a profile and of a device, in the order of ``measure_codec``."""


class Profile(Strict):
    """The profile file. ``gflops`` and ``overhead_ms`` stand for layer shapes not measured."""

    schema_: Annotated[Literal["nptp-opt/profile/1"], Field(alias="schema")]
    model: str
    threads: Annotated[int, Field(ge=1)]
    executor: str = "torch"
    """What computed; profiles of before there was a choice were measured in torch."""
    gflops: _Speed
    overhead_ms: _Amount
    program_ms: _Amount = 0.0
    """Of every tile program, beside its layers' calls."""
    layers: Annotated[tuple[MeasuredLayer, ...], Field(strict=False)]
    link: Link | None = None
    encode_mb_per_s: _Speed | None = None
    decode_mb_per_s: _Speed | None = None
    """Of the bitmask codec, on half-dense float32 elements."""
    huffman_encode_mb_per_s: _Speed | None = None
    huffman_decode_mb_per_s: _Speed | None = None
    """Of the Huffman codec, in first bytes of their non-zeros."""
    provenance: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The file's content."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def device_fields(self, *, own_link: bool) -> dict[str, Any]:
        """What a cluster's device entry has of it, with the rates of a link of its own if asked."""
        layers = [
            {"layer": each.layer, "gflops": each.gflops, "overhead_ms": each.overhead_ms}
            for each in self.layers
        ]
        fields: dict[str, Any] = {
            "gflops": self.gflops,
            "overhead_ms": self.overhead_ms,
            "layers": layers,
            "executor": self.executor,
        }
        if self.program_ms:
            fields["program_ms"] = self.program_ms
        for name in CODEC_RATES:
            if getattr(self, name) is not None:
                fields[name] = getattr(self, name)
        if own_link and self.link is not None:
            fields |= self.link.model_dump(include={"up_mbit_per_s", "down_mbit_per_s"})
        return fields


def load_profile(path: Path) -> Profile:
    """Read a profile; raises InputError that names file and field."""
    try:
        return Profile.model_validate(load_json(path))
    except ValidationError as error:
        raise explain(error, str(path)) from None


def write_profile(profile: Profile, path: Path) -> None:
    """Write a profile file, whole or not at all."""
    write_text(path, json.dumps(profile.to_json(), indent=1, allow_nan=False) + "\n")
