"""A plan checked on paper, without executing it.

The tiles cover every map exactly once, every layer is computed once and after what it reads, the
transfers are exactly the halos, the costs are those of the listed transfers, every device has the
memory that its part takes, and no bound or limit that the plan states is broken by the plan itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from nptp_opt.bound import clock_bound
from nptp_opt.cost import Ownership, Transfer, input_ownership, result_users
from nptp_opt.errors import InputError, VerificationError
from nptp_opt.evaluate.memory import overfull
from nptp_opt.evaluate.simulate import simulate
from nptp_opt.evaluate.usage import values_of
from nptp_opt.network.ir import Network, external_inputs
from nptp_opt.plan.model import Plan
from nptp_opt.plan.network_json import network_hash
from nptp_opt.plan.steps import Step

if TYPE_CHECKING:
    from nptp_opt.network.load import LoadedModel

COST_TOLERANCE = 1e-9
"""Relative difference up to which a stated makespan counts as the evaluated one."""


def require_right(plan: Plan, network: Network, where: str) -> None:
    """Raise VerificationError for a plan that is wrong on paper, or not for ``network``."""
    faults = [*network_faults(plan, network), *paper_faults(plan)]
    if faults:
        raise VerificationError(f"{where}: {faults[0]}")


def network_faults(plan: Plan, network: Network) -> list[str]:
    """Is ``network``, the model as it is now, the one that was planned?"""
    if network_hash(network) == network_hash(plan.network):
        return []
    return [f"the plan is for another network than {plan.model.ref!r} is now: plan again"]


def require_weights(plan: Plan, model: LoadedModel, where: str) -> None:
    """Raise InputError where the plan was made with other weights than the model's.

    What is another network altogether is left to ``network_faults``.
    """
    planned, loaded = plan.model.weights, model.ref.weights
    if planned in (None, loaded) or network_faults(plan, model.network):
        return
    given = "others are given" if loaded is None else f"{loaded[:12]} are given"
    raise InputError(
        f"{where}: the plan was made with weights {planned[:12]}, {given}: give the same "
        "file as `weights`, or `allow_other_weights`"
    )


def paper_faults(plan: Plan) -> list[str]:
    """What is wrong with a plan that can be seen without executing it; its bound is left out."""
    faults = _order_faults(plan)
    if faults:
        return faults
    owned: dict[str, Ownership] = dict(input_ownership(plan.network, plan.cluster))
    parts = [(s.layers[-1], external_inputs(plan.layers_of(s)), s.tiles) for s in plan.steps[:-1]]
    users = result_users(plan.network, plan.cluster.sink, parts)
    for number, step in enumerate(plan.steps):
        at = f"segment {number} ({', '.join(step.layers) or 'collect'})"
        wrong = step.tiles_fault(plan.network, users)
        step_faults = (
            [*_transfer_faults(plan, step, owned), *_cost_faults(plan, step, owned)]
            if wrong is None
            else [wrong]
        )
        faults += [f"{at}: {fault}" for fault in step_faults]
        owned |= step.makes
    return faults or _total_faults(plan)


def _total_faults(plan: Plan) -> list[str]:
    """Are prediction and other objectives those of the steps, and within what the plan states?"""
    faults = []
    latency_s = simulate(plan.network, plan.cluster, plan.steps)
    if abs(plan.latency_s - latency_s) > COST_TOLERANCE * latency_s:
        faults.append(f"latency_s is {plan.latency_s}, the simulation gives {latency_s}")
    return [*faults, *_objective_faults(plan), *_memory_faults(plan), *_limit_faults(plan)]


def _memory_faults(plan: Plan) -> list[str]:
    """Does any device hold more at once than its ``memory_mib``?"""
    devices = plan.cluster.devices
    return [
        f"device {devices[i].name} holds more at once than its memory_mib, {devices[i].memory_mib}"
        for i in overfull(plan.network, plan.cluster, plan.steps)
    ]


def _limit_faults(plan: Plan) -> list[str]:
    """Is the plan itself within the limit and above the bound that its provenance states?"""
    limit_s, least = plan.provenance.latency_limit_s, plan.provenance.objective_bound
    faults = []
    if limit_s is not None and _exceeds(plan.latency_s, limit_s):
        faults.append(f"provenance.latency_limit_s is {limit_s}, the latency {plan.latency_s}")
    value = plan.objective_value
    if least is not None and (value is None or _exceeds(least, value)):
        faults.append(f"provenance.objective_bound is {least}, the plan's own value {value}")
    return faults


def _exceeds(value: float, limit: float) -> bool:
    return value > limit * (1 + COST_TOLERANCE)


def bound_faults(plan: Plan) -> list[str]:
    """Is the stated bound one that can be proven? It is computed again, which takes seconds."""
    if plan.bound_s is None:
        return []
    proven_s = clock_bound(plan.network, plan.cluster)
    if plan.bound_s <= proven_s * (1 + COST_TOLERANCE):
        return []
    return [f"bound_s is {plan.bound_s}, what is proven is {proven_s}"]


def _objective_faults(plan: Plan) -> list[str]:
    """Values of other objectives must be those of the steps; energy is unknown without watts."""
    values = values_of(plan.network, plan.cluster, plan.steps)
    pairs = {
        "energy_j": (plan.energy_j, values.energy_j),
        "period_s": (plan.period_s, values.period_s),
    }
    return [
        f"{name} is {stated}, the steps give {cost}"
        for name, (stated, cost) in pairs.items()
        if not _same(stated, cost)
    ]


def _same(stated: float | None, cost: float | None) -> bool:
    if stated is None or cost is None:
        return stated is cost
    return abs(stated - cost) <= COST_TOLERANCE * max(cost, stated)


def _order_faults(plan: Plan) -> list[str]:
    """Every layer in exactly one segment, and after the layers that it reads."""
    made: set[str] = set(plan.network.inputs)
    for number, step in enumerate(plan.steps):
        for layer in plan.layers_of(step):
            missing = [tensor for tensor in layer.inputs if tensor not in made]
            if missing:
                return [f"segment {number}: layer {layer.name} runs before {missing[0]}"]
            if layer.name in made:
                return [f"segment {number}: layer {layer.name} is in two segments"]
            if layer.kind != step.kind:
                return [f"segment {number}: layer {layer.name} is {layer.kind}, not {step.kind}"]
            made.add(layer.name)
    left = [layer.name for layer in plan.network.layers if layer.name not in made]
    return [f"layer {left[0]} is in no segment"] if left else _result_faults(plan)


def _result_faults(plan: Plan) -> list[str]:
    """The last step brings every result to the sink, and no segment hides what others read."""
    if plan.steps[-1].device != plan.cluster.sink:
        return ["the last segment must gather the results on the sink"]
    for number, step in enumerate(plan.steps):
        inside = set(step.layers)
        for name in sorted(step.inner):
            if name in plan.network.outputs or set(plan.network.consumers[name]) - inside:
                return [f"segment {number}: {name} is read outside its segment but not kept"]
            if plan.network.by_name[name].is_whole:
                return [f"segment {number}: {name} runs whole and must end its segment"]
    return []


def _transfer_faults(plan: Plan, step: Step, owned: Mapping[str, Ownership]) -> list[str]:
    wanted = step.halos(plan.network, plan.cluster, owned)
    listed = list(step.transfers)
    faults = [f"transfer missing: {_spell(plan, m)}" for m in wanted if m not in listed]
    faults += [f"transfer that is no halo: {_spell(plan, m)}" for m in listed if m not in wanted]
    doubled = next((m for m in listed if listed.count(m) > 1), None)
    return faults + ([f"transfer listed twice: {_spell(plan, doubled)}"] if doubled else [])


def _spell(plan: Plan, move: Transfer) -> str:
    src, dst = (plan.cluster.devices[i].name for i in (move.src, move.dst))
    tile = move.tile
    return (
        f"{move.tensor} [{tile.y0}, {tile.y1}) x [{tile.x0}, {tile.x1}) "
        f"from {src} to {dst}, {move.bytes} bytes"
    )


def _cost_faults(plan: Plan, step: Step, owned: Mapping[str, Ownership]) -> list[str]:
    cost_s = step.cost_s(plan.network, plan.cluster, owned)
    if abs(cost_s - step.makespan_s) <= COST_TOLERANCE * cost_s:
        return []
    return [f"makespan_s is {step.makespan_s}, the step costs {cost_s}"]
