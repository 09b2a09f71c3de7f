"""A plan checked on paper, without executing it.

The tiles cover every map exactly once, every layer is computed once and after what it reads, the
transfers are exactly the halos, and the prices are those of the listed transfers.
"""

from __future__ import annotations

from collections.abc import Mapping

from nptp_opt.bound import latency_bound
from nptp_opt.cost import (
    RESULT,
    Load,
    Ownership,
    Transfer,
    gather_loads,
    gather_needs,
    halo_transfers,
    input_ownership,
    makespan_s,
    overlapped_s,
    reduction_loads,
    reduction_transfers,
    result_users,
    segment_loads,
    segment_needs,
)
from nptp_opt.errors import VerificationError
from nptp_opt.evaluate.simulate import simulate
from nptp_opt.evaluate.usage import values_of
from nptp_opt.geometry import cover_fault
from nptp_opt.network.ir import Layer, Network, external_inputs
from nptp_opt.plan.model import Plan, Step
from nptp_opt.plan.network_json import network_hash

PRICE_TOLERANCE = 1e-9
"""Relative difference up to which a stated makespan counts as the priced one."""


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


def paper_faults(plan: Plan) -> list[str]:
    """What is wrong with a plan that can be seen without executing it."""
    faults = _order_faults(plan)
    if faults:
        return faults
    owned: dict[str, Ownership] = dict(input_ownership(plan.network, plan.cluster))
    parts = [(s.layers[-1], external_inputs(plan.layers_of(s)), s.tiles) for s in plan.steps[:-1]]
    users = result_users(plan.network, plan.cluster.sink, parts)
    for number, step in enumerate(plan.steps):
        at = f"segment {number} ({', '.join(step.layers) or 'collect'})"
        found = _cover_faults(plan, step, users)
        if not found:
            found = [*_transfer_faults(plan, step, owned), *_price_faults(plan, step, owned)]
        faults += [f"{at}: {fault}" for fault in found]
        if step.kind == "spatial":
            owned[step.layers[-1]] = step.tiles
    return faults or _total_faults(plan)


def _total_faults(plan: Plan) -> list[str]:
    """Is the prediction that of the steps, and the bound one that can be proven?"""
    faults = []
    predicted_s = simulate(plan.network, plan.cluster, plan.steps)
    if abs(plan.predicted_s - predicted_s) > PRICE_TOLERANCE * predicted_s:
        faults.append(f"predicted_s is {plan.predicted_s}, the simulation gives {predicted_s}")
    faults += _objective_faults(plan)
    return faults if plan.bound_s is None else [*faults, *_bound_faults(plan, plan.bound_s)]


def _bound_faults(plan: Plan, stated_s: float) -> list[str]:
    """A bound for plans that may overlap is one for plans that do not, too."""
    proven_s = 0.0
    for overlap in (False, True):
        if overlap or not any(step.overlap for step in plan.steps):
            proven_s = max(proven_s, latency_bound(plan.network, plan.cluster, overlap=overlap))
        if stated_s <= proven_s * (1 + PRICE_TOLERANCE):
            return []
    return [f"bound_s is {stated_s}, what is proven is {proven_s}"]


def _objective_faults(plan: Plan) -> list[str]:
    """Stated values of other objectives must be those of the steps; old plans state none."""
    values = values_of(plan.network, plan.cluster, plan.steps)
    pairs = {
        "energy_j": (plan.energy_j, values.energy_j),
        "period_s": (plan.period_s, values.period_s),
    }
    return [
        f"{name} is {stated}, the steps give {price}"
        for name, (stated, price) in pairs.items()
        if stated is not None
        and (price is None or abs(stated - price) > PRICE_TOLERANCE * max(price, stated))
    ]


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
    if plan.steps[-1].kind != "gather" or plan.steps[-1].device != plan.cluster.sink:
        return ["the last segment must gather the results on the sink"]
    for number, step in enumerate(plan.steps):
        inside = set(step.layers)
        hidden = inside - set(step.layers[-1:]) if step.kind == "spatial" else set()
        for name in sorted(hidden):
            if name in plan.network.outputs or set(plan.network.consumers[name]) - inside:
                return [f"segment {number}: {name} is read outside its segment but not kept"]
            if plan.network.by_name[name].is_whole:
                return [f"segment {number}: {name} runs whole and must end its segment"]
    return []


def _cover_faults(plan: Plan, step: Step, users: Mapping[str, frozenset[int]]) -> list[str]:
    if step.kind == "gather":
        return []
    if step.kind == "global":
        wanted = dict.fromkeys(users[step.layers[-1]], RESULT)
        return [] if step.tiles == wanted else ["the result is not on the devices that use it"]
    last = plan.layers_of(step)[-1]
    full = last.full
    if last.is_whole and list(step.tiles.values()) != [full]:
        return [f"{last.name} runs whole: one device has it, not {len(step.tiles)} tiles"]
    fault = cover_fault(step.tiles.values(), full.y1, full.x1)
    return [] if fault is None else [f"the tiles do not cover the map exactly once: {fault}"]


def _halos(plan: Plan, step: Step, owned: Mapping[str, Ownership]) -> list[Transfer]:
    """The transfers that the step must have."""
    layers = plan.layers_of(step)
    if step.kind == "global":
        owners = _reduced(layers[-1], owned)
        return reduction_transfers(plan.network, layers[-1], owners, step.tiles)
    if step.device is None:
        needs = segment_needs(layers, step.tiles)
    else:
        last = step is plan.steps[-1]
        collect = plan.network.spatial_outputs if last else ()
        needs = gather_needs(plan.network, layers, step.device, collect)
    return halo_transfers(plan.cluster, plan.network, needs, owned)


def _reduced(layer: Layer, owned: Mapping[str, Ownership]) -> Ownership:
    """Owners of the map that a global layer reduces; nobody's where it reduces none."""
    return owned[layer.nodes[0].inputs[0]] if layer.reduces else {}


def _transfer_faults(plan: Plan, step: Step, owned: Mapping[str, Ownership]) -> list[str]:
    wanted, listed = _halos(plan, step, owned), list(step.transfers)
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


def _price_faults(plan: Plan, step: Step, owned: Mapping[str, Ownership]) -> list[str]:
    price = _price_s(plan, step, owned)
    if abs(price - step.makespan_s) <= PRICE_TOLERANCE * price:
        return []
    return [f"makespan_s is {step.makespan_s}, the step costs {price}"]


def _price_s(plan: Plan, step: Step, owned: Mapping[str, Ownership]) -> float:
    if not step.overlap:
        return makespan_s(plan.cluster, _loads(plan, step, owned))
    layers = plan.layers_of(step)
    return overlapped_s(plan.network, plan.cluster, layers, step.tiles, step.transfers, owned)


def _loads(plan: Plan, step: Step, owned: Mapping[str, Ownership]) -> list[Load]:
    cluster, layers = plan.cluster, plan.layers_of(step)
    if step.device is not None:
        return gather_loads(cluster, layers, step.device, step.transfers)
    if step.kind == "global":
        owners = _reduced(layers[-1], owned)
        return reduction_loads(
            cluster, plan.network, layers[-1], owners, step.tiles.keys(), step.transfers
        )
    return segment_loads(cluster, layers, step.tiles, step.transfers)
