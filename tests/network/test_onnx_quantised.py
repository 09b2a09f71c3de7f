"""ONNX Runtime's own quantised operators give what it gives, but for a step of rounding."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from nptp_opt.errors import InputError
from nptp_opt.network.from_onnx import read_onnx

SHAPE = (1, 4, 7, 6)
KINDS = {np.uint8: TensorProto.UINT8, np.int8: TensorProto.INT8}

Draw = tuple[str, dict[str, Any], list[Any]]
"""Operator, attributes, and its inputs: an array, "x" for the data, None for its scale and zero."""


class Parts:
    """Scales, zero points and maps of one type."""

    def __init__(self, seed: int) -> None:
        self.rng, self.random = Random(seed), np.random.default_rng(seed)
        self.kind = self.rng.choice((np.uint8, np.int8))
        self.info = np.iinfo(self.kind)
        self.x_scale, self.x_zero = self.grid()

    def grid(self, least: float = 0.005) -> tuple[Any, Any]:
        return np.float32(self.rng.uniform(least, 4 * least)), self.kind(self.rng.randint(0, 100))

    def map(self, *shape: int) -> Any:
        return self.random.integers(self.info.min, self.info.max + 1, shape).astype(self.kind)

    @property
    def x(self) -> list[Any]:
        return ["x", self.x_scale, self.x_zero]


def of_two(op: str) -> Callable[[Parts], Draw]:
    def make(parts: Parts) -> Draw:
        shape = parts.rng.choice((SHAPE, (1, 4, 1, 1)))
        return op, {}, [*parts.x, parts.map(*shape), *parts.grid(), *parts.grid(0.01)]

    return make


def of_one(op: str, **attrs: Any) -> Callable[[Parts], Draw]:
    return lambda parts: (op, attrs, [*parts.x, *parts.grid()])


def average_pool(parts: Parts) -> Draw:
    rng, kernel = parts.rng, [parts.rng.randint(1, 3), parts.rng.randint(1, 3)]
    attrs = {
        "kernel_shape": kernel,
        "strides": [rng.randint(1, 3), rng.randint(1, 3)],
        "pads": [rng.randint(0, k - 1) for k in (*kernel, *kernel)],
        "ceil_mode": rng.randint(0, 1),
        "count_include_pad": rng.randint(0, 1),
    }
    if attrs["ceil_mode"]:
        attrs["pads"] = [0] * 4
    return "QLinearAveragePool", attrs, [*parts.x, *parts.grid()]


def softmax(parts: Parts) -> Draw:
    scale, zero = np.float32(1 / 256), parts.kind(parts.info.min)
    attrs = {"axis": parts.rng.choice((1, 3, -1)), "opset": parts.rng.choice((12, 13))}
    return "QLinearSoftmax", attrs, [*parts.x, scale, zero]


def where(parts: Parts) -> Draw:
    chosen = parts.random.random(SHAPE) < 0.5
    other = parts.map(*SHAPE)
    return "QLinearWhere", {}, [chosen, *parts.x, other, *parts.grid(), *parts.grid(0.01)]


def concat(parts: Parts) -> Draw:
    other = parts.map(1, 3, *SHAPE[2:])
    return "QLinearConcat", {"axis": 1}, [*parts.grid(), *parts.x, other, *parts.grid()]


OPERATORS: dict[str, Callable[[Parts], Draw]] = {
    "add": of_two("QLinearAdd"),
    "mul": of_two("QLinearMul"),
    "sigmoid": of_one("QLinearSigmoid"),
    "leaky": of_one("QLinearLeakyRelu", alpha=0.1),
    "leaky by default": of_one("QLinearLeakyRelu"),
    "global average": of_one("QLinearGlobalAveragePool"),
    "average pool": average_pool,
    "softmax": softmax,
    "where": where,
    "concat": concat,
}
BY_A_STEP = {"sigmoid": 0.005, "softmax": 0.05, "add": 0.01, "mul": 0.01}
"""Share of elements that may lie one step off: the engine adds or divides whole numbers there, or
multiplies by a quotient of scales that is rounded before."""


def written(draw: Draw, kind: Any, path: Path) -> None:
    op, attrs, inputs = draw
    names = [each if isinstance(each, str) else f"c{i}" for i, each in enumerate(inputs)]
    node = helper.make_node(op, names, ["y"], domain="com.microsoft", **attrs)
    quantise = [
        helper.make_node("QuantizeLinear", ["real", "s", "z"], ["x"]),
        node,
    ]
    place = names.index("x")
    weights = [
        numpy_helper.from_array(np.asarray(each), name)
        for name, each in zip(names, inputs, strict=True)
        if not isinstance(each, str)
    ]
    weights += [
        numpy_helper.from_array(np.asarray(inputs[place + 1 + i]), "sz"[i]) for i in range(2)
    ]
    graph = helper.make_graph(
        quantise, "g",
        [helper.make_tensor_value_info("real", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info("y", KINDS[kind], [None] * 4)],
        weights,
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_of_onnxruntimes_own_gives_what_it_gives(name: str, tmp_path: Path) -> None:
    path, off, count = tmp_path / "one.onnx", 0, 0
    for seed in range(12):
        parts = Parts(seed)
        written(OPERATORS[name](parts), parts.kind, path)
        x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))
        session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        (expected,) = session.run(None, {"real": x.numpy()})
        with torch.no_grad():
            (found,) = read_onnx(path, SHAPE, 0)(x)
        assert found.shape == expected.shape
        steps = abs(found.numpy() - expected.astype(np.float32))
        assert steps.max() <= (1 if name in BY_A_STEP else 0), seed
        off, count = off + np.count_nonzero(steps), count + steps.size
    assert off <= BY_A_STEP.get(name, 0.0) * count


def test_maps_with_channels_last_are_refused(tmp_path: Path) -> None:
    parts = Parts(0)
    draw = of_one("QLinearGlobalAveragePool", channels_last=1)(parts)
    written(draw, parts.kind, tmp_path / "one.onnx")
    with pytest.raises(InputError, match=r"op QLinearGlobalAveragePool .*channels_last=1"):
        read_onnx(tmp_path / "one.onnx", SHAPE, 0)(torch.zeros(SHAPE))
