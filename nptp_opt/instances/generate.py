"""Makes ``library.json``: layers of real models by import, times clusters, always the same."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from nptp_opt.errors import InputError
from nptp_opt.instances.library import LIBRARY_SCHEMA
from nptp_opt.instances.recipes import NETWORKS, SPEEDS, ClusterRecipe
from nptp_opt.layer.problem import LayerShape
from nptp_opt.network.load import load_model
from nptp_opt.planner.candidates.layerwise import layer_problem

MODELS: Mapping[str, tuple[str, tuple[int, ...]]] = {
    **{name: (name, (1, 3, 224, 224)) for name in ("vgg11", "vgg13", "vgg16", "vgg19")},
    "resnet50": ("resnet50", (1, 3, 224, 224)),
    "mobilenet_v2": ("mobilenet_v2", (1, 3, 224, 224)),
    "inception_v3": ("inception_v3", (1, 3, 299, 299)),
    "unet": ("nptp_opt.instances.models:unet", (1, 3, 256, 256)),
    "detector": ("nptp_opt.instances.models:detector", (1, 3, 416, 416)),
}

LAYERS_PER_MODEL = 20
NETWORKS_PER_MODEL = 5
COARSE_CUTS = 28
"""Maps with more rows than this get instances with coarser cuts, in turn with all cuts."""

DEVICES = (2, 3, 4, 5, 6, 7, 8, 16, 64)
RATES = (10, 50, 100, 300, 1000)

RECIPES = tuple(
    ClusterRecipe(devices=n, speeds=speeds, network=network, mbit_per_s=rate)
    for n, speeds, network, rate in itertools.product(DEVICES, SPEEDS, NETWORKS, RATES)
)
STRIDE = 77
"""Has no factor in common with the number of recipes: all get their turn."""

Layer = tuple[str, LayerShape]


def generate(models: Sequence[str] = tuple(MODELS)) -> dict[str, Any]:
    """Content of the library file for these models; imports each one."""
    assert math.gcd(STRIDE, len(RECIPES)) == 1
    turns = itertools.count()
    layers: dict[str, Any] = {}
    instances: list[dict[str, Any]] = []
    for model in models:
        chosen = _layers(model)
        layers |= {key: _layer_entry(model, *layer) for key, layer in chosen.items()}
        instances += _layer_instances(chosen, turns)
        instances += _network_instances(model, turns)
    return {
        "schema": LIBRARY_SCHEMA,
        "models": {name: {"ref": MODELS[name][0], "input": [*MODELS[name][1]]} for name in models},
        "layers": layers,
        "instances": instances,
    }


def to_text(content: Mapping[str, Any]) -> str:
    """The library file: one line per model, layer and instance."""
    parts = [f' "schema": {json.dumps(content["schema"])}']
    for key in ("models", "layers"):
        lines = (f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in content[key].items())
        parts.append(f' "{key}": {{\n' + ",\n".join(lines) + "\n }")
    lines = (f"  {json.dumps(entry)}" for entry in content["instances"])
    parts.append(' "instances": [\n' + ",\n".join(lines) + "\n ]")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _layers(model: str) -> dict[str, Layer]:
    """Distinct layers of the model, evenly spaced over its depth, by their name in the library."""
    ref, shape = MODELS[model]
    by_name = {f"{model}-{_label(s)}": (name, s) for name, s in _shapes(ref, shape)}
    keys = list(by_name)
    count = min(len(keys), LAYERS_PER_MODEL)
    return {
        keys[i * len(keys) // count]: by_name[keys[i * len(keys) // count]] for i in range(count)
    }


def _shapes(ref: str, shape: tuple[int, ...]) -> Iterator[Layer]:
    cluster = RECIPES[0].cluster()
    network = load_model(ref, shape).network
    for layer in network.spatial:
        try:
            problem = layer_problem(network, layer, cluster)
        except InputError:  # a layer that changes its channels on the way: no layer instance
            continue
        if problem is not None and problem.height > 1:
            yield layer.name, problem.layer


def _label(shape: LayerShape) -> str:
    op = {"conv2d": "conv", "max_pool2d": "max", "avg_pool2d": "avg"}[shape.op]
    if shape.groups > 1:
        op = "depthwise"
    stride = f"s{shape.stride[0]}" if shape.stride != (1, 1) else ""
    kernel = "x".join(map(str, shape.kernel))
    return f"{op}{kernel}{stride}-{shape.in_channels}to{shape.out_channels}-at{shape.out_height}"


def _layer_entry(model: str, layer: str, shape: LayerShape) -> dict[str, Any]:
    return {"model": model, "layer": layer, "shape": asdict(shape)}


def _layer_instances(layers: Mapping[str, Layer], turns: Iterator[int]) -> Iterator[dict[str, Any]]:
    names = itertools.cycle(layers)
    for k in range(LAYERS_PER_MODEL):
        key = next(names)
        shape = layers[key][1]
        recipe = _recipe(turns, shape.out_height * shape.out_width // 4)
        largest = max(shape.out_height, shape.out_width)
        step = max(1, math.ceil(largest / COARSE_CUTS)) if k % 2 else 1
        name = f"{key}-{recipe.label}" + (f"-step{step}" if step > 1 else "")
        yield _entry(name, "layer", key, recipe) | ({"cut_step": step} if step > 1 else {})


def _network_instances(model: str, turns: Iterator[int]) -> Iterator[dict[str, Any]]:
    for _ in range(NETWORKS_PER_MODEL):
        recipe = _recipe(turns, 64)
        yield _entry(f"{model}-{recipe.label}", "network", model, recipe)


def _recipe(turns: Iterator[int], most: int) -> ClusterRecipe:
    """The next recipe with at most so many devices."""
    return next(
        recipe
        for turn in turns
        if (recipe := RECIPES[turn * STRIDE % len(RECIPES)]).devices <= most
    )


def _entry(name: str, kind: str, of: str, recipe: ClusterRecipe) -> dict[str, Any]:
    return {"name": name, "kind": kind, "of": of, "cluster": recipe.model_dump()}
