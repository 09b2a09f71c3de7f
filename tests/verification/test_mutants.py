"""Rules of the importer broken on purpose: verification must find every one of them.

A mutant changes what a rule reads, what a kernel is told, or how the graph is made functional.
Some change plan and exported program alike: only the witness, which shares no code with the
import, sees those.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor, nn

from nptp_opt.errors import VerificationError
from nptp_opt.kernels import pixelwise, windowed
from nptp_opt.network import aten_pixelwise, aten_whole, casts, functional, lookalikes, onnx_rules
from nptp_opt.network.calls import RULES, Call, Rule
from nptp_opt.network.load import LoadedModel, load_model, load_module
from nptp_opt.network.ref import ModelRef
from nptp_opt.planner import PlanOptions, plan_network
from nptp_opt.verification.import_check import check_import
from nptp_opt.verification.torch_check import verify_plan
from tests.builders import make_cluster

CLUSTER = make_cluster((1.0, 1.0))
SHAPE = (1, 4, 8, 8)
Patch = pytest.MonkeyPatch


class _Behind(nn.Module):
    """A convolution, and a function of its result."""

    def __init__(self, function: Callable[[Tensor], Tensor], *modules: nn.Module) -> None:
        super().__init__()
        self.first, self.modules_ = nn.Conv2d(4, 4, 3, padding=1), nn.ModuleList(modules)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        made = self.first(x)
        for module in self.modules_:
            made = module(made)
        return self.function(made)


def layer(*modules: nn.Module) -> Callable[[], nn.Module]:
    return lambda: _Behind(lambda x: x, *modules)


def call(function: Callable[[Tensor], Tensor]) -> Callable[[], nn.Module]:
    return lambda: _Behind(function)


@dataclass(frozen=True)
class Mutant:
    """``module`` is read right without ``apply``; with it, verification must fail."""

    name: str
    module: Callable[[], nn.Module]
    apply: Callable[[Patch], None]


def argument(op: str, role: str, value: Any) -> Callable[[Patch], None]:
    """The rule of ``op`` reads ``value``, or what it makes of the true one, for ``role``."""

    def apply(patch: Patch) -> None:
        rule = RULES[op]

        def wrong(given: Call) -> Any:
            old = given.args[role]
            new = value(old) if callable(value) else value
            return rule.handler(replace(given, args={**given.args, role: new}))

        patch.setitem(RULES, op, Rule(wrong, rule.reads))

    return apply


def renamed(op: str, other: str, overload: str | None = None) -> Callable[[Patch], None]:
    """The rule takes ``op`` for another op."""

    def apply(patch: Patch) -> None:
        rule = RULES[op]

        def wrong(given: Call) -> Any:
            return rule.handler(replace(given, op=other, overload=overload or given.overload))

        patch.setitem(RULES, op, Rule(wrong, rule.reads))

    return apply


def unread(op: str) -> Callable[[Patch], None]:
    """The call is dropped: its input is taken for its result."""

    def apply(patch: Patch) -> None:
        patch.setitem(RULES, op, Rule(lambda given: given.argument(), RULES[op].reads))

    return apply


def attribute(module: Any, name: str, value: Any) -> Callable[[Patch], None]:
    return lambda patch: patch.setattr(module, name, value)


def node_attribute(op: str, name: str, value: Any) -> Callable[[Patch], None]:
    """What the import tells the kernel is changed."""

    def apply(patch: Patch) -> None:
        emit = Call.emit

        def wrong(self: Call, made: str, *args: Any, **parts: Any) -> Any:
            if made == op:
                attrs = dict(parts.get("attrs") or {})
                attrs[name] = value(attrs.get(name)) if callable(value) else value
                parts["attrs"] = attrs
            return emit(self, made, *args, **parts)

        patch.setattr(Call, "emit", wrong)

    return apply


def _without_write(patch: Patch) -> None:
    """A write through a view is lost: the tensor stays as it was, in plan and program alike."""

    def forget(program: Any) -> Any:
        made = functional_graph(program)
        for node in made.graph.nodes:
            if node.target in (aten.slice_scatter.default, aten.select_scatter.default):
                node.replace_all_uses_with(node.args[0])
        return made

    functional_graph, aten = functional.functional, torch.ops.aten
    patch.setattr("nptp_opt.network.from_export.functional", forget)


def _ones_for_zeros(patch: Patch) -> None:
    patch.setitem(lookalikes._REWRITES, torch.ops.aten.zeros_like.default, lookalikes._as_full(1))


def _doubled_weights(patch: Patch) -> None:
    """Weights that are computed from weights come out wrong."""
    true = LoadedModel.weights

    def wrong(self: LoadedModel) -> dict[str, Tensor]:
        return {
            key: 2 * value if key.startswith("derived:") else value
            for key, value in true(self).items()
        }

    patch.setattr(LoadedModel, "weights", wrong)


def _masked() -> nn.Module:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            weight = self.conv.weight.clone()
            weight[:, :, 2:] = 0
            return F.conv2d(x, weight, padding=1)

    return Masked()


def _trained_norm() -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(4)
    nn.init.uniform_(norm.weight, 0.5, 2)
    nn.init.uniform_(norm.running_mean, -1, 1)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    return norm


def _lie(kernel: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A kernel whose weight lies the wrong way."""

    def wrong(node: Any, params: dict[str, Tensor]) -> Tensor:
        return kernel(node, params).transpose(2, 3)

    return wrong


