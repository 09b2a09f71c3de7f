"""The unpartitioned model, run by torch alone: what every plan is compared with."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import fx

from nptp_opt.network.from_export import Imported, Origin

Visit = Callable[[str, torch.Tensor], None]


def visit_tensors(
    imported: Imported,
    state: Mapping[str, torch.Tensor],
    x: torch.Tensor,
    keep: Collection[str],
    visit: Visit,
) -> None:
    """Run the exported graph on ``x`` in its dtype; ``visit`` gets every tensor of ``keep``.

    Tensors come in the order in which they are made, as the network shapes them, once what only
    they read is forgotten. They are the model's own: it may change them afterwards.
    """
    wanted: dict[str, list[tuple[str, Origin]]] = {}
    for name in keep:
        origin = imported.origins[name]
        wanted.setdefault(origin.node, []).append((name, origin))
    derived = derived_weights(imported, state)
    runner = _Runner(imported, x.dtype, wanted, visit, derived)
    with torch.no_grad():
        runner.run(*_arguments(imported, state, x))
        runner.show()


def derived_weights(
    imported: Imported, state: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Weights that the graph computes from other weights, by state key."""
    graph, values = imported.program.graph, dict[fx.Node, Any]()
    names = set(imported.derived)
    targets = _targets(imported)

    def value(node: fx.Node) -> Any:
        return values[node] if node in values else state[targets[node.name]]

    with torch.no_grad():
        for node in graph.nodes:
            if node.name in names:
                args = fx.map_arg(node.args, value)
                kwargs = dict(fx.map_arg(node.kwargs, value))
                if "device" in kwargs:
                    kwargs["device"] = "cpu"
                values[node] = node.target(*args, **kwargs).clone()
    return {f"derived:{node.name}": tensor for node, tensor in values.items()}


def _targets(imported: Imported) -> dict[str, str]:
    signature = imported.program.graph_signature
    return {spec.arg.name: str(spec.target) for spec in signature.input_specs}


def _arguments(
    imported: Imported, state: Mapping[str, torch.Tensor], x: torch.Tensor
) -> list[torch.Tensor | None]:
    """Values of the graph's placeholders in order; weights that no node reads are left out."""
    targets = _targets(imported)
    inputs = set(imported.network.inputs)
    found: list[torch.Tensor | None] = []
    for node in imported.program.graph.nodes:
        if node.op != "placeholder":
            continue
        if node.name in inputs:
            found.append(x.reshape(node.meta["val"].shape))
        else:
            found.append(_cast(state[targets[node.name]], x.dtype) if node.users else None)
    return found


def _cast(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        return value.to(dtype)
    return value


class _Runner(fx.Interpreter):
    """Runs the graph in one floating dtype and shows the wanted values."""

    def __init__(
        self,
        imported: Imported,
        dtype: torch.dtype,
        wanted: Mapping[str, list[tuple[str, Origin]]],
        visit: Visit,
        derived: Mapping[str, torch.Tensor],
    ) -> None:
        super().__init__(imported.program.graph_module)
        self.dtype, self.wanted, self.visit, self.derived = dtype, wanted, visit, derived
        self.unseen: list[tuple[str, torch.Tensor]] = []

    def show(self) -> None:
        """Hand over what the last node made."""
        while self.unseen:
            self.visit(*self.unseen.pop(0))

    def run_node(self, n: fx.Node) -> Any:
        self.show()
        if "_assert" in str(n.target):
            return None
        if f"derived:{n.name}" in self.derived:
            return _cast(self.derived[f"derived:{n.name}"], self.dtype)
        if "device" in n.kwargs:
            n = _on_cpu(n)
        value = _cast(super().run_node(n), self.dtype)
        for name, origin in self.wanted.get(n.name, ()):
            self.unseen.append((name, canonical(value, origin)))
        return value


def _on_cpu(node: fx.Node) -> fx.Node:
    node.kwargs = {**node.kwargs, "device": torch.device("cpu")}
    return node


def canonical(value: torch.Tensor, origin: Origin) -> torch.Tensor:
    """A model's tensor as the network shapes it."""
    layout = origin.layout
    if layout is None:
        return value
    return value.permute(layout.order()).reshape(layout.canonical(value.shape))
