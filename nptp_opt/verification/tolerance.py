"""How far two right computations of one tensor may lie apart.

Nothing is assumed of a model: it is run in float32 and in float64, and what lies between the two
is what rounding does to each of its tensors. A plan computes the same sums in another order, so
its rounding is of that size, and in float64 smaller by the ratio of the types' precisions. To that
comes what one layer's own terms allow, also where they cancel: the precision times the largest sum
of the terms' magnitudes. (Higham, Accuracy and Stability of Numerical Algorithms, chapters 3, 4.)

Where a model quantises, float32 rounding decides for values between two steps which one they take:
one element in many is a step off, and what follows is moved by that. In float64 that does not
happen, so there nothing is added.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from nptp_opt.network.exact import Grid, known_elements
from nptp_opt.network.ir import Layer, Network

SAFETY = 64.0
"""How often its own rounding a tensor may be off when it is summed in another order."""
TERMS = 64.0
"""How often the precision of its terms' magnitudes: about what a sum of a thousand of them has."""
OTHER_ENGINE = 4.0
"""How much further another engine, with other algorithms, may lie off."""


STEPS = 4.0
"""By how many steps a quantised value may lie off in float32."""


def difference(actual: Tensor, expected: Tensor) -> float:
    """Largest difference; equal infinities and NaN in the same place count as equal.

    Infinite where only one of the two is NaN, or infinite.
    """
    if actual.shape != expected.shape:
        return math.inf
    if not actual.numel():
        return 0.0
    off = (actual - expected).abs()
    if bool(torch.isfinite(off).all()):
        return float(off.max())
    same = (actual == expected) | (actual.isnan() & expected.isnan())
    return float(torch.where(same, 0.0, off.nan_to_num(math.inf, math.inf)).max())


def largest(values: Tensor) -> float:
    """Largest finite magnitude; 0 where there is none."""
    if not values.numel():
        return 0.0
    low, high = values.aminmax()
    most = float(torch.maximum(high, -low))
    return most if math.isfinite(most) else float(values.nan_to_num(0.0, 0.0, 0.0).abs().max())


@dataclass(frozen=True)
class Rounding:
    """What rounding may do to one tensor: ``noise`` is measured in float32, ``terms`` bounds the
    sum of the magnitudes of what its elements are made of. ``step`` is what one step of a
    quantisation is worth in it."""

    noise: float
    terms: float
    step: float = 0.0

    def allowed(self, dtype: torch.dtype, engine: float = 1.0) -> float:
        """Largest difference between two right computations in ``dtype``; ``engine`` says how much
        further another engine may lie off."""
        precision = torch.finfo(dtype).eps
        share = precision / torch.finfo(torch.float32).eps
        steps = STEPS * self.step if dtype == torch.float32 else 0.0
        return engine * (SAFETY * self.noise * share + TERMS * precision * self.terms) + steps


def rounding(single: Tensor, double: Tensor, terms: float = 0.0, step: float = 0.0) -> Rounding:
    """Of a tensor that the model computes in both types; ``terms`` as far as its layer says."""
    noise = difference(single.double(), double)
    return Rounding(noise if math.isfinite(noise) else 0.0, max(largest(double), terms), step)


def steps(network: Network, weights: Mapping[str, Tensor]) -> dict[str, float]:
    """What one step of a quantisation is worth in every layer's output: its own scale, or that of
    what it reads times the layer's gain; 0 where nothing is quantised before it."""
    known, found = known_elements(network), dict.fromkeys(network.inputs, 0.0)
    for layer in network.layers:
        grid = known.get(layer.name)
        given = max((found[tensor] for tensor in layer.inputs), default=0.0)
        if isinstance(grid, Grid) and grid.fits:
            found[layer.name] = 1.0 if grid.scale is None else float(weights[grid.scale].abs())
        else:
            found[layer.name] = gain(layer, weights) * given
    return found


def gain(layer: Layer, weights: Mapping[str, Tensor]) -> float:
    """Largest sum of the magnitudes of a layer's weights that make one output; 1 without any."""
    anchor = layer.nodes[0]
    if "weight" not in anchor.params or anchor.op not in ("conv2d", "conv_transpose2d", "linear"):
        return 1.0
    weight = weights[anchor.params["weight"]].abs()
    if anchor.op == "linear":
        return float(weight.sum(0 if anchor.attrs.get("transposed") else -1).max())
    into = weight.reshape(weight.shape[0], -1) if anchor.op == "conv2d" else weight.transpose(0, 1)
    return float(into.reshape(into.shape[0], -1).sum(1).max())
