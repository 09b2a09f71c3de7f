"""The network as JSON, exactly: workers and plans need neither torch.export nor the model."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, get_type_hints

from pydantic import AfterValidator, BaseModel, Field, create_model, model_validator

from nptp_opt.files import MOST_EXACT, Strict
from nptp_opt.geometry import MOST_POSITION, AxisMap, Window, axis_maps
from nptp_opt.network.ir import Density, InputDtype, Layer, LayerKind, Network, Node

SCHEMA = "nptp-opt/network/1"

_OPTIONAL = frozenset({"input_dtypes", "densities"})

_KINDS: dict[str, type] = {
    "window": Window,
    "broadcast": axis_maps.Broadcast,
    "whole": axis_maps.Whole,
    "hull": axis_maps.Hull,
    "transposed": axis_maps.Transposed,
    "shuffled": axis_maps.Shuffled,
    "nearest": axis_maps.Nearest,
    "linear": axis_maps.Linear,
    "cubic": axis_maps.Cubic,
    "adaptive": axis_maps.Adaptive,
    "bordered": axis_maps.Bordered,
}
_WORDS = {kind: word for word, kind in _KINDS.items()}

_COUNTS = frozenset({"n_in", "n_out", "kernel", "stride", "dilation", "factor"})
"""Fields of axis maps that are at least 1; paddings may be negative (they crop)."""


MOST_FLOP = 1e30
"""Of a node or layer: sums and products with a device's speed stay finite."""

# -- axis maps: one schema per kind, made from the fields of its dataclass ---------------------


def _field_type(name: str, hint: Any) -> Any:
    if name in _COUNTS:
        return Annotated[int, Field(ge=1, le=MOST_POSITION)]
    if hint is int:
        return Annotated[int, Field(ge=-MOST_POSITION, le=MOST_POSITION)]
    if name == "parts":
        return Annotated[tuple["Axis", ...], Field(strict=False, min_length=1)]
    if hint is float:  # a whole number stays one: the network's hash tells 2 from 2.0
        return Annotated[int | float, Field(allow_inf_nan=False)]
    return hint


def _entry(word: str, kind: type) -> type[BaseModel]:
    """The schema of one kind of axis map; ``map`` says which it is.

    No field has a default here: a padding that is missing from a file is no padding of 0.
    """
    hints = get_type_hints(kind)
    fields: dict[str, Any] = {
        field.name: (_field_type(field.name, hints[field.name]), ...)
        for field in dataclasses.fields(kind)
    }
    fields["map"] = (Literal[word], ...)
    how: dict[str, Any] = {"__base__": Strict, "__module__": __name__, **fields}
    return create_model(f"{kind.__name__}Entry", **how)


def _axis_map(entry: BaseModel) -> AxisMap:
    values = {name: getattr(entry, name) for name in type(entry).model_fields}
    axis: AxisMap = _KINDS[values.pop("map")](**values)
    return axis


if TYPE_CHECKING:
    Axis = AxisMap
else:
    _ENTRIES = {word: _entry(word, kind) for word, kind in _KINDS.items()}
    Axis = Annotated[
        reduce(or_, _ENTRIES.values()),
        Field(discriminator="map"),
        AfterValidator(_axis_map),
    ]
    _ENTRIES["hull"].model_rebuild()


# -- layers and the network --------------------------------------------------------------------

Size = Annotated[int, Field(ge=0)]
Sizes = Annotated[tuple[Size, ...], Field(strict=False)]
Names = Annotated[tuple[str, ...], Field(strict=False)]
Amount = Annotated[float, Field(ge=0, le=MOST_FLOP)]
Axes = Annotated[tuple[Axis, Axis], Field(strict=False)]
"""How rows and columns of an output read an input."""


def _revive(value: Any) -> Any:
    """Undoes ``_plain``."""
    if isinstance(value, dict):
        if set(value) == {"float"}:
            return _infinity(value["float"])
        return {key: _revive(each) for key, each in value.items()}
    return [_revive(each) for each in value] if isinstance(value, list) else value


def _infinity(text: Any) -> float:
    if text not in ("inf", "-inf", "nan"):
        raise ValueError(f'must be one of "inf", "-inf", "nan" under "float", got {text!r}')
    return float(text)


class NodeEntry(Strict):
    """One primitive op; ``maps`` has two axes per input, or is empty."""

    name: str
    op: str
    inputs: Names
    shape: Sizes
    attrs: Annotated[dict[str, Any], AfterValidator(_revive)]
    params: dict[str, str]
    maps: Annotated[tuple[Axes, ...], Field(strict=False)]
    flop: Amount


class LayerEntry(Strict):
    """An anchor node and the pointwise nodes folded onto it."""

    name: str
    kind: LayerKind
    inputs: Names
    shape: Sizes
    flop: Amount
    param_bytes: Size
    maps: dict[str, Axes]
    nodes: Annotated[tuple[NodeEntry, ...], Field(strict=False)]

    def layer(self) -> Layer:
        """The layer that is written here."""
        nodes = tuple(Node(**_values(node)) for node in self.nodes)
        return Layer(**_values(self) | {"nodes": nodes})


Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]


