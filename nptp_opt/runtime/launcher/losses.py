"""Life after the loss of a device: the others are got ready, and planned for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from nptp_opt.cluster import Cluster, cluster_from_json
from nptp_opt.errors import ExecutionError
from nptp_opt.plan.model import Plan
from nptp_opt.runtime.device_program import check_executable
from nptp_opt.runtime.launcher.pool import DeviceLostError, WorkerPool

Replan = Callable[[Cluster], Plan]
"""Plans the same model for the devices that are left."""


def survive(
    pool: WorkerPool,
    plan: Plan,
    error: DeviceLostError,
    replan: Replan,
    progress: Callable[[str], None],
) -> tuple[Plan, list[str]]:
    """Give up who is lost, and who turns out to be lost meanwhile; a plan for those left.

    Returns it with the names of the lost. Raises ExecutionError where the source or the sink is
    among them, and nobody may stand in for it.
    """
    cluster, lost = plan.cluster, list[str]()
    another: DeviceLostError | None = error
    while another is not None:
        progress(f"{another}; planning again without it")
        cluster = without(cluster, another.device)
        lost.append(another.device)
        another = _drop(pool, another.device)
    made = replan(cluster)
    check_executable(made)
    return made, lost


def _drop(pool: WorkerPool, device: str) -> DeviceLostError | None:
    try:
        pool.drop(device)
    except DeviceLostError as another:
        return another
    return None


def without(cluster: Cluster, device: str) -> Cluster:
    """The cluster after the loss of a device; raises ExecutionError when it cannot do without."""
    return only(cluster, [each.name for each in cluster.devices if each.name != device])


def only(cluster: Cluster, names: Collection[str]) -> Cluster:
    """The cluster of the devices that are named; the same object where that is all of them.

    A stand-in is the source or the sink where that is not among them. Raises ExecutionError where
    none is, either.
    """
    if all(device.name in names for device in cluster.devices):
        return cluster
    content = cluster.to_json()
    standing_in = [name for name in cluster.network.stand_ins or () if name in names]
    roles = {"source": cluster.source, "sink": cluster.sink}
    for role, number in roles.items():
        device = cluster.devices[number].name
        if device not in names:
            content["network"][role] = _stand_in(role, device, standing_in)
    if standing_in:
        content["network"]["stand_ins"] = standing_in
    else:
        content["network"].pop("stand_ins", None)
    return cluster_from_json(
        content | {"device": [entry for entry in content["device"] if entry["name"] in names]}
    )


def _stand_in(role: str, lost: str, standing_in: Sequence[str]) -> str:
    if not standing_in:
        raise ExecutionError(
            f"device {lost!r} is lost, and it is the {role}: no device that may stand in for it is "
            "left (network.stand_ins in the cluster file)"
        )
    return standing_in[0]
