"""What a plan consists of, in device numbers: steps that run in order (``plan.steps``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from nptp_opt.cluster import Cluster
from nptp_opt.cost import Ownership, dense_bytes, input_ownership
from nptp_opt.layer.result import relative_gap
from nptp_opt.network.ir import Layer, Network
from nptp_opt.network.ref import ModelRef
from nptp_opt.notebook import html_table, short
from nptp_opt.plan.provenance import Provenance
from nptp_opt.plan.steps import Step


@dataclass(frozen=True, repr=False)
class Plan:
    """Everything an executor needs.

    ``latency_s`` is what the discrete-event simulation gives (``evaluate.simulate``): seconds for
    one input as executed, without barriers.
    """

    model: ModelRef
    network: Network
    cluster: Cluster
    steps: tuple[Step, ...]
    latency_s: float
    bound_s: float | None = None
    energy_j: float | None = None
    """Joules of one inference; None where a device has no ``watts``."""
    period_s: float | None = None
    """Seconds between results of a full pipeline."""
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
            "synchronous_s": self.synchronous_s,
            "bound_s": self.bound_s,
            "gap": self.gap,
            "transfer_bytes": self.transfer_bytes,
            "energy_j": self.energy_j,
        }
        title = f"Plan of {self.model} on {', '.join(each.name for each in self.cluster.devices)}"
        return html_table(title, rows)

    @property
    def synchronous_s(self) -> float:
        """The sum of the steps' makespans, as if all devices waited for all after each step."""
        return sum(step.makespan_s for step in self.steps)

    @property
    def gap(self) -> float | None:
        """(latency_s - bound_s) / latency_s, None without a bound."""
        return relative_gap(self.latency_s, self.bound_s)

    @property
    def objective_value(self) -> float | None:
        """What the plan's own objective gives, in its unit; None where that is not one alone."""
        values = {
            "latency": self.latency_s,
            "bytes": float(self.transfer_bytes),
            "energy": self.energy_j,
            "throughput": self.period_s,
        }
        return values.get(self.provenance.objective)

    @property
    def transfer_bytes(self) -> int:
        """Bytes moved between devices for one input."""
        return sum(move.bytes for step in self.steps for move in step.transfers)

    @property
    def computing(self) -> tuple[int, ...]:
        """Numbers of the devices that compute any layer."""
        return tuple(sorted({i for step in self.steps if step.layers for i in step.devices}))

    @property
    def idle(self) -> tuple[int, ...]:
        """Numbers of the devices that compute none."""
        return tuple(sorted(set(range(len(self.cluster.devices))) - set(self.computing)))

    @property
    def dense_bytes(self) -> int:
        """Bytes that would be moved if nothing were encoded: what is sent at most."""
        moves = (move for step in self.steps for move in step.transfers)
        return sum(dense_bytes(self.cluster, self.network, move) for move in moves)

    def layers_of(self, step: Step) -> tuple[Layer, ...]:
        """The layer objects of a step, in topological order."""
        return step.layers_of(self.network)


def owned_maps(network: Network, cluster: Cluster, steps: Sequence[Step]) -> dict[str, Ownership]:
    """Who holds which part of every tensor that ``steps`` read: each is made only once."""
    owned: dict[str, Ownership] = dict(input_ownership(network, cluster))
    for step in steps:
        owned |= step.makes
    return owned