class DensityEntry(Strict):
    """Share of a map's elements that are not zero, over samples."""

    mean: Share
    p90: Share
    first_byte_bits: Annotated[float, Field(gt=0, le=8, allow_inf_nan=False)] = 8.0

    def density(self) -> Density:
        """The same in code."""
        return Density(self.mean, self.p90, self.first_byte_bits)


class NetworkEntry(Strict):
    """The network, field by field."""

    schema_: Annotated[Literal["nptp-opt/network/1"], Field(alias="schema")]
    name: str
    inputs: Names
    outputs: Names
    bytes_per_element: Size
    shapes: dict[str, Sizes]
    params: dict[str, Sizes]
    layers: Annotated[tuple[LayerEntry, ...], Field(strict=False)]
    input_dtypes: dict[str, InputDtype] = Field(default_factory=dict)
    densities: dict[str, DensityEntry] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        """Every tensor is made before it is read, once, with the shape that is declared."""
        made = set(self.inputs)
        for layer in self.layers:
            self._check_layer(layer, made)
            made.add(layer.name)
        maps = {*self.inputs, *(layer.name for layer in self.layers if layer.kind != "gather")}
        for tensor, shape in self.shapes.items():
            if tensor in maps and len(shape) != 4:
                raise ValueError(f"tensor {tensor!r} is a feature map: its shape is (N, C, H, W)")
            if math.prod(shape) * self.bytes_per_element > MOST_EXACT:
                raise ValueError(f"tensor {tensor!r} would take more than {MOST_EXACT} bytes")
        for tensor in (*self.outputs, *made):
            if tensor not in made or tensor not in self.shapes:
                raise ValueError(f"tensor {tensor!r} is not made or has no shape")
        for tensor in (*self.input_dtypes, *self.densities):
            if tensor not in self.shapes or (
                tensor in self.input_dtypes and tensor not in self.inputs
            ):
                raise ValueError(f"input_dtypes or densities name {tensor!r}, which is none")
        for layer in self.layers:
            if self.shapes[layer.name] != layer.shape:
                raise ValueError(f"layer {layer.name!r} has two shapes")
        return self

    def _check_layer(self, layer: LayerEntry, made: set[str]) -> None:
        missing = [tensor for tensor in layer.inputs if tensor not in made]
        if missing:
            raise ValueError(f"layer {layer.name!r} reads {missing[0]!r} before it is made")
        if layer.name in made or not layer.nodes or layer.nodes[-1].name != layer.name:
            raise ValueError(f"layer {layer.name!r} is there twice or lacks its last node")
        if layer.kind == "spatial" and set(layer.maps) != set(layer.inputs):
            raise ValueError(f"layer {layer.name!r} needs a map for every input")

    def network(self) -> Network:
        """The network that is written here."""
        layers = tuple(layer.layer() for layer in self.layers)
        densities = {name: each.density() for name, each in self.densities.items()}
        values = _values(self) | {"layers": layers, "densities": densities}
        del values["schema_"]
        return Network(**values)


def _values(entry: BaseModel) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in type(entry).model_fields}


# -- writing -----------------------------------------------------------------------------------


def network_to_json(network: Network) -> dict[str, Any]:
    """The network as plain JSON values; what is empty and need not be there is left out."""
    written = _written(network, NetworkEntry)
    return {"schema": SCHEMA, **{k: v for k, v in written.items() if v or k not in _OPTIONAL}}


def densities_to_json(densities: Mapping[str, Density]) -> dict[str, Any]:
    """The field ``densities`` of a model, or nothing where none is known."""
    return {"densities": _plain(densities)} if densities else {}


def network_hash(network: Network) -> str:
    """SHA-256 of the network's canonical JSON, in hexadecimal; densities change no result."""
    content = network_to_json(dataclasses.replace(network, densities={}))
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _written(value: Any, entry: type[BaseModel]) -> dict[str, Any]:
    """The fields of ``entry``, read from the object that it describes."""
    names = [name for name in entry.model_fields if name != "schema_"]
    return {name: _plain(getattr(value, name)) for name in names}


def _plain(value: Any) -> Any:
    """JSON has no infinities: they are written as {"float": "inf"}."""
    if type(value) in (int, str):  # most are: first, for a plan is hashed whenever it is read
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": repr(value)}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, Node):
        return _written(value, NodeEntry)
    if isinstance(value, Density):
        written = _written(value, DensityEntry)
        return {key: each for key, each in written.items() if key != "first_byte_bits" or each < 8}
    if isinstance(value, Layer):
        return _written(value, LayerEntry)
    return _axis_out(value) if type(value) in _WORDS else value


def _axis_out(axis: AxisMap) -> dict[str, Any]:
    fields = dataclasses.fields(axis)  # type: ignore[arg-type]
    values = {field.name: _plain(getattr(axis, field.name)) for field in fields}
    return {"map": _WORDS[type(axis)], **values}
