"""A model by its reference: the network that is planned, its weights, and torch's own answer."""

from __future__ import annotations

import copy
import importlib
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from nptp_opt.errors import InputError, VerificationError, last_lines
from nptp_opt.network.ir import Network
from nptp_opt.network.ref import GIVEN, InputShape, ModelRef, Shape, shapes_of, spelled
from nptp_opt.notebook import html_table

if TYPE_CHECKING:
    import torch

    from nptp_opt.network.from_export import Imported
    from nptp_opt.network.given import Given
    from nptp_opt.network.witness import Witness

_MAX_INPUT_ELEMENTS = 2**31
_WEIGHTS = {".pt", ".pth", ".pt2", ".safetensors", ".ckpt"}


@dataclass(frozen=True)
class LoadedModel:
    """A network, the model that it was made from, and a witness of what that model computes.

    ``build`` gives the model's state by key, the same tensors at every call; ``ref`` says what is
    needed to load it again. ``dtype`` is what torch computes in: float32, or float64 where
    ``double``.
    """

    imported: Imported
    build: Callable[[], Mapping[str, torch.Tensor]]
    ref: ModelRef
    witness: Witness
    double: bool = False

    def __repr__(self) -> str:
        layers, work = self.network.layers, sum(layer.flop for layer in self.network.layers)
        return f"<LoadedModel {self.ref}: {len(layers)} layers, {work / 1e9:.3g} GFLOP>"

    def _repr_html_(self) -> str:
        layers = self.network.layers
        rows = {
            "layers": len(layers),
            "partitioned": len(self.network.spatial),
            "gflop": sum(layer.flop for layer in layers) / 1e9,
            "weights_mib": sum(layer.param_bytes for layer in layers) / 2**20,
            "outputs": ", ".join(self.network.outputs),
        }
        return html_table(str(self.ref), rows)

    @property
    def network(self) -> Network:
        return self.imported.network

    @property
    def dtype(self) -> torch.dtype:
        import torch

        return torch.float64 if self.double else torch.float32

    @cached_property
    def state(self) -> Mapping[str, torch.Tensor]:
        """The model's parameters, buffers and constants by key."""
        state = self.build()
        return {key: _doubled(value) for key, value in state.items()} if self.double else state

    def weights(self) -> dict[str, torch.Tensor]:
        """Every weight that the network's nodes name, by state key, in ``dtype``."""
        from nptp_opt.network.reference import derived_weights

        derived = derived_weights(self.imported, self.state, self.dtype)
        found = {**self.state, **derived}
        return {key: self._carried(found[key]) for key in self.network.params}

    def _carried(self, value: torch.Tensor) -> torch.Tensor:
        return value.detach().to(self.dtype) if value.is_floating_point() else value.detach()

    def in_double(self) -> LoadedModel:
        """The same model in float64, its weights converted once."""
        return replace(self, double=True)

    @property
    def comparable(self) -> frozenset[str]:
        """Tensors of the network that the model itself computes: those ``reference`` can give."""
        return frozenset(self.imported.origins) & frozenset(self.network.shapes)

    def reference(self, x: Given, keep: Collection[str]) -> dict[str, torch.Tensor]:
        """Tensors ``keep`` and the outputs of the unpartitioned model, run by torch in x's dtype.

        ``x`` is a tensor, or one for every input of the network in its order, of the network's
        shape or the model's own. Raises KeyError for a name that is
        not ``comparable``.
        """
        return dict(self.tensors(x, {*keep, *self.network.outputs}))

    def tensors(self, x: Given, keep: Collection[str]) -> Iterator[tuple[str, torch.Tensor]]:
        """As ``reference``, tensor by tensor as the model makes them; nothing is held."""
        from nptp_opt.network.reference import run_program

        return run_program(self.imported, self.state, x, keep)

    def own_inputs(self, x: Given) -> tuple[torch.Tensor, ...]:
        """All inputs of the model in its own order, as it takes them.

        ``x`` is as for ``reference``. An input that the network does not read is zero.
        """
        from nptp_opt.network.reference import own_inputs

        return tuple(own_inputs(self.imported, x).values())

    def witnessed(self, x: Given) -> dict[str, torch.Tensor]:
        """The network's outputs by name as the witness computes them, for a float32 ``x``.

        Truth values and whole numbers are floating-point ones, as the network carries them.
        Raises VerificationError where the witness has another number of outputs.
        """
        outputs = self.witness.outputs(*self.own_inputs(x))
        names = self.imported.results
        if len(outputs) != len(names):
            raise VerificationError(
                f"{self.witness.name} gives {len(outputs)} outputs, the imported network "
                f"{len(names)}"
            )
        carried = [each if each.is_floating_point() else each.float() for each in outputs]
        return dict(zip(names, carried, strict=True))


def _doubled(value: torch.Tensor) -> torch.Tensor:
    return value.double() if value.is_floating_point() else value


