"""Which engine computes: the one asked for, the fastest that is right, never a wrong one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import pytest
import torch
from torch import Tensor, nn

from nptp_opt.errors import ExecutionError, InputError
from nptp_opt.geometry import EMPTY
from nptp_opt.kernels.executors import (
    EXECUTORS,
    Executor,
    Opened,
    Part,
    Prepared,
    TileProgram,
    choose,
    find,
    listing,
    register,
    tile_program,
)
from nptp_opt.kernels.executors.onnxruntime import OnnxRuntime
from nptp_opt.kernels.executors.registry import Capabilities
from nptp_opt.network.load import LoadedModel, load_module
from tests.kernels.executors.modules import Apply


def loaded(*modules: nn.Module) -> LoadedModel:
    return load_module(nn.Sequential(*modules).eval(), "case", (1, 3, 8, 8))


def whole(model: LoadedModel) -> TileProgram:
    """All layers as one program, as one device alone has them."""
    parts = [
        Part((layer,), layer.full, {name: model.network.full(name) for name in layer.inputs})
        if layer.kind == "spatial"
        else Part((layer,), EMPTY, {}, whole=True)
        for layer in model.network.layers
    ]
    return tile_program(parts, model.network.shapes, model.network.outputs)


class Answer(Prepared):
    """What torch computes, changed."""

    def __init__(self, prepared: Prepared, change: Callable[[Tensor], Tensor]) -> None:
        self.prepared, self.change = prepared, change

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: self.change(found) for name, found in self.prepared.run(inputs).items()}


class Changed(Executor):
    """An engine whose answers are torch's, changed; without threads of its own."""

    name, package, module, install = "changed", "torch", "torch", "pip install changed"
    capabilities = Capabilities(dtypes=("float32",), tolerance=1e-3)

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        self.change = change

    def _open(self, weights: Mapping[str, Tensor], threads: int) -> Opened:
        torch_opened, change = find("torch").open(weights), self.change

        class Engine(Opened):
            def prepare(self, program: TileProgram) -> Prepared:
                return Answer(torch_opened.prepare(program), change)

        return Engine()


@pytest.fixture
def registry() -> Iterator[None]:
    """Executors are as before afterwards, and none but torch is there in between."""
    kept = dict(EXECUTORS)
    EXECUTORS._entries.clear()
    EXECUTORS._entries["torch"] = kept["torch"]
    yield
    EXECUTORS._entries.clear()
    EXECUTORS._entries.update(kept)


MODEL = loaded(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))


def refuse(values: Tensor) -> Tensor:
    raise RuntimeError("no such kernel")


WRONG: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "numbers": (lambda y: y * 1.01, "in the self-test its .* differs from torch's by 0.01"),
    "one element": (lambda y: y.index_fill(3, torch.tensor([0]), 0.0), "differs from torch's"),
    "nan": (lambda y: y * float("nan"), "differs from torch's by inf"),
    "shape": (lambda y: y[..., :-1], "differs from torch's by inf"),
    "failure": (refuse, "it fails on .*RuntimeError: no such kernel"),
}


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize("kind", WRONG)
def test_an_engine_that_is_wrong_is_named_and_not_used(kind: str) -> None:
    change, words = WRONG[kind]
    register(Changed(change))
    programs = {0: whole(MODEL)}
    chosen = choose(None, programs, MODEL.weights())
    assert chosen.name == "torch" and "executor 'changed' is not used" in chosen.notes[0]
    with pytest.raises(ExecutionError, match=f"executor 'changed' is not used: .*{words}"):
        choose("changed", programs, MODEL.weights())


@pytest.mark.usefixtures("registry")
def test_an_engine_that_is_right_is_used_when_asked_for() -> None:
    register(Changed(lambda y: y))
    assert choose("changed", {0: whole(MODEL)}, MODEL.weights()).name == "changed"
    with pytest.raises(InputError, match="'changed' cannot use 2 threads"):
        choose("changed", {0: whole(MODEL)}, MODEL.weights(), threads=2)


@pytest.mark.usefixtures("registry")
def test_a_right_engine_that_is_slower_is_not_taken() -> None:
    def slow(values: Tensor) -> Tensor:
        for _ in range(200):
            values = values.clone()
        return values

    register(Changed(slow))
    assert choose(None, {0: whole(MODEL)}, MODEL.weights()).name == "torch"


def test_a_missing_engine_is_an_error_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(OnnxRuntime, "available", False)
    with pytest.raises(ExecutionError, match=r"pip install 'nptp-opt\[onnxruntime\]'"):
        choose("onnxruntime", {0: whole(MODEL)}, MODEL.weights())
    assert choose(None, {0: whole(MODEL)}, MODEL.weights()).name == "torch"
    row = next(row for row in listing() if row["name"] == "onnxruntime")
    assert row["available"] is False


def test_an_unknown_engine_is_an_error_with_the_nearest_name() -> None:
    with pytest.raises(InputError, match="Did you mean 'onnxruntime'"):
        choose("onnxruntim", {}, {})


def test_what_onnx_lacks_is_computed_by_torch_and_told() -> None:
    """The layer in the middle; those around it are graphs of their own."""
    model = loaded(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), Apply(torch.lgamma), nn.Conv2d(4, 2, 1)
    )
    programs = {0: whole(model)}
    chosen = choose("onnxruntime", programs, model.weights())
    assert chosen.notes == ("executor 'onnxruntime' leaves 1 layers to torch: op lgamma",)
    assert len(chosen.prepared[0].stages) == 3  # type: ignore[attr-defined]


def test_weights_are_in_memory_once_for_all_programs_of_a_device() -> None:
    """Two programs of one layer read the memory that the weights lie in already."""
    model = loaded(nn.Conv2d(3, 4, 3))
    weights = model.weights()
    opened = find("onnxruntime").open(weights)
    for _ in range(2):
        opened.prepare(whole(model))
    shared = opened.shared.arrays  # type: ignore[attr-defined]
    assert len(shared) == 2
    held = {values.ctypes.data for values in shared.values()}
    assert held == {values.data_ptr() for values in weights.values()}


def test_only_the_first_program_of_a_weight_copies_it_into_the_runtimes_layout() -> None:
    """Bug: an interior and its rims had a copy of VGG-16's weights each, nine in all."""
    model = loaded(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    opened = find("onnxruntime").open(model.weights())
    levels = []
    for _ in range(2):
        (stage,) = opened.prepare(whole(model)).stages  # type: ignore[attr-defined]
        levels.append(stage.session.get_session_options().graph_optimization_level.name)
    assert levels == ["ORT_ENABLE_ALL", "ORT_ENABLE_EXTENDED"]
    assert len(opened.shared.arrays) == 2  # type: ignore[attr-defined] - the norm is in them


@pytest.mark.parametrize("threads", [1, 2])
def test_sessions_compute_with_the_threads_that_are_asked_for(threads: int) -> None:
    opened = find("onnxruntime").open(MODEL.weights(), threads)
    prepared = opened.prepare(whole(MODEL))
    (stage,) = prepared.stages  # type: ignore[attr-defined]
    options = stage.session.get_session_options()
    assert options.intra_op_num_threads == threads and options.inter_op_num_threads == 1


@pytest.mark.parametrize("name", ["torch", "onnxruntime"])
def test_weights_of_another_model_are_an_error_that_names_one(name: str) -> None:
    with pytest.raises(InputError, match=r"reads weight '0\.(weight|bias)', which is not there"):
        find(name).open({}).prepare(whole(MODEL))
