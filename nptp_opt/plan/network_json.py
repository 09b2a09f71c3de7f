"""The network as JSON, exactly: workers and plans need neither torch.export nor the model."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from nptp_opt.errors import InputError
from nptp_opt.geometry import AxisMap, Window, axis_maps
from nptp_opt.network.ir import AxisMaps, Layer, Network, Node

SCHEMA = "nptp-opt/network/1"

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


def network_to_json(network: Network) -> dict[str, Any]:
    """The network as plain JSON values."""
    return {
        "schema": SCHEMA,
        "name": network.name,
        "inputs": list(network.inputs),
        "outputs": list(network.outputs),
        "bytes_per_element": network.bytes_per_element,
        "shapes": {name: list(shape) for name, shape in network.shapes.items()},
        "params": {name: list(shape) for name, shape in network.params.items()},
        "layers": [_layer_out(layer) for layer in network.layers],
    }


def network_hash(network: Network) -> str:
    """SHA-256 of the network's canonical JSON, in hexadecimal."""
    text = json.dumps(network_to_json(network), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _layer_out(layer: Layer) -> dict[str, Any]:
    return {
        "name": layer.name,
        "kind": layer.kind,
        "inputs": list(layer.inputs),
        "shape": list(layer.shape),
        "flop": layer.flop,
        "param_bytes": layer.param_bytes,
        "maps": {tensor: _maps_out(maps) for tensor, maps in layer.maps.items()},
        "nodes": [_node_out(node) for node in layer.nodes],
    }


def _node_out(node: Node) -> dict[str, Any]:
    return {
        "name": node.name,
        "op": node.op,
        "inputs": list(node.inputs),
        "shape": list(node.shape),
        "attrs": _plain(node.attrs),
        "params": dict(node.params),
        "maps": [_maps_out(maps) for maps in node.maps],
        "flop": node.flop,
    }


def _maps_out(maps: AxisMaps) -> list[dict[str, Any]]:
    return [_axis_out(axis) for axis in maps]


def _axis_out(axis: AxisMap) -> dict[str, Any]:
    if isinstance(axis, axis_maps.Hull):
        return {"map": "hull", "parts": [_axis_out(part) for part in axis.parts]}
    word = _WORDS[type(axis)]
    values = dataclasses.asdict(axis)  # type: ignore[call-overload]
    return {"map": word, **values}


def _plain(value: Any) -> Any:
    """JSON has no infinities: they are written as {"float": "inf"}."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    return value


def _revived(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {"float"}:
            return float(value["float"])
        return {key: _revived(each) for key, each in value.items()}
    return [_revived(each) for each in value] if isinstance(value, list) else value


def network_from_json(document: Any, where: str = "network") -> Network:
    """The network of ``network_to_json``; raises InputError that names the field at fault."""
    reader = _Reader(document, where)
    if reader.text("schema") != SCHEMA:
        raise InputError(f"{where}.schema: must be {SCHEMA!r}, got {reader.text('schema')!r}")
    layers = tuple(_layer_in(each) for each in reader.children("layers"))
    network = Network(
        reader.text("name"),
        reader.texts("inputs"),
        reader.texts("outputs"),
        layers,
        reader.sizes_by_name("shapes"),
        reader.whole("bytes_per_element"),
        reader.sizes_by_name("params"),
    )
    reader.finish()
    _check(network, where)
    return network


def _layer_in(reader: _Reader) -> Layer:
    kind: Any = reader.text("kind")
    if kind not in ("spatial", "global", "gather"):
        raise InputError(f"{reader.where}.kind: must be spatial, global or gather, got {kind!r}")
    layer = Layer(
        name=reader.text("name"),
        kind=kind,
        nodes=tuple(_node_in(each) for each in reader.children("nodes")),
        inputs=reader.texts("inputs"),
        shape=reader.sizes("shape"),
        maps={
            name: _maps_in(maps, f"{reader.where}.maps.{name}")
            for name, maps in reader.mapping("maps").items()
        },
        flop=reader.number("flop"),
        param_bytes=reader.whole("param_bytes"),
    )
    reader.finish()
    return layer


def _node_in(reader: _Reader) -> Node:
    params = reader.mapping("params")
    if not all(isinstance(key, str) for key in params.values()):
        raise InputError(f"{reader.where}.params: every value must be a text")
    maps = reader.items("maps")
    node = Node(
        reader.text("name"),
        reader.text("op"),
        reader.texts("inputs"),
        reader.sizes("shape"),
        _revived(reader.mapping("attrs")),
        params,
        tuple(_maps_in(each, f"{reader.where}.maps.{i}") for i, each in enumerate(maps)),
        reader.number("flop"),
    )
    reader.finish()
    return node


def _maps_in(value: Any, where: str) -> AxisMaps:
    if not isinstance(value, list) or len(value) != 2:
        raise InputError(f"{where}: must be a list of two axis maps")
    return _axis_in(value[0], f"{where}.0"), _axis_in(value[1], f"{where}.1")


def _axis_in(value: Any, where: str) -> AxisMap:
    if not isinstance(value, dict) or value.get("map") not in _KINDS:
        raise InputError(f"{where}.map: must be one of {', '.join(_KINDS)}")
    fields = {key: each for key, each in value.items() if key != "map"}
    if value["map"] == "hull":
        parts = fields.get("parts")
        if not isinstance(parts, list) or not parts:
            raise InputError(f"{where}.parts: must be a list of axis maps")
        return axis_maps.Hull(tuple(_axis_in(p, f"{where}.{i}") for i, p in enumerate(parts)))
    kind = _KINDS[value["map"]]
    known = {field.name: str(field.type) for field in dataclasses.fields(kind)}
    for name, each in fields.items():
        if name not in known or not _fits(each, known[name]):
            raise InputError(f"{where}.{name}: {each!r} is not a value of a {value['map']} map")
    try:
        axis: AxisMap = kind(**fields)
    except TypeError:
        raise InputError(f"{where}: a {value['map']} map needs {', '.join(known)}") from None
    if min(axis.n_in, axis.n_out) < 1 or getattr(axis, "stride", 1) < 1:
        raise InputError(f"{where}: sizes and strides must be at least 1")
    return axis


def _fits(value: Any, kind: str) -> bool:
    if kind == "int":
        return type(value) is int
    if kind == "float":
        return type(value) in (int, float)
    if kind == "bool":
        return type(value) is bool
    return value in ("reflect", "replicate", "circular")


def _check(network: Network, where: str) -> None:
    """Every tensor is made before it is read, once, with the shape that is declared."""
    made = set(network.inputs)
    for layer in network.layers:
        missing = [tensor for tensor in layer.inputs if tensor not in made]
        if missing:
            raise InputError(
                f"{where}: layer {layer.name!r} reads {missing[0]!r} before it is made"
            )
        if layer.name in made or not layer.nodes or layer.nodes[-1].name != layer.name:
            raise InputError(f"{where}: layer {layer.name!r} is there twice or lacks its last node")
        if layer.kind == "spatial" and set(layer.maps) != set(layer.inputs):
            raise InputError(f"{where}: layer {layer.name!r} needs a map for every input")
        made.add(layer.name)
    for tensor in (*network.outputs, *made):
        if tensor not in made or tensor not in network.shapes:
            raise InputError(f"{where}: tensor {tensor!r} is not made or has no shape")
    for layer in network.layers:
        if network.shapes[layer.name] != layer.shape:
            raise InputError(f"{where}: layer {layer.name!r} has two shapes")


class _Reader:
    """Reads the fields of one JSON object strictly; ``finish`` refuses the ones not read."""

    def __init__(self, document: Any, where: str) -> None:
        if not isinstance(document, dict):
            raise InputError(f"{where}: must be an object")
        self.document, self.where = document, where
        self.read: set[str] = set()

    def _get(self, field: str, kind: type | tuple[type, ...], what: str) -> Any:
        self.read.add(field)
        value = self.document.get(field)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise InputError(f"{self.where}.{field}: must be {what}")
        return value

    def text(self, field: str) -> str:
        return str(self._get(field, str, "a text"))

    def whole(self, field: str) -> int:
        value = int(self._get(field, int, "a whole number"))
        if value < 0:
            raise InputError(f"{self.where}.{field}: must not be negative")
        return value

    def number(self, field: str) -> float:
        value = float(self._get(field, (int, float), "a number"))
        if not 0 <= value < math.inf:
            raise InputError(f"{self.where}.{field}: must be finite and not negative")
        return value

    def items(self, field: str) -> list[Any]:
        return list(self._get(field, list, "a list"))

    def mapping(self, field: str) -> dict[str, Any]:
        return dict(self._get(field, dict, "an object"))

    def texts(self, field: str) -> tuple[str, ...]:
        values = self.items(field)
        if not all(isinstance(value, str) for value in values):
            raise InputError(f"{self.where}.{field}: must be a list of texts")
        return tuple(values)

    def sizes(self, field: str) -> tuple[int, ...]:
        return _sizes(self.items(field), f"{self.where}.{field}")

    def sizes_by_name(self, field: str) -> dict[str, tuple[int, ...]]:
        found = self.mapping(field)
        return {
            name: _sizes(value, f"{self.where}.{field}.{name}") for name, value in found.items()
        }

    def children(self, field: str) -> list[_Reader]:
        return [
            _Reader(each, f"{self.where}.{field}.{i}") for i, each in enumerate(self.items(field))
        ]

    def finish(self) -> None:
        unknown = sorted(set(self.document) - self.read)
        if unknown:
            raise InputError(f"{self.where}.{unknown[0]}: unknown field")


def _sizes(values: Any, where: str) -> tuple[int, ...]:
    good = isinstance(values, Sequence) and not isinstance(values, str)
    if not good or not all(type(value) is int and value >= 0 for value in values):
        raise InputError(f"{where}: must be a list of sizes")
    return tuple(values)
