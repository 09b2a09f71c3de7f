"""Measures this device: seconds of every layer shape of a model at several tile sizes."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nptp_opt import __version__
from nptp_opt.cluster.profiles import PROFILE_SCHEMA, MeasuredLayer, Profile
from nptp_opt.cost import layer_key
from nptp_opt.errors import InputError
from nptp_opt.geometry import Tile
from nptp_opt.kernels import run_gather, run_layer
from nptp_opt.network.ir import Layer, Network
from nptp_opt.network.load import LoadedModel, load_model
from nptp_opt.network.ref import InputShape
from nptp_opt.runtime.profiling.link import measure_link, serve_link

SHARES = (1.0, 0.5, 0.25, 0.125)
"""Shares of a map's rows that are measured."""

Sample = tuple[float, float]
"""FLOP and seconds of one tile."""


@dataclass(frozen=True)
class ProfileRequest:
    """The options of ``profile``."""

    input: InputShape
    threads: int = 1
    repeats: int = 5
    serve: str | None = None
    peer: str | None = None
    secret_file: Path | None = None

    def __post_init__(self) -> None:
        if (self.serve or self.peer) and self.secret_file is None:
            raise InputError("`serve` and `peer` need `secret_file`: the same file on both sides")
        if self.serve and self.peer:
            raise InputError("`serve` and `peer` exclude each other: one side serves")


def make_profile(ref: str, request: ProfileRequest, say: Callable[[str], None]) -> Profile:
    """Measure the layers of a model on this device, and the link if that is asked for."""
    link = None
    if request.serve and request.secret_file is not None:
        say(f"waiting at {request.serve} for a peer")
        serve_link(request.serve, request.secret_file)
    if request.peer and request.secret_file is not None:
        say(f"measuring the link to {request.peer}")
        link = measure_link(request.peer, request.secret_file)
    say(f"importing {ref}")
    model = load_model(ref, request.input)
    samples = measure_layers(model, request.threads, request.repeats, say)
    profile = fit_profile(ref, request.threads, samples, _provenance(request.repeats))
    return profile.model_copy(update={"link": link})


def fit_profile(
    ref: str, threads: int, samples: Mapping[str, Sequence[Sample]], provenance: dict[str, Any]
) -> Profile:
    """The profile of measured tiles by layer shape; raises InputError when there are none."""
    layers = tuple(fit_layer(key, found) for key, found in samples.items() if found)
    if not layers:
        raise InputError("nothing to fit: no layer with any computation was measured")
    flop = sum(flop for found in samples.values() for flop, _ in found)
    seconds = sum(flop / speed.flop_per_s
                  for speed in layers for flop, _ in samples[speed.layer])  # fmt: skip
    return Profile.model_validate(
        {
            "schema": PROFILE_SCHEMA,
            "model": ref,
            "threads": threads,
            "gflops": flop / seconds / 1e9,
            "overhead_ms": statistics.median(speed.overhead_ms for speed in layers),
            "layers": layers,
            "provenance": provenance,
        }
    )


def fit_layer(key: str, samples: Sequence[Sample]) -> MeasuredLayer:
    """Seconds as ``a + FLOP / rate`` with the least relative squares, a not below 0."""
    flop, seconds = (np.array(column, dtype=float) for column in zip(*samples, strict=True))
    rows = np.stack([1.0 / seconds, flop / seconds], axis=1)
    overhead, per_flop = np.linalg.lstsq(rows, np.ones(len(seconds)), rcond=None)[0]
    if len(set(flop)) < 2 or overhead < 0 or per_flop <= 0:
        overhead, per_flop = 0.0, float(rows[:, 1].sum() / (rows[:, 1] ** 2).sum())
    fitted = overhead + per_flop * flop
    return MeasuredLayer(
        layer=key,
        gflops=float(1.0 / per_flop / 1e9),
        overhead_ms=float(overhead) * 1e3,
        residual=float(np.abs(fitted / seconds - 1.0).max()),
        points=len(samples),
    )


def measure_layers(
    model: LoadedModel, threads: int, repeats: int, say: Callable[[str], None]
) -> dict[str, list[Sample]]:
    """FLOP and median seconds of several tiles of every layer shape, the head's layers whole."""
    weights, before = model.weights(), torch.get_num_threads()
    samples: dict[str, list[Sample]] = {}
    torch.set_num_threads(threads)
    try:
        for layer in model.network.layers:
            key = layer_key(layer)
            if key in samples or layer.kind == "global" or layer.flop == 0:
                continue
            say(key)
            samples[key] = [
                (flop, _seconds(call, repeats))
                for flop, call in _calls(model.network, layer, weights)
            ]
    finally:
        torch.set_num_threads(before)
    return samples


def _calls(
    network: Network, layer: Layer, weights: Mapping[str, Tensor]
) -> Iterator[tuple[float, Callable[[], Tensor]]]:
    """What to time: the FLOP, and a call that computes them."""
    whole = {name: torch.randn(network.shapes[name]) for name in layer.inputs}
    if layer.kind == "gather":
        yield layer.flop, lambda: run_gather(layer, weights, whole)
        return
    held = {name: (network.full(name), values) for name, values in whole.items()
            if name not in network.replicated}  # fmt: skip
    held |= {name: (network.full(name), whole[name]) for name in layer.inputs if name not in held}
    for rows in dict.fromkeys(max(1, round(layer.height * share)) for share in SHARES):
        tile = Tile(0, rows, 0, layer.width)
        yield layer.flop_per_pixel * tile.area, lambda t=tile: run_layer(layer, weights, held, t)  # type: ignore[misc]


def _seconds(call: Callable[[], Tensor], repeats: int) -> float:
    times = []
    with torch.inference_mode():
        call()
        for _ in range(repeats):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
    return statistics.median(times)


def _provenance(repeats: int) -> dict[str, Any]:
    return {
        "tool": f"nptp-opt {__version__}",
        "torch": torch.__version__,
        "machine": platform.machine(),
        "repeats": repeats,
    }
