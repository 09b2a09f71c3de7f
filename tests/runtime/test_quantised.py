"""Quantised models: their maps travel in a byte per element, and nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from torch import nn

from nptp_opt.cluster import TransferDtype
from nptp_opt.cost import sent_bytes
from nptp_opt.errors import InputError
from nptp_opt.geometry import Tile
from nptp_opt.kernels.wire_format import Levels
from nptp_opt.network.exact import Grid
from nptp_opt.network.load import LoadedModel, load_model, load_module
from nptp_opt.plan.document import plan_from_json, plan_to_json
from nptp_opt.plan.model import Plan
from nptp_opt.runtime.device_program import device_program
from nptp_opt.runtime.executed import Execution
from nptp_opt.runtime.transport.packing import Packing
from nptp_opt.verification.torch_check import verify_plan
from tests.builders import make_cluster
from tests.executors import EACH
from tests.runtime.plans import PARTITIONS, five_devices, hand_plan, in_pieces
from tests.runtime.quantised import FORMS, INPUT, Form, Kind, itself, quantised
from tests.runtime.ranks import execute

FOLDER = TemporaryDirectory()
"""Of the models' files, which witnesses read again."""


@cache
def model_of(form: Form, kind: Kind = "convolutions") -> LoadedModel:
    path = Path(FOLDER.name) / f"{kind}-{form}.onnx"
    path.write_bytes(quantised(form, kind=kind))
    return load_model(str(path), INPUT)


def plan_of(
    form: Form,
    partition: str = "tee",
    sent_as: TransferDtype = "float32",
    kind: Kind = "convolutions",
) -> Plan:
    cluster = (
        make_cluster([1.0] * 5).sending_as(sent_as) if sent_as != "float32" else five_devices()
    )
    return hand_plan(model_of(form, kind), form, PARTITIONS[partition], cluster)


