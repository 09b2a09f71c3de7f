"""Requests and responses of the Open Inference Protocol v2, as bytes; nothing of HTTP here.

A body is a JSON object; with the binary tensor extension raw elements follow it, in the order of
the tensors that announce them (little-endian, rows first). What a request declares is held against
the model before anything is allocated for it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nptp_opt.errors import InputError
from nptp_opt.files import MOST_EXACT
from nptp_opt.network.ref import spelled
from nptp_opt.network.signature import Signature, TensorSpec

Array = np.ndarray[Any, Any]

DATATYPES: Mapping[torch.dtype, tuple[str, str]] = {
    torch.bool: ("BOOL", "?"),
    torch.uint8: ("UINT8", "u1"),
    torch.int8: ("INT8", "i1"),
    torch.int16: ("INT16", "<i2"),
    torch.int32: ("INT32", "<i4"),
    torch.int64: ("INT64", "<i8"),
    torch.float16: ("FP16", "<f2"),
    torch.float32: ("FP32", "<f4"),
    torch.float64: ("FP64", "<f8"),
}
"""The protocol's word for a type, and numpy's for its elements on the wire."""

JSON_BYTES_PER_ELEMENT = 32
"""Room for a number in JSON: 17 digits, sign, exponent, and what stands between."""
JSON_ROOM_BYTES = 2**16
"""Room for everything else that a request says."""


class RequestError(InputError):
    """A request that cannot be answered as it is; ``status`` is HTTP's."""

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class InferRequest:
    """What is asked: tensors by name, which outputs are wanted, and whether as raw elements."""

    inputs: Mapping[str, Array]
    outputs: Mapping[str, bool]
    """By name: True for raw elements. In the order in which they are asked for."""
    id: str | None = None
    timeout_s: float | None = None


def largest_request(signature: Signature) -> int:
    """Bytes that a request may need: all inputs as JSON."""
    elements = sum(spec.elements for spec in signature.inputs)
    return JSON_ROOM_BYTES + JSON_BYTES_PER_ELEMENT * elements


def model_metadata(name: str, signature: Signature) -> dict[str, Any]:
    """Name, inputs and outputs with their datatypes and shapes."""

    def entries(specs: Sequence[TensorSpec]) -> list[dict[str, Any]]:
        return [
            {"name": spec.name, "datatype": DATATYPES[spec.dtype][0], "shape": list(spec.shape)}
            for spec in specs
        ]

    return {
        "name": name,
        "versions": ["1"],
        "platform": "nptp-opt",
        "inputs": entries(signature.inputs),
        "outputs": entries(signature.outputs),
    }


# -- requests ----------------------------------------------------------------------------------


def read_request(
    body: bytes | bytearray, json_bytes: int | None, signature: Signature
) -> InferRequest:
    """The request of a body whose first ``json_bytes`` are JSON; None: all of it.

    Raises RequestError.
    """
    if json_bytes is not None and not 0 <= json_bytes <= len(body):
        raise RequestError(f"a JSON part of {json_bytes} bytes in a body of {len(body)}")
    content = _object(body if json_bytes is None else body[:json_bytes])
    raw = memoryview(b"" if json_bytes is None else body)[json_bytes or 0 :]
    parameters = _parameters(content, "the request")
    return InferRequest(
        inputs=_inputs(content, raw, signature),
        outputs=_outputs(content, parameters.get("binary_data_output") is True, signature),
        id=_text(content, "id"),
        timeout_s=_timeout_s(parameters),
    )


def _object(text: bytes | bytearray) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"the request is no JSON: {error}") from None
    if not isinstance(content, dict):
        raise RequestError("the request is no JSON object")
    return content


def _parameters(entry: Mapping[str, Any], what: str) -> Mapping[str, Any]:
    found = entry.get("parameters") or {}
    if not isinstance(found, dict):
        raise RequestError(f"parameters of {what} must be an object")
    return found


def _text(content: Mapping[str, Any], key: str) -> str | None:
    value = content.get(key)
    if value is not None and not isinstance(value, str):
        raise RequestError(f"{key} must be a string")
    return value


def _timeout_s(parameters: Mapping[str, Any]) -> float | None:
    """The parameter ``timeout`` of Triton's clients: microseconds; 0 for none."""
    value = parameters.get("timeout")
    if value is None or value == 0:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= MOST_EXACT:
        raise RequestError("parameter timeout must be a number of microseconds")
    return value / 1e6