def load_model(ref: str, input_shape: InputShape, seed: int = 0) -> LoadedModel:
    """The model ``ref`` at one input shape, or at the shapes of its inputs in its own order.

    ``ref`` is a torchvision name, the path of an .onnx file, or ``module:attribute`` where the
    attribute is a torch.nn.Module or a callable that returns one. ``seed`` makes random weights.
    Raises InputError, or UnsupportedError for what the importer does not know, with the name of the
    node.
    """
    _check_shapes(input_shape)
    if ref.startswith(GIVEN):
        raise InputError(
            f"model {ref.removeprefix(GIVEN)!r} was given as an object: only Python can load it; "
            "pass the same module to nptp_opt.load_model"
        )
    if ref.endswith(".onnx"):
        return _from_file(ref, input_shape, seed)
    _check_named_as_model(ref)
    if ":" in ref:
        return load_module(_called(ref, seed), ref, input_shape, seed)
    return _from_zoo(ref, input_shape, seed)


def _check_named_as_model(ref: str) -> None:
    """Raise InputError, with what to write instead, for the name of a file that is no model."""
    file, _, attribute = ref.partition(":")
    if file.endswith(".py"):
        module = file.removesuffix(".py").replace("/", ".")
        raise InputError(
            f"model {ref!r}: name the module, not its file: {module}:{attribute or 'CALLABLE'}"
        )
    if not attribute and (Path(file).is_file() or Path(file).suffix in _WEIGHTS):
        raise InputError(
            f"model {ref!r}: of files only .onnx is read; write module:callable for one that "
            "is or makes the torch.nn.Module, or a torchvision name"
        )


def _check_shapes(shapes: InputShape) -> None:
    for shape in shapes_of(shapes):
        _check_shape(shape)


def _check_shape(shape: Shape) -> None:
    text, elements = spelled(shape), 1
    for size in shape:
        if size < 1:
            raise InputError(f"input {text}: every size must be at least 1")
        elements *= size
    if not shape or elements > _MAX_INPUT_ELEMENTS:
        raise InputError(f"input {text}: must have between 1 and {_MAX_INPUT_ELEMENTS} elements")


def load_module(
    model: torch.nn.Module, name: str, input_shape: InputShape, seed: int = 0
) -> LoadedModel:
    """A torch module at the shape of its input, or inputs.

    ``name`` and ``seed`` are what it is loaded by again.
    Weights and witness are those of a copy, made before the export touches the module: what its
    owner does with it afterwards changes nothing here.
    """
    from nptp_opt.network.witness import ModuleWitness

    _check_shapes(input_shape)
    try:
        own = copy.deepcopy(model)
    except Exception as error:  # noqa: BLE001 - a user's module may raise anything
        raise InputError(f"{name}: the module cannot be copied: {error}") from None
    ref = ModelRef(name, shapes_of(input_shape), seed)
    return _loaded(model, ref, "cpu", lambda: _state_of(own), ModuleWitness(lambda: own))


def _loaded(
    model: torch.nn.Module,
    ref: ModelRef,
    device: str,
    build: Callable[[], Mapping[str, torch.Tensor]],
    witness: Witness,
) -> LoadedModel:
    from nptp_opt.network.from_export import export, import_program

    program = export(model, ref.input, ref.ref, device)
    constants = {key: value for key, value in program.constants.items() if hasattr(value, "dtype")}
    imported = import_program(program, ref.ref)
    return LoadedModel(imported, lambda: {**constants, **build()}, ref, witness)


def _from_file(ref: str, shape: InputShape, seed: int) -> LoadedModel:
    from nptp_opt.network.from_onnx import read_onnx

    model = read_onnx(Path(ref), shape, seed)
    made = ModelRef(ref, shapes_of(shape), seed)
    return _loaded(model, made, "cpu", lambda: _state_of(model), model.witness())


def _from_zoo(ref: str, shape: InputShape, seed: int) -> LoadedModel:
    """Imported on the meta device: weights are made only when they are asked for."""
    import torch

    from nptp_opt.network import zoo
    from nptp_opt.network.witness import ModuleWitness

    @cache
    def make() -> torch.nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return zoo.build(ref)

    try:
        with torch.device("meta"):
            model = zoo.build(ref)
        device = "meta"
    except NotImplementedError:  # a constructor that computes with tensors (RegNet)
        model, device = zoo.build(ref), "cpu"
    made = ModelRef(ref, shapes_of(shape), seed)
    return _loaded(model, made, device, lambda: _state_of(make()), ModuleWitness(make))


def _called(ref: str, seed: int) -> torch.nn.Module:
    """The module of ``module:attribute``, or what it returns; the current folder is importable."""
    import torch

    from nptp_opt.network.zoo import make_torchvision_importable

    module_name, _, attribute = ref.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        make_torchvision_importable()
        model = getattr(importlib.import_module(module_name), attribute)
        if not isinstance(model, torch.nn.Module):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                model = model()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a user's code may raise anything
        hint = "" if not isinstance(error, ModuleNotFoundError) else f" (looked in {here} too)"
        why = f"{type(error).__name__}: {last_lines(error)}{hint}"
        raise InputError(f"model {ref!r}: {why}") from None
    if not isinstance(model, torch.nn.Module):
        raise InputError(f"model {ref!r}: returned {type(model).__name__}, not a torch.nn.Module")
    return model.eval()


def _state_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and buffers by key, those that are not saved too."""
    named = (
        *model.named_parameters(remove_duplicate=False),
        *model.named_buffers(remove_duplicate=False),
    )
    return {key: value.detach() for key, value in named}
