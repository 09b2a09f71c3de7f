"""A model by its reference: the network that is planned, its weights, and torch's own answer."""

from __future__ import annotations

import copy
import importlib
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from nptp_opt.errors import InputError, VerificationError, last_lines
from nptp_opt.network.ir import Density, Network
from nptp_opt.network.ref import (
    GIVEN,
    InputPixels,
    InputShape,
    ModelRef,
    Pixels,
    Shape,
    shapes_of,
    spelled,
)
from nptp_opt.notebook import html_table

if TYPE_CHECKING:
    import torch

    from nptp_opt.network.from_export import Imported
    from nptp_opt.network.given import Given
    from nptp_opt.network.signature import Names, Signature
    from nptp_opt.network.witness import Witness

_MAX_INPUT_ELEMENTS = 2**31
_WEIGHTS = {".pt", ".pth", ".pt2", ".safetensors", ".ckpt"}


@dataclass(frozen=True)
class LoadedModel:
    """A network, the model that it was made from, and a witness of what that model computes.

    ``build`` gives the model's state by key, the same tensors at every call; ``ref`` says what is
    needed to load it again. ``sized`` loads the same model at another input shape. ``dtype`` is
    what torch computes in: float32, or float64 where ``double``.
    """

    imported: Imported
    build: Callable[[], Mapping[str, torch.Tensor]]
    ref: ModelRef
    witness: Witness
    sized: Callable[[InputShape], LoadedModel]
    double: bool = False
    names: Names | None = None
    """Its inputs' and outputs', where a file has them."""
    densities: Mapping[str, Density] = field(default_factory=dict)

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

    @cached_property
    def network(self) -> Network:
        """What is planned: the imported network, or that of pixels."""
        from nptp_opt.network.pixels import of_pixels

        network = of_pixels(self.imported.network, self._pixels)
        return replace(network, densities=self.densities) if self.densities else network

    def of_densities(self, densities: Mapping[str, Density]) -> LoadedModel:
        """The same model whose maps are known to have these shares of non-zeros."""
        unknown = [name for name in densities if name not in self.network.shapes]
        if unknown:
            raise InputError(f"densities: the network has no map {unknown[0]!r}")
        for name, each in densities.items():
            if not (0 < each.mean <= 1 and 0 < each.p90 <= 1):
                raise InputError(f"densities: {name!r} has {each.mean}, it must lie in (0, 1]")
            if not 0 < each.first_byte_bits <= 8:
                raise InputError(
                    f"densities: {name!r} has {each.first_byte_bits} bits of a first byte, they "
                    "must lie in (0, 8]"
                )
        return replace(self, densities=dict(densities))

    def taken(self, x: Given) -> Given:
        """Inputs of the network as the model takes them: pixels are normalised."""
        from nptp_opt.network.pixels import as_model_takes

        inputs = self.imported.network.inputs
        return as_model_takes(x, [self._pixels.get(name) for name in inputs])

    @cached_property
    def _pixels(self) -> dict[str, Pixels]:
        """By the imported network's name of every input of uint8 that it reads."""
        inputs = self.imported.network.inputs
        named = zip(self.imported.placeholders, self.ref.pixels, strict=False)  # or there are none
        found = {node.name: each for node, each in named if each is not None}
        return {name: found[name] for name in inputs if name in found}

    def of_pixels(self, *pixels: Pixels | None) -> LoadedModel:
        """The same model with inputs of uint8 that the network normalises: one of ``pixels`` for
        every input in the model's own order, where None changes nothing.

        Raises InputError where such an input is no image, or the numbers do not fit its channels.
        """
        if not any(pixels):
            return self
        before = self.ref.pixels or (None,) * len(pixels)
        for number, each in enumerate(pixels):
            if each is not None and not each.changes_nothing:
                self._check_image(number, before[number])
        merged = tuple(new or old for new, old in zip(pixels, before, strict=True))
        loaded = replace(
            self,
            ref=replace(self.ref, pixels=merged),
            sized=lambda shape: self.sized(shape).of_pixels(*pixels),
        )
        assert loaded.network  # numbers that do not fit are told now
        return loaded

    def _check_image(self, number: int, before: Pixels | None) -> None:
        """Raise InputError for an input of the model that the network cannot normalise, or that
        is uint8 ``before``."""
        node, name = self.imported.placeholders[number], self.signature.inputs[number].name
        shape, shapes = tuple(node.meta["val"].shape), self.imported.network.shapes
        if before is not None:
            raise InputError(
                f"{self.ref}: input {name!r} is uint8 and normalised already: leave `scale`, "
                "`mean` and `std` out"
            )
        if len(shape) != 4 or shapes.get(node.name, shape) != shape:
            raise InputError(
                f"{self.ref}: `input_dtype` uint8 is for images as (batch, channels, rows, "
                f"columns); input {name!r} is {spelled(shape)} or has them in another order"
            )

    @property
    def dtype(self) -> torch.dtype:
        import torch

        return torch.float64 if self.double else torch.float32

    @cached_property
    def state(self) -> Mapping[str, torch.Tensor]:
        """The model's parameters, buffers and constants by key."""
        state = self.build()
        return {key: _as_double(value) for key, value in state.items()} if self.double else state

    def weights(self) -> dict[str, torch.Tensor]:
        """Every weight that the network's nodes name, by state key, in ``dtype``."""
        from nptp_opt.network.reference import derived_weights

        derived = derived_weights(self.imported, self.state, self.dtype)
        weights = {**self.state, **derived}
        return {key: self._as_stored(weights[key]) for key in self.network.params}

    def _as_stored(self, value: torch.Tensor) -> torch.Tensor:
        return value.detach().to(self.dtype) if value.is_floating_point() else value.detach()

    def in_double(self) -> LoadedModel:
        """The same model in float64, its weights converted once."""
        return replace(self, double=True)

    @cached_property
    def signature(self) -> Signature:
        """What the model takes and gives, by its own names, shapes and types."""
        from nptp_opt.network.signature import Signature

        return Signature(self.imported, self.names, pixels=self.ref.pixels)

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

        return run_program(self.imported, self.state, self.taken(x), keep)

    def own_inputs(self, x: Given) -> tuple[torch.Tensor, ...]:
        """All inputs of the model in its own order, as it takes them.

        ``x`` is as for ``reference``. An input that the network does not read is zero.
        """
        from nptp_opt.network.reference import own_inputs

        return tuple(own_inputs(self.imported, self.taken(x)).values())

    def witness_outputs(self, x: Given) -> dict[str, torch.Tensor]:
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


