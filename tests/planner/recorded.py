"""Twelve small cases, and what their plans are: a refactoring must change none of them.

``python -m tests.planner.recorded > tests/planner/recorded.json`` records them anew, which is a
decision: the planner found something else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nptp_opt as nptp
from nptp_opt.planner.candidates import pool
from tests.builders import make_cluster

RECORD = Path(__file__).with_suffix(".json")
MODELS = {
    "vgg11": (1, 3, 48, 40),
    "resnet18": (1, 3, 64, 48),
    "mobilenet_v2": (1, 3, 64, 64),
    "squeezenet1_1": (1, 3, 65, 63),
    "tests.models:small_cnn": (1, 3, 33, 29),
}
CLUSTERS = {
    "4 shared": make_cluster((1.0, 2.0, 1.0, 1.5), shared=True, rates=50.0, latency_ms=0.2),
    "3 switched": make_cluster((2.0, 1.0, 1.5), rates=100.0, latency_ms=0.05),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "nptp": {},
    "coedge-style": {"planner": "coedge-style"},
}


def digest(plan: nptp.Plan) -> str:
    """Of everything that devices do: layers, tiles, owners and transfers, in order."""
    steps = [
        [
            step.kind,
            list(step.layers),
            sorted((device, str(tile)) for device, tile in step.tiles.items()),
            step.device,
            [[move.src, move.dst, move.tensor, str(move.tile)] for move in step.transfers],
        ]
        for step in plan.steps
    ]
    return hashlib.sha256(json.dumps(steps).encode()).hexdigest()[:16]


def cases() -> Iterator[tuple[str, str, str]]:
    """Model, cluster and options of every case, by name; ``nptp`` for the smallest model alone."""
    every = ((m, c, o) for m in MODELS for c in CLUSTERS for o in OPTIONS)
    return (case for case in every if case[2] != "nptp" or "small_cnn" in case[0])


def plan_of_case(model: nptp.LoadedModel, cluster: str, options: str) -> nptp.Plan:
    return nptp.solve(model, CLUSTERS[cluster], trust_import=True, **OPTIONS[options])


TIMES: tuple[tuple[Any, str], ...] = ((pool, "SOLVING_S"),)
"""Limits by the clock: on a busy machine a search would end elsewhere."""


def _record() -> dict[str, Any]:
    for module, name in TIMES:
        setattr(module, name, 1e6)
    loaded = {name: nptp.load_model(name, shape) for name, shape in MODELS.items()}
    found = {}
    for model, cluster, options in cases():
        plan = plan_of_case(loaded[model], cluster, options)
        found[f"{model}, {cluster}, {options}"] = [digest(plan), plan.latency_s]
    return found


if __name__ == "__main__":
    print(json.dumps(_record(), indent=1))
