"""Quantised maps are bytes in an engine, and convolutions of them run in its int8 kernels."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from nptp_opt.kernels.crops import Array
from nptp_opt.kernels.executors import find
from nptp_opt.kernels.executors.choice import random_inputs
from nptp_opt.kernels.executors.onnx_graph import SharedWeights
from nptp_opt.kernels.executors.onnx_integers import _divided, with_bytes, without_idle
from nptp_opt.kernels.executors.onnx_lowering import spans
from nptp_opt.network.exact import Grid
from nptp_opt.runtime.blocks import programs
from nptp_opt.runtime.device_program import device_program
from nptp_opt.runtime.executed import as_arrays
from tests.executors import needs_openvino
from tests.runtime.quantised import FORMS, Form
from tests.runtime.test_quantised import model_of, plan_of


def operators(form: Form, device: int) -> Counter[str]:
    """What the graphs of one device are made of."""
    weights = as_arrays(model_of(form).weights())
    plan = plan_of(form)
    found: Counter[str] = Counter()
    for program in programs(device_program(plan, device), plan.network).values():
        for span in spans(program, SharedWeights(weights), {}):
            assert span.graph is not None
            exact = {value.name: program.exact.get(value.tensor) for value in program.inputs}
            grids = {
                span.inputs[name]: grid
                for name, grid in exact.items()
                if isinstance(grid, Grid) and name in span.inputs
            }
            with_bytes(span.graph, grids)
            without_idle(span.graph, {span.values[name]: () for name in program.outputs})
            found.update(node.op for node in span.graph.nodes)
    return found


@pytest.mark.parametrize("form", FORMS)
def test_every_convolution_of_bytes_is_one_of_whole_numbers(form: Form) -> None:
    """Bug: tiles of quantised models were computed in float32, three to five times slower."""
    found = operators(form, 1)
    assert found["QLinearConv"] == 4 and not found["Conv"]
    assert not found["Round"] and not found["Clip"]


def test_weights_are_found_again_bit_by_bit_or_left_as_they_are() -> None:
    random = np.random.default_rng(0)
    scale = np.float32(0.0173)
    for one in (True, False):
        whole = random.integers(-127, 128, (5, 3, 2, 2)).astype(np.float32)
        whole.reshape(5, -1)[:, 0] = 127
        scales = np.full(5, 0.0123, np.float32) if one else random.random(5, dtype=np.float32)
        bias = random.integers(-999, 999, 5).astype(np.float32)
        weight = whole * scales[:, None, None, None]
        found = _divided(weight, bias * (scales * scale), scale)
        assert found is not None
        assert np.array_equal(found[0], whole) and np.array_equal(found[2], bias)
        off: Array = np.nextafter(weight, np.float32(9))
        assert _divided(off, bias * (scales * scale), scale) is None
        assert _divided(weight, bias * (scales * scale) + np.float32(1e-4), scale) is None


def test_onnxruntime_saturates_no_sums_of_bytes() -> None:
    """Bug: on x86 without dot products of bytes quantised tiles were computed in float32."""
    assert find("onnxruntime").open({}).sums_bytes  # type: ignore[attr-defined]


@needs_openvino
def test_openvino_computes_quantised_tiles_in_floating_point() -> None:
    """It takes no convolution of bytes with a scale by channel; nothing is left to torch."""
    weights = as_arrays(model_of("qdq-uint8").weights())
    opened = find("openvino").open(weights)
    for program in programs(
        device_program(plan_of("qdq-uint8"), 1), plan_of("qdq-uint8").network
    ).values():
        assert not opened.prepare(program).fallbacks
    assert {str(each.dtype) for each in opened.shared.arrays.values()} == {"float32"}  # type: ignore[attr-defined]


def test_an_engine_that_saturates_sums_of_bytes_computes_in_floating_point(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As ONNX Runtime did on x86 without dot products of bytes before it had a setting for that."""
    weights = as_arrays(model_of("qdq-int8").weights())
    made = {}
    for exact in (True, False):
        opened = find("onnxruntime").open(weights)
        monkeypatch.setattr(type(opened), "sums_bytes", exact)
        for program in programs(
            device_program(plan_of("qdq-int8"), 1), plan_of("qdq-int8").network
        ).values():
            opened.prepare(program)
        made[exact] = {str(each.dtype) for each in opened.shared.arrays.values()}  # type: ignore[attr-defined]
    assert made == {True: {"float32", "int8", "int32"}, False: {"float32"}}


def test_calls_alone_one_after_the_other_give_what_the_program_gives() -> None:
    """As which a program that rounds is tested: a value on the other of two steps moved all that
    followed, and an engine that was right was called wrong."""
    weights = as_arrays(model_of("qdq-uint8").weights())
    rounds = set()
    for program in programs(
        device_program(plan_of("qdq-uint8"), 0), plan_of("qdq-uint8").network
    ).values():
        rounds.add(program.rounds)
        inputs = random_inputs(program, weights)
        held, whole = dict(inputs), find("torch").open(weights).prepare(program).run(inputs)
        for alone in program.alone:
            held |= find("torch").open(weights).prepare(alone).run(held)
        assert all(np.array_equal(held[output], whole[output]) for output in program.outputs)
    assert True in rounds
