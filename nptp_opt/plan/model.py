"""What a plan consists of, in device numbers: steps that run in order.

A *spatial* step computes one tile per device of its last layer. A *global* step reduces a map: the
owners of its tiles send partials to the devices that use the result. A *gather* step brings whole
tensors to one device, which runs the layers that need them whole (no layers: it only collects).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from nptp_opt.cluster import Cluster
from nptp_opt.cost import Ownership, Split, Transfer, input_ownership, split
from nptp_opt.geometry import Tile
from nptp_opt.layer.result import relative_gap
from nptp_opt.network.ir import Layer, Network
from nptp_opt.network.ref import ModelRef
from nptp_opt.notebook import html_table, short
from nptp_opt.plan.provenance import Provenance


@dataclass(frozen=True)
class Step:
    """One segment with its partition, one reduction, or one gather.

    ``tiles`` are on output indices of the last layer; in a global step they name the devices that
    hold the result. ``device`` is set for a gather only. Transfers of a global step carry partials,
    under the layer's name.
    ``makespan_s`` is the price of the step with given ownership (docs/cost.md).
    """

    kind: Literal["spatial", "global", "gather"]
    layers: tuple[str, ...]
    tiles: Mapping[int, Tile]
    device: int | None
    transfers: tuple[Transfer, ...]
    makespan_s: float
    overlap: bool = False
    """Devices compute what needs no halo while the halo is on its way (spatial steps only)."""


@dataclass(frozen=True, repr=False)
class Plan:
    """Everything an executor needs. ``latency_s`` is the sum of the steps' makespans."""

    model: ModelRef
    network: Network
    cluster: Cluster
    steps: tuple[Step, ...]
    predicted_s: float
    bound_s: float | None = None
    energy_j: float | None = None
    """Joules of one inference; None where a device has no ``watts``."""
    period_s: float | None = None
    """Seconds between results of a full pipeline; None in plans of before it was priced."""
    provenance: Provenance = field(default_factory=Provenance)

    def __repr__(self) -> str:
        return (
            f"<Plan {self.model} on {len(self.cluster.devices)} devices: {len(self.steps)} "
            f"segments, latency {short(self.latency_s)} s, bound {short(self.bound_s)} s>"
        )

    def _repr_html_(self) -> str:
        rows = {
            "planner": self.provenance.planner,
            "segments": len(self.steps),
            "latency_s": self.latency_s,
            "predicted_s": self.predicted_s,
            "bound_s": self.bound_s,
            "gap": self.gap,
            "transfer_bytes": self.transfer_bytes,
            "energy_j": self.energy_j,
        }
        title = f"Plan of {self.model} on {', '.join(each.name for each in self.cluster.devices)}"
        return html_table(title, rows)

    @property
    def latency_s(self) -> float:
        return sum(step.makespan_s for step in self.steps)

    @property
    def gap(self) -> float | None:
        """(latency_s - bound_s) / latency_s, None without a bound."""
        return relative_gap(self.latency_s, self.bound_s)

    @property
    def transfer_bytes(self) -> int:
        """Bytes moved between devices for one input."""
        return sum(move.bytes for step in self.steps for move in step.transfers)

    def layers_of(self, step: Step) -> tuple[Layer, ...]:
        """The layer objects of a step, in topological order."""
        return tuple(self.network.by_name[name] for name in step.layers)


def owned_maps(network: Network, cluster: Cluster, steps: Sequence[Step]) -> dict[str, Ownership]:
    """Who holds which part of every feature map that ``steps`` read: each is made only once."""
    made = {step.layers[-1]: step.tiles for step in steps if step.kind == "spatial"}
    return {**input_ownership(network, cluster), **made}


def split_of(
    network: Network, step: Step, device: int, owned: Mapping[str, Ownership]
) -> Split | None:
    """Interior and rim of a device's tile in a step that overlaps; None in any other."""
    if not step.overlap:
        return None
    layers = tuple(network.by_name[name] for name in step.layers)
    return split(network, layers, device, step.tiles[device], owned)
