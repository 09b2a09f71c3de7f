"""Speeds of layer shapes from measured tile programs: those of one layer, and chains of several.

A layer alone has a line through its tiles: seconds = overhead + FLOP / rate. Chains say what the
same layers take among others. So all speeds are found together, and what every program takes
whatever it computes: by least squares of relative errors with none below 0, of the chains, and
weakly of the tiles of layers alone and of each layer's own line, so that a layer of which chains
say little keeps that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import lsq_linear

from nptp_opt.cluster.profiles import MeasuredLayer
from nptp_opt.kernels.crops import Array
from nptp_opt.runtime.profiling.layers import ChainSample, Sample

WEAK = 0.05
"""Weight of a layer's tiles alone, and of its own line, where a chain has 1."""

LEAST_OVERHEAD = 0.01
"""Of its smallest tile's seconds: what stands for the overhead of a line that has none."""


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


class Fitted(NamedTuple):
    """Speeds of layer shapes, and the seconds of a program beside its layers' calls."""

    layers: tuple[MeasuredLayer, ...]
    program_s: float = 0.0


def fit_together(samples: Mapping[str, Sequence[Sample]], chains: Sequence[ChainSample]) -> Fitted:
    """Every layer shape's speed; its residual stays that of its own line. Without chains a program
    cannot be told from its layer."""
    own = [fit_layer(key, found) for key, found in samples.items() if found]
    if not own or not chains:
        return Fitted(tuple(own))
    overheads = np.array([_overhead_s(each, samples[each.layer]) for each in own])
    per_flop = np.array([1.0 / each.flop_per_s for each in own])
    place = {each.layer: number for number, each in enumerate(own)}
    alone = [({key: (1, flop)}, s) for key, found in samples.items() for flop, s in found]
    rows = np.array([_row(work, s, place) for work, s in (*chains, *alone)])
    weights = np.repeat([1.0, WEAK], [len(chains), len(alone) + 2 * len(own)])
    units = np.concatenate([overheads, per_flop, [overheads.mean()]])
    scaled = np.concatenate([rows * units, np.eye(2 * len(own), len(units))])
    least = np.repeat([1e-6, 0.0], [2 * len(own), 1])
    found = units * lsq_linear(scaled * weights[:, None], weights, bounds=(least, np.inf)).x
    layers = tuple(
        each.model_copy(update={"gflops": 1e-9 / float(b), "overhead_ms": float(a) * 1e3})
        for each, a, b in zip(own, found, found[len(own) : -1], strict=False)
    )
    return Fitted(layers, float(found[-1]))


def _overhead_s(layer: MeasuredLayer, samples: Sequence[Sample]) -> float:
    return max(layer.overhead_s, LEAST_OVERHEAD * min(seconds for _, seconds in samples))


def _row(work: Mapping[str, tuple[int, float]], seconds: float, place: Mapping[str, int]) -> Array:
    """Calls, then FLOP, of every layer shape, then the program, by its seconds."""
    row = np.zeros(2 * len(place) + 1)
    row[-1] = 1.0 / seconds
    for key, (calls, flop) in work.items():
        if key in place:
            row[place[key]] += calls / seconds
            row[len(place) + place[key]] += flop / seconds
    return row


def chain_errors(fitted: Fitted, chains: Sequence[ChainSample]) -> list[float]:
    """Relative errors of what these speeds predict of chains."""
    layers, program_s = fitted
    place = {each.layer: number for number, each in enumerate(layers)}
    speeds = np.array([each.overhead_s for each in layers]
                      + [1.0 / each.flop_per_s for each in layers] + [program_s])  # fmt: skip
    return [float(_row(work, seconds, place) @ speeds) - 1.0 for work, seconds in chains]
