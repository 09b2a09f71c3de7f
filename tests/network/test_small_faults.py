"""Networks on which a fault was once seen: each is right from end to end, or refused by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from nptp_opt.errors import UnsupportedError
from nptp_opt.network.load import load_module
from nptp_opt.network.ref import ModelRef
from nptp_opt.planner import PlanOptions, plan_network
from nptp_opt.verification.import_check import check_import
from nptp_opt.verification.torch_check import verify_plan
from tests.builders import make_cluster
from tests.network import small_faults
from tests.runtime.ranks import execute

CLUSTER = make_cluster((1.0, 2.0, 1.0, 1.5), rates=20.0)
SHAPES = {
    "two_outputs": (2, 3, 1, 3),
    "channels_last": (1, 16, 16, 3),
    "split_attention": (1, 8, 16, 16),
    "channel_attention": (1, 8, 16, 16),
    "norm_over_map": (1, 8, 16, 16),
    "detector": (1, 3, 64, 64),
}
REFUSED = {
    "changed_input": r"changes its input 'x' in place \(.*small_faults.py, line \d+",
    "noisy": r"op randn draws random numbers.*small_faults.py, line \d+",
    "attention_with_dropout": r"op scaled_dot_product_attention draws random numbers.*line \d+",
}
NETWORKS = [
    name
    for name, made in vars(small_faults).items()
    if not name.startswith("_") and isinstance(made, type(lambda: 0))
]


def _shape(name: str) -> tuple[int, ...]:
    """What the network's description says of its input."""
    words = getattr(small_faults, name).__doc__ or ""
    found = re.search(r"Input (\d+(?:x\d+)+)", words)
    return SHAPES[name] if found is None else tuple(map(int, found[1].split("x")))


def check_end_to_end(module: nn.Module, shape: tuple[int, ...], planner: str) -> None:
    """Imported, planned on four devices, verified, executed: what comes out is what the module
    computes."""
    torch.manual_seed(1)
    x = torch.randn(shape)
    with torch.no_grad():
        found = module(x.clone())
    expected = list(found) if isinstance(found, (tuple, list)) else [found]
    model = load_module(module, "small", shape)
    check_import(model)
    plan = plan_network(ModelRef("small", shape), model.network, CLUSTER, PlanOptions(planner))
    report = verify_plan(plan, model)
    assert report.ok, report.faults[:3]
    assert report.witness == "the torch module"
    given = model.network.shapes[model.network.inputs[0]]
    lying = x if x.shape == given else x.permute(0, 3, 1, 2)
    ((answers,), _) = execute(plan, model, [lying])
    for name, values in zip(model.imported.results, expected, strict=True):
        torch.testing.assert_close(
            answers[name].reshape(values.shape), values, atol=1e-5, rtol=1e-4
        )


@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in REFUSED])
def test_networks_that_were_wrong_once_are_right_from_end_to_end(name: str) -> None:
    torch.manual_seed(0)
    check_end_to_end(getattr(small_faults, name)(), _shape(name), "grid-equal")


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_plan_can_repeat_is_refused_by_name_and_line(name: str) -> None:
    with pytest.raises(UnsupportedError, match=REFUSED[name]):
        load_module(getattr(small_faults, name)(), name, _shape(name))


