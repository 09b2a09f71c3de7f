"""The exported program, run by torch alone: what every layer of a plan is compared with.

In float32 it does what the model recorded, its own casts included; in float64 every
floating-point type becomes float64, so that the same program shows how much float32 rounds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import fx

from nptp_opt.network.from_export import Imported, Origin
from nptp_opt.network.given import Given, by_input, tensors_of

State = Mapping[str, torch.Tensor]


def run_program(
    imported: Imported, state: State, x: Given, keep: Collection[str]
) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor of ``keep`` as the network shapes it, in the order in which they are made.

    ``x`` decides the floating-point type, float32 or float64. Only live tensors are held.
    """
    dtype = tensors_of(x)[0].dtype
    wanted: dict[str, list[tuple[str, Origin]]] = {}
    for name in keep:
        origin = imported.origins[name]
        wanted.setdefault(origin.node, []).append((name, origin))
    runner = _Runner(imported, dtype)
    runner.given = _arguments(imported, state, x)
    with torch.no_grad():
        for node in imported.program.graph.nodes:
            value = runner.step(node)
            for name, origin in wanted.get(node.name, ()):
                yield name, canonical(value, origin).to(dtype)


def module_outputs(
    imported: Imported, state: State, x: Given
) -> Iterator[tuple[str, torch.Tensor]]:
    """What the program computes for each module of the model, by path, in order."""
    paths = {node: path for path, node in imported.modules.items()}
    runner = _Runner(imported, tensors_of(x)[0].dtype)
    runner.given = _arguments(imported, state, x)
    with torch.no_grad():
        for node in imported.program.graph.nodes:
            value = runner.step(node)
            if node.name in paths and isinstance(value, torch.Tensor):
                yield paths[node.name], value


def derived_weights(
    imported: Imported, state: State, dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    """Weights that the graph computes from other weights, by state key."""
    names, targets = set(imported.derived), _targets(imported)
    runner, found = _Runner(imported, dtype), dict[str, torch.Tensor]()
    with torch.no_grad():
        for node in imported.program.graph.nodes:
            if node.op == "placeholder" and targets[node.name] in state:
                runner.env[node] = runner.cast(state[targets[node.name]])
            if node.name in names:
                value = runner.env[node] = runner.run_node(node)
                number = isinstance(value, (bool, int, float))
                found[f"derived:{node.name}"] = torch.tensor(value) if number else value
    return found


def _targets(imported: Imported) -> dict[str, str]:
    signature = imported.program.graph_signature
    return {spec.arg.name: str(spec.target) for spec in signature.input_specs}


def _arguments(imported: Imported, state: State, x: Given) -> dict[str, Any]:
    """Values of the graph's placeholders; None for weights that no node reads."""
    targets, found = _targets(imported), dict[str, Any](own_inputs(imported, x))
    for node in imported.program.graph.nodes:
        if node.op == "placeholder" and node.name not in found:
            found[node.name] = state[targets[node.name]] if node.users else None
    return found


def own_inputs(imported: Imported, x: Given) -> dict[str, torch.Tensor]:
    """What the model takes, by name in its own order, for inputs of the network's shapes or its.

    Those that the network does not read are zeros.
    """
    given = by_input(imported.network, x)
    like = next(iter(given.values()))
    shapes = {node.name: node.meta["val"].shape for node in imported.placeholders}
    return {
        name: own(given[name], imported.origins[name], shape)
        if name in given
        else like.new_zeros(shape)
        for name, shape in shapes.items()
    }


class _Runner(fx.Interpreter):
    """Runs the graph node by node, forgetting what no later node reads."""

    def __init__(self, imported: Imported, dtype: torch.dtype) -> None:
        super().__init__(imported.program.graph_module)
        self.dtype, self.given = dtype, dict[str, Any]()

    def cast(self, value: Any) -> Any:
        """Floating-point tensors in float64 where that is the type; else as they are."""
        double = self.dtype == torch.float64
        if double and isinstance(value, torch.Tensor) and value.is_floating_point():
            return value.to(torch.float64)
        return value

    def step(self, node: fx.Node) -> Any:
        """The node's value, which its readers will find."""
        if node.op == "placeholder":
            self.env[node] = self.cast(self.given.pop(node.name))
        elif node.op != "output":
            self.env[node] = self.run_node(node)
        value = self.env.get(node)
        for done in self.user_to_last_uses.get(node, ()):
            self.env.pop(done, None)
        return value

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        if "_assert" in str(target):
            return None
        if kwargs.get("device") is not None:
            kwargs = {**kwargs, "device": torch.device("cpu")}
        if self.dtype == torch.float64:
            args, kwargs = fx.node.map_aggregate((args, kwargs), _double)
        return self.cast(super().call_function(target, args, kwargs))


def _double(value: Any) -> Any:
    short = isinstance(value, torch.dtype) and value.is_floating_point
    return torch.float64 if short else value


def own(x: torch.Tensor, origin: Origin, shape: torch.Size) -> torch.Tensor:
    """The model's own tensor of an input that has the network's shape, or the model's already."""
    layout = origin.layout
    if layout is None or x.shape != layout.canonical(shape):
        return x.reshape(shape)
    order = layout.order()
    ordered = x.reshape([shape[d] for d in order])
    return ordered.permute([order.index(d) for d in range(len(order))])


def canonical(value: torch.Tensor, origin: Origin) -> torch.Tensor:
    """A model's tensor as the network shapes it."""
    layout = origin.layout
    if layout is None:
        return value
    return value.permute(layout.order()).reshape(layout.canonical(value.shape))
