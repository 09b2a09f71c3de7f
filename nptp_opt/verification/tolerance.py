"""How far two right computations of one tensor may lie apart.

Nothing is assumed of a model: it is run in float32 and in float64, and what lies between the two
is what rounding does to each of its tensors. A plan computes the same sums in another order, so
its rounding is of that size, and in float64 smaller by the ratio of the types' precisions. To that
comes what one layer's own terms allow, also where they cancel: the precision times the largest sum
of the terms' magnitudes. (Higham, Accuracy and Stability of Numerical Algorithms, chapters 3, 4.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from nptp_opt.network.ir import Layer

SAFETY = 64.0
"""How often its own rounding a tensor may be off when it is summed in another order."""
TERMS = 64.0
"""How often the precision of its terms' magnitudes: about what a sum of a thousand of them has."""
OTHER_ENGINE = 4.0
"""How much further another engine, with other algorithms, may lie off."""


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
    sum of the magnitudes of what its elements are made of."""

    noise: float
    terms: float

    def allowed(self, dtype: torch.dtype) -> float:
        """Largest difference between two right computations in ``dtype``."""
        precision = torch.finfo(dtype).eps
        share = precision / torch.finfo(torch.float32).eps
        return SAFETY * self.noise * share + TERMS * precision * self.terms


def rounding(single: Tensor, double: Tensor, terms: float = 0.0) -> Rounding:
    """Of a tensor that the model computes in both types; ``terms`` as far as its layer says."""
    noise = difference(single.double(), double)
    return Rounding(noise if math.isfinite(noise) else 0.0, max(largest(double), terms))


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