class _Between(nn.Module):
    """A function between two convolutions, with a buffer that it may write to."""

    def __init__(self, function: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.function = function
        self.register_buffer("held", torch.full((1, 4, 1, 1), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.last(self.function(self, self.first(x)))
        return made


def _through_view(module: nn.Module, x: Tensor) -> Tensor:
    x[:, :2].mul_(2.0)
    return x


def _through_rows(module: nn.Module, x: Tensor) -> Tensor:
    x[:, :, 3:5] = 0.25
    return x


def _into_copy(module: nn.Module, x: Tensor) -> Tensor:
    whole = torch.zeros_like(x)
    whole.copy_(x)
    return whole.relu_()


def _out_argument(module: nn.Module, x: Tensor) -> Tensor:
    return torch.mul(x, 3.0, out=torch.empty_like(x))


def _read_before_and_after(module: nn.Module, x: Tensor) -> Tensor:
    before = x * 2.0
    x.add_(1.0)
    return before + x


def _autocast(module: nn.Module, x: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        made: Tensor = module.first(x)  # type: ignore[operator]
    return made.float()


def _half_and_back(module: nn.Module, x: Tensor) -> Tensor:
    return x.half().float()


WRITES = [
    _through_view,
    _through_rows,
    _into_copy,
    _out_argument,
    _read_before_and_after,
    _half_and_back,
]


@pytest.mark.parametrize("function", WRITES)
def test_writes_and_casts_are_right(function: Callable[..., Tensor]) -> None:
    """Regression: a write through a view was lost where its tensor was read later."""
    torch.manual_seed(0)
    check_end_to_end(_Between(function).eval(), (1, 4, 9, 8), "strip-equal")


def test_autocast_is_repeated_as_the_model_records_it() -> None:
    """Regression: a right plan of a model with autocast was refused."""
    torch.manual_seed(0)
    model = load_module(_Between(_autocast).eval(), "autocast", (1, 4, 9, 8))
    check_import(model)
    casts = [node for layer in model.network.layers for node in layer.nodes if node.op == "cast"]
    assert {node.attrs["dtype"] for node in casts} == {"bfloat16"}
    ref = ModelRef("autocast", (1, 4, 9, 8))
    plan = plan_network(ref, model.network, CLUSTER, PlanOptions("strip-equal"))
    report = verify_plan(plan, model)
    assert report.ok, report.faults[:3]
    assert report.to_json()["max_rel_error_float64"] < 1e-12


def _counts(module: nn.Module, x: Tensor) -> Tensor:
    module.held += 1.0  # type: ignore[operator]
    return x + module.held  # type: ignore[operator]


def test_a_model_that_counts_its_calls_in_a_buffer_is_refused_by_name_and_line() -> None:
    with pytest.raises(UnsupportedError, match=r"changes its buffer 'held' in place \(.*line \d+"):
        load_module(_Between(_counts).eval(), "counting", (1, 4, 9, 8))


class _NormOfPooled(nn.Module):
    """A group norm of what is pooled to one pixel already (timm's GlobalContext)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 3, padding=1), nn.GroupNorm(1, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        made: Tensor = x * self.norm(x.mean((2, 3), keepdim=True)).sigmoid()
        return made


def test_a_reduction_of_a_reduction_is_planned() -> None:
    """Regression: the norm of a pooled map counted as one that reduces a map, a KeyError."""
    torch.manual_seed(0)
    check_end_to_end(_NormOfPooled().eval(), (1, 4, 9, 8), "grid-equal")


def test_an_output_of_another_shape_is_wrong() -> None:
    """Regression: outputs were brought into the expected shape before they were compared."""
    torch.manual_seed(0)
    model = load_module(nn.Conv2d(4, 4, 3), "conv", (1, 4, 9, 8))

    class Flat:
        name = "somebody"

        def outputs(self, x: Tensor) -> list[Tensor]:
            return [made.flatten(2) for made in model.witness.outputs(x)]

        def inner(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
            return iter(())

    plan = plan_network(model.ref, model.network, CLUSTER, PlanOptions("strip-equal"))
    assert verify_plan(plan, model).ok
    assert not verify_plan(plan, replace(model, witness=Flat())).ok


def _computed_rows(module: nn.Module, x: Tensor) -> Tensor:
    x[:, 2:4] *= 0.5
    x[:, :, 1:-1] += 1.0
    return x


def test_a_computed_value_is_written_into_a_slice() -> None:
    torch.manual_seed(0)
    check_end_to_end(_Between(_computed_rows).eval(), (1, 4, 9, 8), "strip-equal")


@pytest.mark.parametrize("seed", range(3))
def test_a_norm_of_a_constant_map_is_no_false_alarm(seed: int) -> None:
    """Regression: what is left of a mean is rounding, which a small standard deviation enlarges."""
    torch.manual_seed(0)
    norm = nn.InstanceNorm2d(4, affine=True)
    module = _Between(lambda _, x: norm(x * 0 + 0.3)).eval()
    model = load_module(module, "constant", (1, 4, 32, 40))
    plan = plan_network(model.ref, model.network, CLUSTER, PlanOptions("grid-equal"))
    assert verify_plan(plan, model, seed=seed).ok


def test_a_given_module_stays_as_it_is_and_its_plan_does_not_change_with_it() -> None:
    """Regression: loading switched the user's module to eval, and read its weights later."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)).train()
    model = load_module(module, "given", (1, 4, 9, 8))
    assert module.training and module[1].training
    with torch.no_grad():
        module[0].weight.mul_(2.0)
    check_import(model)


def test_a_recurrent_layer_draws_no_random_numbers() -> None:
    """Regression: GRU was refused for a reason that is not true."""

    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.gru = nn.Conv2d(3, 8, 3), nn.GRU(8, 4, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            made: Tensor = self.gru(self.conv(x).mean(3).transpose(1, 2))[0]
            return made

    try:
        load_module(Recurrent().eval(), "recurrent", (1, 3, 8, 8))
    except UnsupportedError as error:
        assert "random" not in str(error)


def test_an_output_that_is_no_tensor_is_refused_for_that() -> None:
    """Regression: the message named no output and said that it does not depend on the input."""

    class Extra(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, None, int]:
            return x.relu(), None, 3

    with pytest.raises(UnsupportedError, match="output None is no tensor: leave it out"):
        load_module(Extra().eval(), "extra", (1, 4, 9, 8))