def _as_double(value: torch.Tensor) -> torch.Tensor:
    return value.double() if value.is_floating_point() else value


def load_again(ref: ModelRef, weights: Path | None = None) -> LoadedModel:
    """The model that a reference is about, as it was loaded before, with ``weights`` of a file."""
    return load_model(ref.ref, ref.input, ref.seed, weights, ref.pixels)


def load_model(
    ref: str,
    input_shape: InputShape,
    seed: int = 0,
    weights: Path | None = None,
    pixels: InputPixels = (),
) -> LoadedModel:
    """The model ``ref`` at one input shape, or at the shapes of its inputs in its own order.

    ``ref`` is a torchvision name, the path of an .onnx file, or ``module:attribute`` where the
    attribute is a torch.nn.Module or a callable that returns one. ``seed`` makes random weights;
    ``weights`` is a file that brings them (``network.weights``). Inputs that have ``pixels`` are
    uint8, which the network normalises.
    Raises InputError, also for weights of another architecture, or UnsupportedError for what the
    importer does not know, with the name of the node.
    """
    return _load_named(ref, input_shape, seed, weights).of_pixels(*pixels)


def _load_named(ref: str, input_shape: InputShape, seed: int, weights: Path | None) -> LoadedModel:
    _check_shapes(input_shape)
    if ref.startswith(GIVEN):
        raise InputError(
            f"model {ref.removeprefix(GIVEN)!r} was given as an object: only Python can load it; "
            "pass the same module to nptp_opt.load_model"
        )
    if ref.endswith(".onnx"):
        if weights is not None:
            raise InputError(f"{ref}: brings its own weights: leave `weights` out")
        return _from_file(ref, input_shape, seed)
    _check_named_as_model(ref)
    if ":" in ref:
        return _from_factory(ref, input_shape, seed, weights)
    return _from_zoo(ref, input_shape, seed, weights)


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
            "is or makes the torch.nn.Module, or a torchvision name (and the file as `weights`)"
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
    model: torch.nn.Module,
    name: str,
    input_shape: InputShape,
    seed: int = 0,
    weights: str | None = None,
) -> LoadedModel:
    """A torch module at the shape of its input, or inputs.

    ``name``, ``seed`` and the hash of its ``weights`` are what it is loaded by again.
    Weights and witness are those of a copy, made before the export touches the module: what its
    owner does with it afterwards changes nothing here.
    """
    from nptp_opt.network.witness import ModuleWitness

    _check_shapes(input_shape)
    try:
        own = copy.deepcopy(model)
    except Exception as error:  # noqa: BLE001 - a user's module may raise anything
        raise InputError(f"{name}: the module cannot be copied: {error}") from None
    ref = ModelRef(name, shapes_of(input_shape), seed, weights)
    return _load_imported(model, ref, "cpu", lambda: _state_of(own), ModuleWitness(lambda: own))