def _entries(content: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    found = content.get(key, [])
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise RequestError(f"{key} must be a list of objects")
    names = [each.get("name") for each in found]
    if not all(isinstance(name, str) for name in names):
        raise RequestError(f"each of {key} needs a name")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise RequestError(f"{twice!r} is twice in {key}")
    return found


def _inputs(content: Mapping[str, Any], raw: memoryview, signature: Signature) -> dict[str, Array]:
    specs = {spec.name: spec for spec in signature.inputs}
    found, at = {}, 0
    for entry in _entries(content, "inputs"):
        name = entry["name"]
        if name not in specs:
            raise RequestError(f"the model has no input {name!r}; it takes {', '.join(specs)}")
        spec, parameters = specs[name], _parameters(entry, f"input {name!r}")
        _check_declared(entry, spec)
        if "shared_memory_region" in parameters:
            raise RequestError(f"input {name!r}: shared memory is not offered")
        size = parameters.get("binary_data_size")
        if size is None:
            found[name] = _from_json(entry.get("data"), spec)
            continue
        found[name] = _from_raw(raw, at, size, spec)
        at += size
    if at < len(raw):
        raise RequestError(f"{len(raw) - at} bytes follow that belong to no input")
    return found


def _check_declared(entry: Mapping[str, Any], spec: TensorSpec) -> None:
    shape, datatype = entry.get("shape"), entry.get("datatype")
    wanted = DATATYPES[spec.dtype][0]
    if datatype != wanted:
        raise RequestError(f"input {spec.name!r} is {datatype!r}, the model takes {wanted}")
    whole = isinstance(shape, list) and all(type(size) is int for size in shape)
    if not isinstance(shape, list) or not whole or tuple(shape) != spec.shape:
        said = spelled(tuple(shape)) if isinstance(shape, list) and whole else repr(shape)[:80]
        raise RequestError(
            f"input {spec.name!r} has shape {said or 'scalar'}, the model takes "
            f"{spelled(spec.shape)}"
        )


def _from_raw(raw: memoryview, at: int, size: object, spec: TensorSpec) -> Array:
    dtype = np.dtype(DATATYPES[spec.dtype][1])
    needed = spec.elements * dtype.itemsize
    if type(size) is not int or size != needed:
        raise RequestError(
            f"input {spec.name!r}: binary_data_size {size!r}, its shape has {needed} bytes"
        )
    if at + needed > len(raw):
        raise RequestError(
            f"input {spec.name!r}: truncated: {len(raw) - at} of {needed} bytes are there"
        )
    return np.frombuffer(raw[at : at + needed], dtype).reshape(spec.shape)


def _from_json(data: object, spec: TensorSpec) -> Array:
    """Numbers in one list or nested as the shape is; rows first."""
    if not isinstance(data, list):
        raise RequestError(f"input {spec.name!r} has neither data nor binary_data_size")
    try:
        values = np.asarray(data)
    except ValueError:
        raise RequestError(f"input {spec.name!r}: data is no regular list of numbers") from None
    kinds = "b" if spec.dtype is torch.bool else "iuf" if spec.dtype.is_floating_point else "iu"
    if values.dtype.kind not in kinds and values.size:
        raise RequestError(
            f"input {spec.name!r}: data must be numbers of {DATATYPES[spec.dtype][0]}"
        )
    if values.size != spec.elements:
        raise RequestError(
            f"input {spec.name!r}: {values.size} elements, its shape has {spec.elements}"
        )
    if values.size and not _fits(values, np.dtype(DATATYPES[spec.dtype][1])):
        raise RequestError(
            f"input {spec.name!r}: data must be numbers of {DATATYPES[spec.dtype][0]}, "
            f"found {values.min()} to {values.max()}"
        )
    with np.errstate(over="ignore"):
        return values.reshape(spec.shape).astype(np.dtype(DATATYPES[spec.dtype][1]))


def _fits(values: Array, dtype: np.dtype[Any]) -> bool:
    """Are integers within what the type holds? Fractions round, at worst to infinity."""
    if dtype.kind not in "iu":
        return True
    limits = np.iinfo(dtype)
    return bool(limits.min <= values.min() and values.max() <= limits.max)


def _outputs(content: Mapping[str, Any], binary: bool, signature: Signature) -> dict[str, bool]:
    known = [spec.name for spec in signature.outputs]
    found = {}
    for entry in _entries(content, "outputs"):
        name = entry["name"]
        parameters = _parameters(entry, f"output {name!r}")
        if name not in known:
            raise RequestError(f"the model has no output {name!r}; it gives {', '.join(known)}")
        for unknown in ("classification", "shared_memory_region"):
            if unknown in parameters:
                raise RequestError(f"output {name!r}: {unknown} is not offered")
        found[name] = parameters.get("binary_data", binary) is True
    return found or dict.fromkeys(known, binary)


# -- responses ---------------------------------------------------------------------------------


def write_response(
    name: str, request: InferRequest, outputs: Mapping[str, Tensor], parameters: Mapping[str, Any]
) -> tuple[bytes, int | None]:
    """The body, and how many bytes of it are JSON where raw elements follow.

    NaN and infinite elements in JSON are the words NaN and Infinity, as of Triton's servers.
    """
    entries, raw = [], list[bytes]()
    for key, binary in request.outputs.items():
        tensor = outputs[key]
        datatype, dtype = DATATYPES[tensor.dtype]
        values = tensor.contiguous().numpy().astype(np.dtype(dtype), copy=False)
        entry: dict[str, Any] = {"name": key, "datatype": datatype, "shape": list(values.shape)}
        if binary:
            raw.append(values.tobytes())
            entry["parameters"] = {"binary_data_size": len(raw[-1])}
        else:
            entry["data"] = values.reshape(-1).tolist()
        entries.append(entry)
    content: dict[str, Any] = {"model_name": name, "model_version": "1", "outputs": entries}
    if request.id is not None:
        content["id"] = request.id
    finite = {
        key: v for key, v in parameters.items() if not isinstance(v, float) or math.isfinite(v)
    }
    text = json.dumps(content | {"parameters": finite}).encode()
    return (b"".join((text, *raw)), len(text)) if raw else (text, None)
