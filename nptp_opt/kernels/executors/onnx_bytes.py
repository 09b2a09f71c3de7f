"""ONNX models as bytes: the few messages of onnx.proto that tile programs need.

The onnx package is four times as large as this project and would be most of what a worker has to
install beside its engine; a graph is written once and never read. Field numbers are those of
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto, the encoding is that of protocol buffers:
a tag (number * 8 + wire type), then a variable-length integer (0), a length and bytes (2), or four
bytes (5).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Attribute = float | int | str | Sequence[int]

FLOAT, FLOAT16, BFLOAT16 = 1, 10, 16
_TENSOR_TYPES = {"float32": FLOAT, "uint8": 2, "int8": 3, "int32": 6, "int64": 7}
_FLOAT_ATTR, _INT_ATTR, _STRING_ATTR, _INTS_ATTR = 1, 2, 3, 7
_EXTERNAL = 1


@dataclass(frozen=True)
class OnnxNode:
    """One operator; an input of no name is left out."""

    op: str
    inputs: tuple[str, ...]
    output: str
    attributes: Mapping[str, Attribute]

    @property
    def content(self) -> bytes:
        """NodeProto."""
        named = b"".join(
            _bytes(5, _attribute(name, value)) for name, value in self.attributes.items()
        )
        return _texts(1, self.inputs) + _texts(2, [self.output]) + _texts(4, [self.op]) + named


def model(graph: bytes, opset: int, ir_version: int) -> bytes:
    """ModelProto."""
    return _int(1, ir_version) + _bytes(7, graph) + _bytes(8, _texts(1, [""]) + _int(2, opset))


def graph(
    name: str,
    nodes: Iterable[OnnxNode],
    tensors: Iterable[bytes],
    inputs: Mapping[str, Sequence[int]],
    outputs: Mapping[str, Sequence[int]],
) -> bytes:
    """GraphProto; inputs and outputs are float32, of these shapes."""
    return b"".join(
        [
            *(_bytes(1, node.content) for node in nodes),
            _texts(2, [name]),
            *(_bytes(5, tensor) for tensor in tensors),
            *(_bytes(11, _value(value, shape)) for value, shape in inputs.items()),
            *(_bytes(12, _value(value, shape)) for value, shape in outputs.items()),
        ]
    )


def tensor(name: str, values: Array) -> bytes:
    """TensorProto with its elements."""
    little = values.astype(values.dtype.newbyteorder("<"), copy=False)
    return _tensor_head(name, values) + _bytes(9, little.tobytes())


def tensor_elsewhere(name: str, values: Array) -> bytes:
    """TensorProto whose elements the session is handed as memory; no file is read."""
    return _tensor_head(name, values) + _external({"location": "memory"})


def tensor_at_address(name: str, values: Array) -> bytes:
    """TensorProto whose elements the engine reads where they lie, as ONNX Runtime and OpenVINO
    write it between them; the array has to outlive whatever is made of the model."""
    where = {
        "location": "*/_ORT_MEM_ADDR_/*",
        "offset": str(values.ctypes.data),
        "length": str(values.nbytes),
    }
    return _tensor_head(name, values) + _external(where)


def _external(entries: Mapping[str, str]) -> bytes:
    """What a TensorProto says of elements that are not in it."""
    pairs = (_texts(1, [key]) + _texts(2, [value]) for key, value in entries.items())
    return b"".join(_bytes(13, pair) for pair in pairs) + _int(14, _EXTERNAL)


def _tensor_head(name: str, values: Array) -> bytes:
    kind = _TENSOR_TYPES[values.dtype.name]
    return _ints(1, values.shape) + _int(2, kind) + _texts(8, [name])


def _value(name: str, shape: Sequence[int]) -> bytes:
    """ValueInfoProto."""
    sizes = b"".join(_bytes(1, _int(1, size)) for size in shape)
    kind = _bytes(1, _int(1, FLOAT) + _bytes(2, sizes))
    return _texts(1, [name]) + _bytes(2, kind)


def _attribute(name: str, value: Attribute) -> bytes:
    """AttributeProto."""
    head = _texts(1, [name])
    match value:
        case float():
            return head + _tag(2, 5) + struct.pack("<f", value) + _int(20, _FLOAT_ATTR)
        case int():
            return head + _int(3, value) + _int(20, _INT_ATTR)
        case str():
            return head + _texts(4, [value]) + _int(20, _STRING_ATTR)
        case _:
            return head + _ints(8, value) + _int(20, _INTS_ATTR)


def _tag(number: int, kind: int) -> bytes:
    return _varint(number << 3 | kind)


def _int(number: int, value: int) -> bytes:
    return _tag(number, 0) + _varint(value % 2**64)


def _ints(number: int, values: Sequence[int]) -> bytes:
    return b"".join(_int(number, int(value)) for value in values)


def _bytes(number: int, content: bytes) -> bytes:
    return _tag(number, 2) + _varint(len(content)) + content


def _texts(number: int, texts: Sequence[str]) -> bytes:
    return b"".join(_bytes(number, text.encode()) for text in texts)


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
