"""torch's own samples of its operators (OpInfo) whose first input is a float32 map (4 dimensions).

The model is a 1x1 convolution, so that there is a map to be cut, and the operator behind it. Every
other tensor of a sample is a buffer of the model. What is expected is the model run eagerly.
"""

from __future__ import annotations

import copy
import itertools
import random
from collections.abc import Collection, Iterator
from typing import Any

import torch
from torch import nn
from torch.testing import make_tensor
from torch.testing._internal.common_methods_invocations import op_db
from torch.testing._internal.opinfo.core import (
    BinaryUfuncInfo,
    OpInfo,
    SampleInput,
    UnaryUfuncInfo,
)
from torch.utils import _pytree as pytree

from nptp_opt.network.load import load_module
from tests.conformance.verdicts import Case

SAMPLES = 5
"""How many samples of an operator are taken: the first ones that have a map."""

QUICK = (
    "_upsample_bilinear2d_aa",
    "constant_pad_nd",
    "linalg_qr",
    "masked_amax",
    "nn_functional_batch_norm",
    "nn_functional_glu",
    "nn_functional_max_unpool2d",
    "nn_functional_pad_circular",
    "nn_functional_scaled_dot_product_attention",
    "permute_copy",
    "sum",
)
"""Operators that are always judged: one of every kind, and the ones that were wrong."""

PLANNERS = ("strip-equal", "grid-equal")
"""How the maps are cut, in turn."""


MAP = (1, 4, 9, 7)
"""The map of operators that work element by element, of which torch's samples are none."""


class BehindConvolution(nn.Module):
    """A convolution that only scales each channel, by numbers near 1, then the operator.

    So what the operator is given stays in its domain.
    """

    def __init__(self, sample: SampleInput, operator: Any):
        super().__init__()
        channels = sample.input.shape[1]
        self.conv = nn.Conv2d(channels, channels, 1, groups=channels, bias=False)
        scale = torch.linspace(0.8, 1.0, channels).reshape(-1, 1, 1, 1)
        self.conv.weight = nn.Parameter(scale, requires_grad=False)
        leaves, self.form = pytree.tree_flatten((sample.args, dict(sample.kwargs)))
        self.leaves, self.operator = leaves, operator
        for i, leaf in enumerate(leaves):
            if isinstance(leaf, torch.Tensor):
                self.register_buffer(f"constant{i}", leaf.detach().clone())
                self.leaves[i] = None

    def forward(self, x):
        leaves = [getattr(self, f"constant{i}", leaf) for i, leaf in enumerate(self.leaves)]
        args, kwargs = pytree.tree_unflatten(leaves, self.form)
        return self.operator(self.conv(x), *args, **kwargs)


def torch_cases(names: Collection[str] = ()) -> list[Case]:
    """Cases of all operators, or of those in ``names``, cut into strips and grids in turn."""
    found = [op for op in op_db if torch.float32 in op.dtypes]
    wanted = [op for op in found if not names or op.formatted_name in names]
    return [
        _case(f"{op.formatted_name}/{i}", op, sample, PLANNERS[i % len(PLANNERS)])
        for op in wanted
        for i, sample in enumerate(itertools.islice(_samples_of_maps(op), SAMPLES))
    ]


def elementwise_cases() -> list[Case]:
    """Every operator of one or two tensors, element by element, on a map drawn from its domain.

    The jiterator is for graphics cards only.
    """
    kinds = (UnaryUfuncInfo, BinaryUfuncInfo)
    found = [
        op
        for op in op_db
        if isinstance(op, kinds) and torch.float32 in op.dtypes and "jiterator" not in op.name
    ]
    return [
        _case(f"{op.formatted_name}/map", op, _of_a_map(op), PLANNERS[i % len(PLANNERS)])
        for i, op in enumerate(found)
    ]


def _of_a_map(op: OpInfo) -> SampleInput:
    """One map, and a second one as a constant where the operator takes two."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if isinstance(op, BinaryUfuncInfo):
            sides = (op.lhs_make_tensor_kwargs, op.rhs_make_tensor_kwargs)
            x, other = (make_tensor(MAP, device="cpu", dtype=torch.float32, **k) for k in sides)
            return SampleInput(x, args=(other,))
        low, high = op.domain
        x = make_tensor(MAP, device="cpu", dtype=torch.float32, low=low, high=high)
        return SampleInput(x, kwargs=op.sample_kwargs("cpu", torch.float32, x)[0])


def _samples_of_maps(op: OpInfo) -> Iterator[SampleInput]:
    """Samples whose input is a map that has elements, always the same ones."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        random.seed(0)
        for sample in op.sample_inputs("cpu", torch.float32, requires_grad=False):
            given = sample.input
            if isinstance(given, torch.Tensor) and given.dim() == 4 and given.numel():
                yield sample


def _case(name: str, op: OpInfo, sample: SampleInput, planner: str) -> Case:
    module = BehindConvolution(sample, op.op).eval()
    x = sample.input.detach().contiguous()
    with torch.no_grad(), torch.random.fork_rng():
        found = copy.deepcopy(module)(x.clone())
    expected = [leaf for leaf in pytree.tree_leaves(found) if isinstance(leaf, torch.Tensor)]
    return Case(
        name,
        lambda: load_module(module, name, tuple(x.shape)),
        x,
        expected,
        planner=planner,
    )
