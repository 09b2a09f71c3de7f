"""Runs a network layer by layer on random non-penetrative partitions and compares every tensor."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

import torch

from nptp_opt.geometry import Tile
from nptp_opt.kernels import combine, partial, run_gather, run_layer
from nptp_opt.network.ir import Layer, Network
from nptp_opt.network.load import LoadedModel, load_module
from nptp_opt.planner.path.units import is_segment

TOLERANCE = 1e-9


def random_tiles(tile: Tile, depth: int, rng: random.Random) -> list[Tile]:
    """Cuts a tile in two at random positions, ends included, so that pieces may be empty."""
    if depth == 0:
        return [tile]
    if rng.random() < 0.5:
        y = rng.randint(tile.y0, tile.y1)
        halves = Tile(tile.y0, y, tile.x0, tile.x1), Tile(y, tile.y1, tile.x0, tile.x1)
    else:
        x = rng.randint(tile.x0, tile.x1)
        halves = Tile(tile.y0, tile.y1, tile.x0, x), Tile(tile.y0, tile.y1, x, tile.x1)
    return [piece for half in halves for piece in random_tiles(half, depth - 1, rng)]


def segments(network: Network, rng: random.Random) -> Iterator[tuple[Layer, ...]]:
    """The layers in runs of random length, as far as they can be one segment."""
    layers, start = network.shared_out, 0
    while start < len(layers):
        ends = range(start + 2, min(start + 9, len(layers) + 1))
        fusible = [end for end in ends if is_segment(network, layers[start:end])]
        end = rng.choice([start + 1, *fusible])
        yield layers[start:end]
        start = end


def crop(tensor: torch.Tensor, tile: Tile) -> torch.Tensor:
    return tensor[:, :, tile.y0 : tile.y1, tile.x0 : tile.x1]


def run_tiles(
    layer: Layer,
    weights: dict[str, torch.Tensor],
    held: dict[str, torch.Tensor],
    tiles: list[Tile],
) -> torch.Tensor:
    """A spatial layer's map from its tiles, each computed from its own need alone."""
    out = torch.full(layer.shape, torch.nan, dtype=torch.float64)
    for tile in tiles:
        if tile.is_empty:
            continue
        needs = {tensor: layer.need(tensor, tile) for tensor in layer.inputs}
        crops = {tensor: (need, crop(held[tensor], need)) for tensor, need in needs.items()}
        out[:, :, tile.y0 : tile.y1, tile.x0 : tile.x1] = run_layer(layer, weights, crops, tile)
    return out


def run_any(
    layer: Layer,
    weights: dict[str, torch.Tensor],
    held: dict[str, torch.Tensor],
    rng: random.Random,
) -> torch.Tensor:
    if layer.kind == "spatial":
        tiles = [layer.full] if layer.is_whole else random_tiles(layer.full, 2, rng)
        return run_tiles(layer, weights, held, tiles)
    if not layer.reduces:
        return run_gather(layer, weights, held)
    source = held[layer.nodes[0].inputs[0]]
    full = Tile(0, source.shape[2], 0, source.shape[3])
    pieces = [piece for piece in random_tiles(full, 2, rng) if not piece.is_empty]
    return combine(layer, weights, [partial(layer, crop(source, t)) for t in pieces], held)


def doubles(model: LoadedModel) -> dict[str, torch.Tensor]:
    return model.in_double().weights()


def largest_error(model: LoadedModel, seed: int = 0) -> float:
    """Largest error of any tensor relative to that tensor's largest element, in float64."""
    network, rng = model.network, random.Random(seed)
    shape = network.shapes[network.inputs[0]]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    expected = model.reference(x, model.comparable)
    assert set(network.outputs) <= set(expected)
    weights, held, worst = doubles(model), {network.inputs[0]: x}, 0.0
    with torch.no_grad():
        for layer in network.layers:
            held[layer.name] = run_any(layer, weights, held, rng)
            if layer.name in expected:
                worst = max(worst, relative(held[layer.name], expected[layer.name]))
    return worst


def whole_convolutions(network: Network) -> list[str]:
    """Convolutions of maps that are not partitioned: there must be none."""
    return [
        layer.name
        for layer in network.layers
        if layer.op == "conv2d" and layer.shape[2:] > (1, 1) and layer.kind != "spatial"
    ]


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    assert found.shape == expected.shape
    scale = expected.abs().max().clamp_min(1e-300)
    error = float(((found - expected).abs() / scale).max())
    return float("inf") if math.isnan(error) else error


def check_module(module: torch.nn.Module, shape: tuple[int, ...], seed: int = 0) -> LoadedModel:
    """Import a module and compare it with itself, cut at random."""
    model = load_module(module.eval(), type(module).__name__, shape)
    assert largest_error(model, seed) < TOLERANCE
    return model
