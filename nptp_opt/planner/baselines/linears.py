"""Linear layers kept on the sink, as the baselines have them: they partition feature maps alone.

A baseline plans the network without its linear layers, which are costed as layers that the sink
gathers their input for; its plan then runs them there, as few segments as possible.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from nptp_opt.cluster import Cluster
from nptp_opt.evaluate.assemble import Choice
from nptp_opt.network.ir import Network
from nptp_opt.planner.path.units import is_segment

Plain = Callable[[Network, Cluster], list[Choice]]


def in_head(network: Network) -> Network:
    """The network with its linear layers, and what follows on them, in the head."""
    behind = {layer.name for layer in network.vectors}
    layers = tuple(
        replace(layer, kind="gather") if layer.name in behind else layer for layer in network.layers
    )
    return replace(network, layers=layers) if behind else network


def on_sink(network: Network, cluster: Cluster) -> list[Choice]:
    """The linear layers, and what follows on them, as the longest segments on the sink alone."""
    layers, choices = network.vectors, list[Choice]()
    while layers:
        ends = range(len(layers), 0, -1)
        end = next((end for end in ends if is_segment(network, layers[:end])), 1)
        part, layers = layers[:end], layers[end:]
        last = part[-1]
        choices.append(Choice(part, {} if last.kind == "global" else {cluster.sink: last.full}))
    return choices


def linears_on_sink(plan: Plain) -> Plain:
    """A planner that plans the rest by ``plan``, and keeps the linear layers on the sink."""

    def whole(network: Network, cluster: Cluster) -> list[Choice]:
        return [*plan(in_head(network), cluster), *on_sink(network, cluster)]

    return whole