torch.manual_seed(2)
_WEIGHT = torch.randn(4, 4, 3, 3)
_PAD = nn.ReplicationPad2d(1)
_UP = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)

MUTANTS = [
    Mutant("conv padding", layer(nn.Conv2d(4, 4, 3)), argument("conv2d", "padding", [1, 0])),
    Mutant("conv kernel transposed", layer(nn.Conv2d(4, 4, 3)),
           lambda patch: patch.setattr(windowed, "_kernel", _lie(windowed._kernel))),
    Mutant("conv bias dropped", layer(nn.Conv2d(4, 4, 3)), argument("conv2d", "bias", None)),
    Mutant("conv dilation", layer(nn.Conv2d(4, 4, 3, dilation=2)),
           argument("conv2d", "dilation", [1, 1])),
    Mutant("transposed conv padding", layer(nn.ConvTranspose2d(4, 4, 3, 2, 1)),
           argument("conv_transpose2d", "padding", [0, 0])),
    Mutant("transposed conv bias", layer(nn.ConvTranspose2d(4, 4, 3, 2, 1)),
           argument("conv_transpose2d", "bias", None)),
    Mutant("swapped rows and columns", call(lambda x: F.conv2d(x.transpose(2, 3), _WEIGHT)),
           node_attribute("conv2d", "swapped", False)),
    Mutant("max pool padding", layer(nn.MaxPool2d(3, 2, 1)),
           argument("max_pool2d", "padding", [0, 0])),
    Mutant("max pool kernel", layer(nn.MaxPool2d(3, 1, 1)),
           argument("max_pool2d", "kernel_size", [2, 3])),
    Mutant("average pool counts padding", layer(nn.AvgPool2d(3, 2, 1)),
           argument("avg_pool2d", "count_include_pad", False)),
    Mutant("average pool divisor", layer(nn.AvgPool2d(3, 2, 1, divisor_override=4)),
           argument("avg_pool2d", "divisor_override", None)),
    Mutant("max for average", layer(nn.AvgPool2d(3, 2, 1)), renamed("avg_pool2d", "max_pool2d")),
    Mutant("adaptive max for average", layer(nn.AdaptiveAvgPool2d(3)),
           renamed("adaptive_avg_pool2d", "adaptive_max_pool2d")),
    Mutant("global max for mean", layer(nn.AdaptiveAvgPool2d(1)),
           renamed("adaptive_avg_pool2d", "adaptive_max_pool2d")),
    Mutant("batch norm eps", layer(_trained_norm()), node_attribute("batch_norm", "eps", 0.1)),
    Mutant("batch norm weight dropped", layer(_trained_norm()),
           argument("batch_norm", "weight", None)),
    Mutant("group norm groups", layer(nn.GroupNorm(2, 4)), argument("group_norm", "num_groups", 1)),
    Mutant("layer norm eps", call(lambda x: F.layer_norm(x.permute(0, 2, 3, 1), [4])),
           argument("layer_norm", "eps", 0.5)),
    Mutant("softmax for log softmax", layer(nn.LogSoftmax(1)), renamed("log_softmax", "softmax")),
    Mutant("concatenation order", call(lambda x: torch.cat([x, x * 2], 1)),
           argument("cat", "tensors", lambda given: given[::-1])),
    Mutant("slice start", call(lambda x: x[:, 1:3]), argument("slice", "start", 0)),
    Mutant("slice of rows", call(lambda x: x[:, :, 2:7]), argument("slice", "start", 1)),
    Mutant("slice step", call(lambda x: x[:, :, ::2]), argument("slice", "step", 1)),
    Mutant("pad mode", layer(_PAD), argument("pad", "mode", "reflect")),
    Mutant("pad value", call(lambda x: F.pad(x, (1, 1, 1, 1), value=2.0)),
           argument("pad", "value", 0.0)),
    Mutant("permuted axes", call(lambda x: x.permute(0, 1, 3, 2)),
           argument("permute", "dims", [0, 1, 2, 3])),
    Mutant("corners", layer(_UP), argument("upsample_bilinear2d", "align_corners", False)),
    Mutant("nearest exact", layer(nn.Upsample((5, 5), mode="nearest-exact")),
           renamed("_upsample_nearest_exact2d", "upsample_nearest2d")),
    Mutant("channel shuffle groups", call(lambda x: F.channel_shuffle(x, 2)),
           node_attribute("channel_permute", "order", [0, 1])),
    Mutant("difference turned round", call(lambda x: x - x.relu() * 3), renamed("sub", "rsub")),
    Mutant("scale of a sum", call(lambda x: torch.add(x, x.relu(), alpha=3)),
           argument("add", "alpha", 1)),
    Mutant("slope", layer(nn.LeakyReLU(0.3)), argument("leaky_relu", "negative_slope", 0.1)),
    Mutant("clamp", call(lambda x: x.clamp(-0.1, 0.1)), argument("clamp", "min", None)),
    Mutant("activation dropped", layer(nn.ReLU()), unread("relu")),
    Mutant("mean for maximum of channels", call(lambda x: x.amax(1, keepdim=True)),
           renamed("amax", "mean")),
    Mutant("cast dropped", call(lambda x: (x * 4).long().float()),
           attribute(casts, "_round", lambda call, value, dtype: value)),
    Mutant("linear bias", layer(nn.Flatten(), nn.Linear(256, 3)), argument("linear", "bias", None)),
    Mutant("linear features", layer(nn.Flatten(), nn.Linear(256, 3)),
           node_attribute("linear", "order", [0, 1, 3, 2])),
    Mutant("whole op for another", call(lambda x: torch.cumsum(x, 3)),
           attribute(aten_whole, "encode_operands", lambda call, operand: (
               [operand(call.args["self"]), 2], {}))),
    Mutant("flip of the other axis", call(lambda x: torch.flip(x, [3])),
           argument("flip", "dims", [2])),
    Mutant("roll the other way", call(lambda x: torch.roll(x, 3, 2)),
           argument("roll", "shifts", -3)),
    Mutant("softmax over another group",
           call(lambda x: x.view(1, 2, 2, 8, 8).softmax(1).view(x.shape)),
           node_attribute("channel_softmax", "over", [1])),
    Mutant("sum over another group", call(lambda x: x.view(1, 2, 2, 8, 8).sum(1)),
           node_attribute("channel_sum", "over", [1])),
    Mutant("channels repeated otherwise",
           call(lambda x: x.view(1, 2, 2, 8, 8) * x.view(1, 2, 2, 8, 8).mean(1, keepdim=True)),
           node_attribute("broadcast", "factors", [[2, 1], [2, 2]])),
    Mutant("stacked in another order", call(lambda x: torch.stack([x, x * 2], 1).softmax(1).sum(2)),
           argument("stack", "tensors", lambda old: old[::-1])),
    Mutant("pixels in another order", call(lambda x: x.flatten(2).view(1, 4, 8, 8).mean(3)),
           argument("mean", "dim", [2])),
    Mutant("bias of a volume", layer(nn.Unflatten(1, (1, 4)), nn.Conv3d(1, 1, 3, padding=1)),
           argument("conv3d", "bias", None)),
    Mutant("constant of another shape", call(lambda x: x * torch.arange(8.0).view(8, 1)),
           attribute(aten_pixelwise, "const_view", lambda shape, layout, result: {
               "view": [1, 1, 1, 8], "expand": [1, 1, 1, 8],
               "order": [0, 1, 2, 3], "shape": [1, 1, 1, 8]})),
    Mutant("weights of weights", _masked, _doubled_weights),
    Mutant("kernel of a reduction", layer(nn.AdaptiveMaxPool2d(1)),
           attribute(pixelwise, "partial", lambda node, tile: tile.amin((2, 3)))),
]  # fmt: skip

