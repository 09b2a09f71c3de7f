"""A model by its reference: the network that is planned, its weights, and torch's own answer."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from nptp_opt.errors import InputError
from nptp_opt.network.ir import Network

if TYPE_CHECKING:
    import torch

    from nptp_opt.network.from_export import Imported

_MAX_INPUT_ELEMENTS = 2**31
_WEIGHTS = {".pt", ".pth", ".pt2", ".safetensors", ".ckpt"}


@dataclass(frozen=True)
class LoadedModel:
    """A network, and the model that it was made from.

    ``build`` gives the model's state by key, the same tensors at every call.
    """

    imported: Imported
    build: Callable[[], Mapping[str, torch.Tensor]]

    @property
    def network(self) -> Network:
        return self.imported.network

    @cached_property
    def _state(self) -> Mapping[str, torch.Tensor]:
        return self.build()

    def weights(self) -> dict[str, torch.Tensor]:
        """Every weight that the network's nodes name, by state key."""
        from nptp_opt.network.reference import derived_weights

        found = {**self._state, **derived_weights(self.imported, self._state)}
        return {key: found[key].detach() for key in self.network.params}

    def cast(self, dtype: torch.dtype) -> LoadedModel:
        """The same model with its floating-point weights in ``dtype``, converted once."""
        state = {
            key: value.to(dtype) if value.is_floating_point() else value
            for key, value in self._state.items()
        }
        return replace(self, build=lambda: state)

    @property
    def comparable(self) -> frozenset[str]:
        """Tensors of the network that the model itself computes: those ``reference`` can give."""
        return frozenset(self.imported.origins) & frozenset(self.network.shapes)

    def reference(self, x: torch.Tensor, keep: Collection[str]) -> dict[str, torch.Tensor]:
        """Tensors ``keep`` and the outputs of the unpartitioned model, run by torch in x's dtype.

        ``x`` may have the network's shape or the model's own. Raises KeyError for a name that is
        not ``comparable``.
        """
        found: dict[str, torch.Tensor] = {}

        def see(name: str, value: torch.Tensor) -> None:
            found[name] = value.clone()

        self.visit(x, {*keep, *self.network.outputs}, see)
        return found

    def visit(
        self, x: torch.Tensor, keep: Collection[str], see: Callable[[str, torch.Tensor], None]
    ) -> None:
        """As ``reference``, handing over each tensor before the model goes on, which may change it.

        Nothing is held: what ``see`` keeps it must copy.
        """
        from nptp_opt.network.reference import visit_tensors

        visit_tensors(self.imported, self._state, x, keep, see)


def load_model(ref: str, input_shape: tuple[int, ...], seed: int = 0) -> LoadedModel:
    """The model ``ref`` at one input shape.

    ``ref`` is a torchvision name, the path of an .onnx file, or ``module:callable`` where the
    callable returns a torch.nn.Module. ``seed`` makes random weights. Raises InputError, or
    UnsupportedError for what the importer does not know, with the name of the node.
    """
    _check_shape(input_shape)
    if ref.endswith(".onnx"):
        from nptp_opt.network.from_onnx import read_onnx

        return load_module(read_onnx(Path(ref), input_shape, seed), ref, input_shape)
    _check_named_as_model(ref)
    if ":" in ref:
        return load_module(_called(ref, seed), ref, input_shape)
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
            "makes the torch.nn.Module, or a torchvision name"
        )


def _check_shape(shape: tuple[int, ...]) -> None:
    text, elements = "x".join(map(str, shape)), 1
    for size in shape:
        if size < 1:
            raise InputError(f"input {text}: every size must be at least 1")
        elements *= size
    if not shape or elements > _MAX_INPUT_ELEMENTS:
        raise InputError(f"input {text}: must have between 1 and {_MAX_INPUT_ELEMENTS} elements")


def load_module(model: torch.nn.Module, name: str, input_shape: tuple[int, ...]) -> LoadedModel:
    """A torch module at one input shape; ``name`` is for messages."""
    return _loaded(model, name, input_shape, "cpu", lambda: _state_of(model))


def _loaded(
    model: torch.nn.Module,
    ref: str,
    shape: tuple[int, ...],
    device: str,
    build: Callable[[], Mapping[str, torch.Tensor]],
) -> LoadedModel:
    from nptp_opt.network.from_export import export, import_program

    program = export(model, shape, ref, device)
    constants = {key: value for key, value in program.constants.items() if hasattr(value, "dtype")}
    return LoadedModel(import_program(program, ref), lambda: {**constants, **build()})


def _from_zoo(ref: str, shape: tuple[int, ...], seed: int) -> LoadedModel:
    """Imported on the meta device: weights are made only when they are asked for."""
    import torch

    from nptp_opt.network import zoo

    def build() -> Mapping[str, torch.Tensor]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return _state_of(zoo.build(ref))

    try:
        with torch.device("meta"):
            model = zoo.build(ref)
        device = "meta"
    except NotImplementedError:  # a constructor that computes with tensors (RegNet)
        model, device = zoo.build(ref), "cpu"
    return _loaded(model, ref, shape, device, build)


def _called(ref: str, seed: int) -> torch.nn.Module:
    """What ``module:callable`` returns, the current folder being importable."""
    import torch

    module_name, _, attribute = ref.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        function = getattr(importlib.import_module(module_name), attribute)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = function()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a user's code may raise anything
        first = (str(error).splitlines() or [""])[0]
        hint = "" if not isinstance(error, ModuleNotFoundError) else f" (looked in {here} too)"
        raise InputError(f"model {ref!r}: {type(error).__name__}: {first}{hint}") from None
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
