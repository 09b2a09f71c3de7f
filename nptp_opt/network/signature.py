"""What a model takes and gives, as its owner sees it: names, shapes and types of its own.

The network between them has maps of shape (N, C, H, W) in float32 (``network.ir``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx
from torch.export.graph_signature import OutputKind
from torch.utils import _pytree as pytree

from nptp_opt.errors import InputError
from nptp_opt.network.from_export import Imported
from nptp_opt.network.ref import InputPixels, spelled
from nptp_opt.network.reference import canonical, own_tensor

Names = tuple[Sequence[str], Sequence[str]]
"""Of inputs and outputs, where the exported graph does not have the owner's."""


@dataclass(frozen=True)
class TensorSpec:
    """One input or output."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    def __str__(self) -> str:
        kind = str(self.dtype).removeprefix("torch.")
        return f"{self.name} {kind} {spelled(self.shape) or 'scalar'}"

    @property
    def elements(self) -> int:
        return torch.Size(self.shape).numel()

    @property
    def takes_bytes(self) -> bool:
        """Is it pixels as they are?"""
        return self.dtype == torch.uint8

    def check(self, value: torch.Tensor) -> None:
        """Raise InputError unless a value has this shape and type."""
        if tuple(value.shape) != self.shape:
            raise InputError(
                f"input {self.name!r} has shape {spelled(tuple(value.shape)) or 'scalar'}, "
                f"the model takes {spelled(self.shape)}"
            )
        if value.dtype != self.dtype:
            raise InputError(
                f"input {self.name!r} is {type_name(value.dtype)}, the model takes "
                f"{type_name(self.dtype)}: convert it"
            )


def type_name(dtype: torch.dtype) -> str:
    """A type without torch's prefix, as numpy calls it, too."""
    return str(dtype).removeprefix("torch.")


class Signature:
    """A model's inputs and outputs in its own order, and the way to and from the network's.

    An input that has ``pixels`` is uint8, whatever the model behind the network takes.
    """

    def __init__(
        self, imported: Imported, names: Names | None, *, pixels: InputPixels = ()
    ) -> None:
        self._imported = imported
        nodes, results = imported.placeholders, _output_nodes(imported)
        given = names or ([node.name for node in nodes], _output_names(imported))
        self.inputs = _specs(given[0], nodes)
        if pixels:
            self.inputs = tuple(
                spec if each is None else replace(spec, dtype=torch.uint8)
                for spec, each in zip(self.inputs, pixels, strict=True)
            )
        self.outputs = _specs(given[1], results)
        network = imported.network
        self._read = {
            spec.name: node.name
            for spec, node in zip(self.inputs, nodes, strict=True)
            if node.name in network.inputs
        }
        """The network's name of every input that it reads."""

    def reads(self, name: str) -> bool:
        """Does the network read the model's input ``name``?"""
        return name in self._read

    def network_inputs(self, given: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """Tensors for the network's inputs, in its order, from the model's by name.

        What the network does not read may be missing. Raises InputError for a name that is not
        known or missing, a wrong shape or a wrong type.
        """
        specs = {spec.name: spec for spec in self.inputs}
        for name, value in given.items():
            if name not in specs:
                known = ", ".join(specs)
                raise InputError(f"the model has no input {name!r}; it takes {known}")
            specs[name].check(value)
        found = {}
        for name, tensor in self._read.items():
            if name not in given:
                raise InputError(f"input {name!r} is missing; the model takes {', '.join(specs)}")
            shaped = canonical(given[name], self._imported.origins[tensor])
            found[tensor] = shaped.to(torch.float32).contiguous()
        return tuple(found[tensor] for tensor in self._imported.network.inputs)

    def own_outputs(self, outputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The model's outputs by its own names, shapes and types, from the network's."""
        return {
            spec.name: own_tensor(
                outputs[tensor], self._imported.origins[tensor], torch.Size(spec.shape)
            ).to(spec.dtype)
            for spec, tensor in zip(self.outputs, self._imported.results, strict=True)
        }


def _specs(names: Sequence[str], nodes: Sequence[fx.Node]) -> tuple[TensorSpec, ...]:
    values = [node.meta["val"] for node in nodes]
    return tuple(
        TensorSpec(name, tuple(value.shape), value.dtype)
        for name, value in zip(names, values, strict=True)
    )


def _output_nodes(imported: Imported) -> list[fx.Node]:
    nodes = {node.name: node for node in imported.program.graph.nodes}
    specs: list[Any] = imported.program.graph_signature.output_specs
    return [nodes[spec.arg.name] for spec in specs if spec.kind is OutputKind.USER_OUTPUT]


def _output_names(imported: Imported) -> list[str]:
    """Where each output lies in what the module returns: ``output``, ``out``, ``boxes.0``."""
    spec = imported.program.call_spec.out_spec
    assert spec is not None
    whole = pytree.tree_unflatten(list(range(spec.num_leaves)), spec)
    leaves, _ = pytree.tree_flatten_with_path(whole)
    return [_spelled_path(path) for path, _ in leaves]


def _spelled_path(path: Sequence[Any]) -> str:
    parts = [str(getattr(key, "key", getattr(key, "idx", getattr(key, "name", key))))
             for key in path]  # fmt: skip
    text = ".".join(parts)
    return f"output_{text}" if text[:1].isdigit() else text or "output"