def _from_factory(ref: str, shape: InputShape, seed: int, weights: Path | None) -> LoadedModel:
    model = _call_factory(ref, seed)
    if weights is None:
        return load_module(model, ref, shape, seed)
    from nptp_opt.network.weights import check_fits, fill, read_weights, weights_hash

    state = read_weights(weights)
    check_fits(model, state, str(weights))
    filled = fill(copy.deepcopy(model), state)  # an attribute is its owner's
    return load_module(filled, ref, shape, seed, weights_hash(state))


def _load_imported(
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

    def sized(shape: InputShape) -> LoadedModel:
        return _load_imported(model, replace(ref, input=shapes_of(shape)), device, build, witness)

    return LoadedModel(imported, lambda: {**constants, **build()}, ref, witness, sized)


def _from_file(ref: str, shape: InputShape, seed: int) -> LoadedModel:
    from nptp_opt.network.from_onnx import read_onnx
    from nptp_opt.network.weights import weights_hash

    model = read_onnx(Path(ref), shape, seed)
    made = ModelRef(ref, shapes_of(shape), seed, weights_hash(_state_of(model)))
    loaded = _load_imported(model, made, "cpu", lambda: _state_of(model), model.witness())
    names = [each.name for each in model.data], model.outputs
    loaded = replace(loaded, names=names, sized=lambda other: _from_file(ref, other, seed))
    floats = (each.dtype.is_floating_point for each in model.data)
    return loaded.of_pixels(*(None if each else Pixels() for each in floats))


def _from_zoo(ref: str, shape: InputShape, seed: int, weights: Path | None) -> LoadedModel:
    """Imported on the meta device: weights are made only when they are asked for."""
    import torch

    from nptp_opt.network import zoo
    from nptp_opt.network.weights import check_fits, fill, read_weights, weights_hash
    from nptp_opt.network.witness import ModuleWitness

    state = None if weights is None else read_weights(weights)

    @cache
    def make() -> torch.nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            made = zoo.build(ref)
        return made if state is None else fill(made, state)

    try:
        with torch.device("meta"):
            model = zoo.build(ref)
        device = "meta"
    except NotImplementedError:  # a constructor that computes with tensors (RegNet)
        model, device = zoo.build(ref), "cpu"
    digest = None
    if state is not None:
        check_fits(model, state, str(weights))
        digest = weights_hash(state)
    made = ModelRef(ref, shapes_of(shape), seed, digest)
    return _load_imported(model, made, device, lambda: _state_of(make()), ModuleWitness(make))


def _call_factory(ref: str, seed: int) -> torch.nn.Module:
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
