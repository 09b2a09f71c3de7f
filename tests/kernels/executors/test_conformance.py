"""Every op that ONNX graphs are made of, with random windows, shapes and cuts, against torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from random import Random

import pytest
import torch

from nptp_opt.cost import segment_needs
from nptp_opt.geometry import EMPTY
from nptp_opt.kernels.executors import Part, TileProgram, find, tile_program
from nptp_opt.kernels.executors.choice import random_inputs, relative_error
from nptp_opt.kernels.executors.onnx_lowering import CLAIMED
from nptp_opt.network.load import LoadedModel, load_module
from nptp_opt.runtime.executed import as_arrays
from tests.executors import OF_ONNX
from tests.kernels.executors.modules import AS_PIXELS, CASES, Case
from tests.network.partitioned import random_tiles, segments

TOLERANCE = 2e-5
SEEDS = {"onnxruntime": range(4), "openvino": range(2)}
"""OpenVINO takes its time to compile."""


def model_of(make: Callable[[Random], Case], seed: int) -> LoadedModel:
    """A module with random weights and statistics."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module, shape = make(Random(seed))
        for each in module.modules():
            if isinstance(each, torch.nn.BatchNorm2d):
                each.running_mean.normal_()  # type: ignore[union-attr]
                each.running_var.uniform_(0.5, 2.0)  # type: ignore[union-attr]
        loaded = load_module(module.eval(), make.__name__, shape)
        return loaded.of_pixels(AS_PIXELS.get(make))


def programs(model: LoadedModel, rng: Random) -> Iterator[TileProgram]:
    """Layers and segments of them, on random tiles; whole layers whole."""
    network = model.network
    for layers in [*segments(network, rng), *((layer,) for layer in network.head)]:
        whole = layers[-1].kind != "spatial" or layers[-1].is_whole
        tiles = [EMPTY] if whole else random_tiles(layers[-1].full, 2, rng)
        for tile in tiles:
            if whole or not tile.is_empty:
                wanted = {} if whole else segment_needs(layers, {0: tile})
                needs = {tensor: found[0] for tensor, found in wanted.items()}
                part = Part(layers, tile, needs, whole)
                yield tile_program([part], network.shapes, [layers[-1].name])


def run_both(engine: str, model: LoadedModel, program: TileProgram, seed: int) -> Mapping[str, str]:
    """Compare an engine with torch on one program; returns what was left to torch."""
    weights = as_arrays(model.weights())
    inputs = random_inputs(program, weights, seed)
    prepared = find(engine).open(weights).prepare(program)
    expected = find("torch").open(weights).prepare(program).run(inputs)
    found = prepared.run(inputs)
    for name, values in expected.items():
        assert relative_error(found[name], values) < TOLERANCE, program.calls
    return prepared.fallbacks


@pytest.mark.parametrize("engine", OF_ONNX)
@pytest.mark.parametrize("make", CASES, ids=lambda make: make.__name__)
def test_programs_of_claimed_ops_give_what_torch_gives(
    make: Callable[[Random], Case], engine: str
) -> None:
    """Crops, one-sided pads, strides, empty needs; layers alone and in segments."""
    for seed in SEEDS[engine]:
        model, rng = model_of(make, seed), Random(seed)
        for program in programs(model, rng):
            run_both(engine, model, program, seed)


def test_every_claimed_op_is_among_the_cases_and_not_left_to_torch() -> None:
    """What the executor says it can do, it does itself, whole maps being the tiles."""
    done: set[str] = set()
    for make in CASES:
        for seed in SEEDS["onnxruntime"]:
            model = model_of(make, seed)
            for program in whole_layers(model):
                left = run_both("onnxruntime", model, program, seed)
                done |= {n.op for c in program.calls if c.layer.name not in left
                         for n in c.layer.nodes}  # fmt: skip
    assert done >= CLAIMED, sorted(CLAIMED - done)


def whole_layers(model: LoadedModel) -> Iterator[TileProgram]:
    network = model.network
    for layer in network.layers:
        whole = layer.kind != "spatial" or layer.is_whole
        part = Part((layer,), EMPTY if whole else layer.full, {}, whole)
        yield tile_program([part], network.shapes, [layer.name])