ONLY_THE_WITNESS_SEES = [
    Mutant("write dropped", _masked, _without_write),
    Mutant("constant for another", call(lambda x: x + torch.zeros_like(x)), _ones_for_zeros),
]


@cache
def _right(module: Callable[[], nn.Module]) -> bool:
    return _verified(module)


def _verified(module: Callable[[], nn.Module]) -> bool:
    torch.manual_seed(0)
    model = load_module(module().eval(), "mutant", SHAPE)
    ref = ModelRef("mutant", SHAPE)
    plan = plan_network(ref, model.network, CLUSTER, PlanOptions("strip-equal"))
    return verify_plan(plan, model).ok


@pytest.mark.parametrize("mutant", [*MUTANTS, *ONLY_THE_WITNESS_SEES], ids=lambda each: each.name)
def test_verification_finds_a_broken_rule(mutant: Mutant, monkeypatch: Patch) -> None:
    assert _right(mutant.module)
    mutant.apply(monkeypatch)
    assert not _verified(mutant.module)


@pytest.mark.parametrize("mutant", [MUTANTS[0], *ONLY_THE_WITNESS_SEES], ids=lambda each: each.name)
def test_the_check_at_import_names_the_layer(mutant: Mutant, monkeypatch: Patch) -> None:
    mutant.apply(monkeypatch)
    torch.manual_seed(0)
    model = load_module(mutant.module().eval(), "mutant", SHAPE)
    with pytest.raises(VerificationError, match=r"is not the model: (layer|output) '"):
        check_import(model)


