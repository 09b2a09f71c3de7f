"""What an imported network is held against: something that shares no code with the import."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from nptp_opt.errors import InputError
from nptp_opt.network.ref import spelled


class Witness(Protocol):
    """The model, run by something else than the imported network."""

    @property
    def name(self) -> str:
        """Who answers, for messages."""

    def outputs(self, *inputs: torch.Tensor) -> list[torch.Tensor]:
        """The model's outputs in its own order, for float32 inputs of the model's own shapes."""

    def inner(self, *inputs: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
        """Values inside the model, by the name of the module or node that makes them."""


class ModuleWitness:
    """The user's own module, as its callable made it, run eagerly by torch."""

    name = "the torch module"

    def __init__(self, make: Callable[[], nn.Module]) -> None:
        self._make = make

    @cached_property
    def _module(self) -> nn.Module:
        return self._make().eval()

    def outputs(self, *inputs: torch.Tensor) -> list[torch.Tensor]:
        """The module's tensors; raises InputError where it does not run on ``inputs``."""
        try:
            with torch.no_grad():
                found: Any = self._module(*(x.clone() for x in inputs))
        except Exception as error:  # noqa: BLE001 - a user's module may raise anything
            lines = str(error).strip().splitlines() or [""]
            raise InputError(
                f"the model does not run on {spelled([tuple(x.shape) for x in inputs])} where it "
                "is executed: "
                f"{type(error).__name__}: {lines[-1]}"
            ) from None
        return [leaf for leaf in tree_leaves(found) if isinstance(leaf, torch.Tensor)]

    def inner(self, *inputs: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
        """Outputs of the modules that are called once and contain no others."""
        seen: list[tuple[str, torch.Tensor]] = []
        hooks = [
            module.register_forward_hook(_noting(name, seen))
            for name, module in self._module.named_modules()
            if not any(module.children())
        ]
        try:
            self.outputs(*inputs)
        finally:
            for hook in hooks:
                hook.remove()
        calls = Counter(name for name, _ in seen)
        return iter([(name, value) for name, value in seen if calls[name] == 1])


def _noting(name: str, seen: list[tuple[str, torch.Tensor]]) -> Callable[..., None]:
    def note(module: nn.Module, args: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor):
            seen.append((name, output.detach().clone()))

    return note
