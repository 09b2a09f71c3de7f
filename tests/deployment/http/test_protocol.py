"""Bodies of the Open Inference Protocol: read strictly, written as its clients want them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from nptp_opt.deployment.http.protocol import (
    InferRequest,
    RequestError,
    largest_request,
    model_metadata,
    read_request,
    write_response,
)
from nptp_opt.network.signature import Signature, TensorSpec


class _Fixed(Signature):
    """One input, two outputs."""

    def __init__(self) -> None:
        self.inputs = (TensorSpec("x", (1, 3), torch.float32),)
        self.outputs = (
            TensorSpec("y", (2, 2), torch.float32),
            TensorSpec("n", (2,), torch.int64),
        )


MODEL = _Fixed()
INPUT = {"name": "x", "shape": [1, 3], "datatype": "FP32"}
RAW = np.array([1, 2, 3], dtype="<f4").tobytes()
BINARY = INPUT | {"parameters": {"binary_data_size": 12}}


def _read(content: Any, raw: bytes | None = None) -> InferRequest:
    text = json.dumps(content).encode()
    return read_request(text + (raw or b""), None if raw is None else len(text), MODEL)


def test_metadata_and_the_size_of_a_request() -> None:
    assert model_metadata("m", MODEL) == {
        "name": "m",
        "versions": ["1"],
        "platform": "nptp-opt",
        "inputs": [INPUT],
        "outputs": [
            {"name": "y", "datatype": "FP32", "shape": [2, 2]},
            {"name": "n", "datatype": "INT64", "shape": [2]},
        ],
    }
    assert largest_request(MODEL) > 3 * 32


@pytest.mark.parametrize("data", [[1, 2.0, 3], [[1, 2, 3]]])
def test_json_data_may_be_flat_or_nested(data: Any) -> None:
    found = _read({"inputs": [INPUT | {"data": data}], "id": "seven"})
    assert found.inputs["x"].dtype == np.float32 and found.inputs["x"].tolist() == [[1, 2, 3]]
    assert found.id == "seven" and found.outputs == {"y": False, "n": False}


def test_raw_elements_follow_the_json() -> None:
    found = _read({"inputs": [BINARY], "parameters": {"binary_data_output": True}}, RAW)
    assert found.inputs["x"].tolist() == [[1, 2, 3]]
    assert found.outputs == {"y": True, "n": True} and found.timeout_s is None


def test_outputs_are_those_that_are_asked_for() -> None:
    wanted = [{"name": "n", "parameters": {"binary_data": True}}, {"name": "y"}]
    found = _read({"inputs": [INPUT | {"data": [1, 2, 3]}], "outputs": wanted,
                   "parameters": {"timeout": 2_500_000}})  # fmt: skip
    assert list(found.outputs.items()) == [("n", True), ("y", False)] and found.timeout_s == 2.5


def test_nan_is_a_number_of_a_request() -> None:
    """As Python's and Triton's JSON have it."""
    text = json.dumps({"inputs": [INPUT | {"data": [1.0, float("nan"), float("inf")]}]})
    assert np.isnan(read_request(text.encode(), None, MODEL).inputs["x"][0, 1])


BAD: list[tuple[Any, bytes | None, str]] = [
    ([], None, "no JSON object"),
    ({"inputs": {}}, None, "inputs must be a list of objects"),
    ({"inputs": [{}]}, None, "each of inputs needs a name"),
    ({"inputs": [INPUT, INPUT]}, None, "'x' is twice in inputs"),
    ({"inputs": [INPUT | {"name": "z"}]}, None, "no input 'z'; it takes x"),
    ({"inputs": [INPUT | {"datatype": "FP64"}]}, None, "is 'FP64', the model takes FP32"),
    ({"inputs": [INPUT | {"datatype": 3}]}, None, "is 3, the model takes FP32"),
    ({"inputs": [INPUT | {"shape": [1, 4]}]}, None, "has shape 1x4, the model takes 1x3"),
    ({"inputs": [INPUT | {"shape": [10**9, 10**9]}]}, None, "has shape 1000000000x1000000000"),
    ({"inputs": [INPUT | {"shape": [1, True]}]}, None, "the model takes 1x3"),
    ({"inputs": [INPUT | {"shape": "1x3"}]}, None, "has shape '1x3'"),
    ({"inputs": [INPUT]}, None, "neither data nor binary_data_size"),
    ({"inputs": [INPUT | {"data": [1, 2]}]}, None, "2 elements, its shape has 3"),
    ({"inputs": [INPUT | {"data": [1, [2, 3]]}]}, None, "no regular list of numbers"),
    ({"inputs": [INPUT | {"data": ["1", "2", "3"]}]}, None, "data must be numbers of FP32"),
    ({"inputs": [INPUT | {"data": [1, 2, None]}]}, None, "data must be numbers of FP32"),
    ({"inputs": [BINARY]}, RAW[:-1], "truncated: 11 of 12 bytes are there"),
    ({"inputs": [BINARY]}, RAW + b"!", "1 bytes follow that belong to no input"),
    ({"inputs": [INPUT | {"parameters": {"binary_data_size": 10**15}}]}, RAW,
     "binary_data_size 1000000000000000, its shape has 12 bytes"),
    ({"inputs": [INPUT | {"parameters": {"binary_data_size": -12}}]}, RAW, "binary_data_size -12"),
    ({"inputs": [INPUT | {"parameters": {"binary_data_size": True}}]}, RAW, "data_size True"),
    ({"inputs": [INPUT | {"parameters": []}]}, None, "neither data"),
    ({"inputs": [INPUT | {"parameters": [1]}]}, None, "parameters of input 'x' must be an object"),
    ({"inputs": [INPUT | {"parameters": {"shared_memory_region": "a"}}]}, None, "shared memory"),
    ({"inputs": [], "outputs": [{"name": "z"}]}, None, "no output 'z'; it gives y, n"),
    ({"inputs": [], "outputs": [{"name": "y", "parameters": {"classification": 3}}]}, None,
     "classification is not offered"),
    ({"inputs": [], "id": 7}, None, "id must be a string"),
    ({"inputs": [], "parameters": {"timeout": "soon"}}, None, "timeout must be a number"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "raw", "words"), BAD)
def test_what_is_wrong_is_said(content: Any, raw: bytes | None, words: str) -> None:
    with pytest.raises(RequestError) as caught:
        _read(content, raw)
    assert words in str(caught.value) and caught.value.status == 400


@pytest.mark.parametrize(
    ("body", "size", "words"),
    [
        (b"{", None, "is no JSON"),
        (b"\xff\xfe{}", None, "is no JSON"),
        (b"[" * 100_000, None, "is no JSON"),
        (b"{}", 3, "a JSON part of 3 bytes in a body of 2"),
    ],
)
def test_garbage_is_no_request(body: bytes, size: int | None, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        read_request(body, size, MODEL)


def test_answers_are_written_as_json_or_raw() -> None:
    """In the order asked for; elements lie rows first, whatever the tensor's strides are."""
    outputs: Mapping[str, torch.Tensor] = {
        "y": torch.tensor([[1.0, 2.0], [float("nan"), 4.0]]).T,
        "n": torch.tensor([7, 8]),
    }
    request = InferRequest({}, {"n": True, "y": False}, id="a")
    body, size = write_response("m", request, outputs, {"latency_s": 0.5, "odd": float("nan")})
    assert size is not None
    content = json.loads(body[:size])
    assert content["model_name"] == "m" and content["id"] == "a"
    assert content["parameters"] == {"latency_s": 0.5}
    first, second = content["outputs"]
    assert first == {"name": "n", "datatype": "INT64", "shape": [2],
                     "parameters": {"binary_data_size": 16}}  # fmt: skip
    assert np.frombuffer(body[size:], "<i8").tolist() == [7, 8]
    assert second["shape"] == [2, 2] and second["data"][::2] == [1.0, 2.0]
    assert np.isnan(second["data"][1]) and second["data"][3] == 4.0
    plain, none = write_response("m", InferRequest({}, {"n": False}), outputs, {})
    assert none is None and json.loads(plain)["outputs"][0]["data"] == [7, 8]