# -- rules for ONNX operators: plan and program come from them, only another engine sees these --


class _Changed:
    """Attributes of a node of which one says something else."""

    def __init__(self, attrs: Any, **values: Any) -> None:
        self._attrs, self._values = attrs, values

    def __getitem__(self, name: str) -> Any:
        return self._values[name] if name in self._values else self._attrs[name]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._attrs, name)


FILE_MUTANTS = {
    "Flatten axis": ("Flatten", {"axis": 2}, {"axis": 1}),
    "Transpose order": ("Transpose", {"perm": [0, 1, 3, 2]}, {"perm": [0, 1, 2, 3]}),
    "DepthToSpace mode": ("DepthToSpace", {"blocksize": 2, "mode": "CRD"}, {"mode": "DCR"}),
    "LeakyRelu slope": ("LeakyRelu", {"alpha": 0.3}, {"alpha": 0.01}),
    "Elu alpha": ("Elu", {"alpha": 2.0}, {"alpha": 1.0}),
    "HardSigmoid line": ("HardSigmoid", {"alpha": 0.5}, {"alpha": 0.2}),
    "Softmax axis": ("Softmax", {"axis": 1}, {"axis": -1}),
    "AveragePool padding": (
        "AveragePool",
        {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1},
        {"count_include_pad": 0},
    ),
    "MaxPool padding": (
        "MaxPool",
        {"kernel_shape": [2, 2], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
        {"auto_pad": "SAME_LOWER"},
    ),
    "LRN size": ("LRN", {"size": 3, "alpha": 0.5}, {"alpha": 0.0001}),
}


def _file(path: Path, op: str, attributes: dict[str, Any]) -> str:
    """A 1x1 convolution and one node behind it."""
    make, rng = onnx.helper, np.random.default_rng(0)
    weight = rng.standard_normal((8, 4, 1, 1)).astype(np.float32)
    nodes = [
        make.make_node("Conv", ["x", "w"], ["y"], name="conv"),
        make.make_node(op, ["y"], ["z"], name="behind", **attributes),
    ]
    info = make.make_tensor_value_info
    graph = make.make_graph(
        nodes,
        "mutant",
        [info("x", onnx.TensorProto.FLOAT, [1, 4, 7, 9])],
        [info("z", onnx.TensorProto.FLOAT, [None] * (2 if op == "Flatten" else 4))],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))
    return str(path)


def _verified_file(ref: str) -> bool:
    model = load_model(ref, (1, 4, 7, 9))
    plan = plan_network(model.ref, model.network, CLUSTER, PlanOptions("strip-equal"))
    return verify_plan(plan, model).ok


@pytest.mark.parametrize("name", FILE_MUTANTS)
def test_another_engine_finds_a_broken_rule_for_files(
    name: str, monkeypatch: Patch, tmp_path: Path
) -> None:
    op, attributes, wrong = FILE_MUTANTS[name]
    ref = _file(tmp_path / "model.onnx", op, attributes)
    assert _verified_file(ref)
    rule = onnx_rules.RULES[op]
    broken = replace(rule, run=lambda attrs, *given: rule.run(_Changed(attrs, **wrong), *given))
    monkeypatch.setitem(onnx_rules.RULES, op, broken)
    assert not _verified_file(ref)
    with pytest.raises(VerificationError, match=r"layer 'behind|differs from ONNX Runtime"):
        check_import(load_model(ref, (1, 4, 7, 9)))