def inputs(count: int) -> Iterator[torch.Tensor]:
    for seed in range(count):
        yield torch.randn(INPUT, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("executor", EACH)
@pytest.mark.parametrize("form", FORMS)
def test_a_plan_gives_bit_by_bit_what_onnxruntime_gives_on_the_whole_model(
    form: Form, executor: str
) -> None:
    """Bug: on x86 without dot products of bytes they differed, and the test with them.

    OpenVINO takes the last (q - zero) * scale as q * scale - zero * scale, rounded once more.
    """
    plan, given = plan_of(form), list(inputs(5))
    answers, sent = execute(plan, model_of(form), given, executor)
    for x, answer in zip(given, answers, strict=True):
        expected = itself(form, x)
        (found,) = answer.values()
        if executor == "openvino":
            expected = np.where(abs(found.numpy() - expected) < 1e-6, found.numpy(), expected)
        assert np.array_equal(found.numpy(), expected)
    assert sent == plan.transfer_bytes


@pytest.mark.parametrize("executor", EACH)
def test_gates_average_pools_and_softmax_give_what_onnxruntime_gives(executor: str) -> None:
    """But for one step: sigmoid and softmax are tables of whole numbers there, and a sum's scales
    are divided before it is multiplied by them."""
    plan, model = plan_of("qoperator-uint8", kind="gated"), model_of("qoperator-uint8", "gated")
    given = list(inputs(2))
    answers, sent = execute(plan, model, given, executor)
    file = quantised("qoperator-uint8", kind="gated")
    assert b"QLinearAveragePool" in file and b"QLinearSoftmax" in file
    for x, answer in zip(given, answers, strict=True):
        expected = itself("qoperator-uint8", x, "gated")
        (found,) = answer.values()
        assert abs(found.numpy() - expected).max() < 1.01 / 256
    assert sent == plan.transfer_bytes


@pytest.mark.parametrize("form", FORMS)
def test_quantised_maps_are_sent_in_a_quarter_of_the_bytes(form: Form) -> None:
    """All maps but the input, which is none of whole numbers; partials of sums are not, either."""
    plan = plan_of(form)
    network = plan.network
    reduced = {layer.name for layer in network.layers if layer.kind == "global"}
    moved = [move for step in plan.steps for move in step.transfers if move.tensor not in reduced]
    assert {move.tensor for move in moved} - {"x"} <= network.exact.keys()
    assert len({move.tensor for move in moved}) > 5
    for move in moved:
        shorter = 1 if move.tensor == "x" else 4
        assert shorter * move.bytes == network.pixel_bytes(move.tensor) * move.tile.area


def test_verify_executes_the_bytes_that_travel() -> None:
    """In torch, in float32 and float64, and by the executor."""
    model, plan = model_of("qdq-int8"), in_pieces(plan_of("qdq-int8", "grid"))
    report = verify_plan(plan, model, execution=lambda: Execution(plan, model, "onnxruntime"))
    assert report.ok, report.faults
    assert report.executed is not None and report.executed.errors.absolute == 0.0


def test_a_plan_file_says_what_is_quantised_without_weights() -> None:
    plan = plan_of("qdq-uint8")
    read = plan_from_json(plan_to_json(plan))
    assert read.network.exact == plan.network.exact
    keys = {key for grid in plan.network.exact.values() for key in grid.keys}
    used = [device_program(plan, device).weight_keys for device in range(3)]
    assert keys <= frozenset().union(*used)


@pytest.mark.parametrize("sent_as", ["float32", "float16", "int8"])
def test_whatever_the_transfer_type_a_quantised_map_is_not_rounded(sent_as: TransferDtype) -> None:
    """Of a message of two maps the quantised one comes out bit by bit, the other as it may."""
    model, plan = model_of("qdq-int8"), plan_of("qdq-int8", sent_as=sent_as)
    weights = {key: values.numpy() for key, values in model.weights().items()}
    packing = Packing(plan.network, sent_as, weights)
    program = device_program(plan, 1)
    first = next(m for m in program.receives if m.parts[0].tensor in plan.network.exact)
    other = next(m for m in program.receives if m.parts[0].tensor == "x").parts[0]
    message = type(first)(first.step, first.peer, first.tag, (*first.parts[:1], other))
    tensor, levels = first.parts[0].tensor, packing.codecs[first.parts[0].tensor]
    assert isinstance(levels, Levels)
    shapes = [(*plan.network.shapes[part.tensor][:2], part.tile.height, part.tile.width)
              for part in message.parts]  # fmt: skip
    random = np.random.default_rng(0)
    q = random.integers(levels.low, levels.low + 256, shapes[0]).astype(np.float32)
    scale = np.float32(levels.scale)
    values = [(q - np.float32(levels.zero)) * scale, random.random(shapes[1], dtype=np.float32)]
    buffer = packing.buffer(message)
    assert buffer.nbytes == message.bytes
    packing.write(message, buffer, values)
    found = packing.read(message, buffer)
    assert np.array_equal(found[0], values[0]), tensor
    assert np.allclose(
        found[1], values[1], atol={"float32": 0.0, "float16": 1e-3}.get(sent_as, 5e-3)
    )


def test_bytes_are_what_the_cost_says() -> None:
    plan = plan_of("qdq-int8")
    name = next(iter(plan.network.exact))
    channels = plan.network.shapes[name][1]
    assert sent_bytes(plan.cluster, plan.network, name, Tile(0, 3, 0, 2)) == 6 * channels
    lossy = plan.cluster.sending_as("float16")
    assert sent_bytes(lossy, plan.network, name, Tile(0, 3, 0, 2)) == 6 * channels


def test_other_weights_than_those_of_a_quantised_map_are_an_error() -> None:
    """A zero point that is no whole number, a scale of 0: bytes would lose what they stand for."""
    grid = Grid(0.0, 255.0, "zero", "scale")
    right = {"zero": np.float32(3.0), "scale": np.float32(0.5)}
    assert Levels.of("map", grid, right) == Levels(0.0, 3.0, 0.5)
    for wrong in ({"zero": np.float32(0.5)}, {"scale": np.float32(0.0)}):
        with pytest.raises(InputError, match="'map' is planned to be sent in a byte per element"):
            Levels.of("map", grid, {**right, **wrong})


class Shorter(nn.Module):
    """Convolutions and pools in a shorter type, between float32 at both ends."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.body = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1),
            nn.MaxPool2d(2), nn.Conv2d(6, 4, 3, padding=1),
        ).to(dtype)  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x.to(self.dtype)).float()


@pytest.mark.parametrize("executor", EACH)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_maps_of_models_in_a_shorter_type_travel_in_half_of_the_bytes(
    dtype: torch.dtype, executor: str
) -> None:
    """Exactly what one device alone gives by the same executor: nothing is lost on the way."""
    torch.manual_seed(0)
    model = load_module(Shorter(dtype).eval(), "shorter", INPUT)
    network = model.network
    plans = [
        in_pieces(hand_plan(model, "shorter", partition, five_devices()))
        for partition in (lambda height, width: {0: Tile(0, height, 0, width)}, PARTITIONS["tee"])
    ]
    (alone, _), (found, sent) = (execute(plan, model, list(inputs(2)), executor) for plan in plans)
    for one, other in zip(alone, found, strict=True):
        name, expected = next(iter(one.items()))
        step = torch.finfo(dtype).eps * float(expected.abs().max())
        # sums in another order may round to the neighbour, in each of three convolutions
        assert (other[name] - expected).abs().max() <= 3 * step
    moved = [move for step in plans[1].steps for move in step.transfers]
    assert sent == sum(move.bytes for move in moved)
    assert {move.tensor for move in moved} - {"x"} <= network.exact.keys()
    for move in moved:
        shorter = 1 if move.tensor == "x" else 2
        assert shorter * move.bytes == network.pixel_bytes(move.tensor) * move.tile.area
    report = verify_plan(plans[1], model, execution=lambda: Execution(plans[1], model, executor))
    assert report.ok, report.faults


def test_a_transfer_type_of_fewer_bytes_goes_before_that_of_the_map() -> None:
    """An int8 cluster sends halves as int8, with loss, and quantised maps as they are."""
    model = load_module(Shorter(torch.float16).eval(), "shorter", INPUT)
    name = next(iter(model.network.exact))
    sizes = {
        sent_as: sent_bytes(
            make_cluster([1.0]).sending_as(sent_as), model.network, name, Tile(0, 2, 0, 2)
        )
        for sent_as in ("float32", "bfloat16", "int8")
    }
    channels = model.network.shapes[name][1]
    assert sizes == {"float32": 8 * channels, "bfloat16": 8 * channels, "int8": 4 * channels + 4}
