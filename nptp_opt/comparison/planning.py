"""How a planner plans in a compared run: the options of ``solve`` that change its plan.

They are kept as a mapping without defaults, so that a run with none of them is the run that it
was before there were any, with the same key.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_args

from nptp_opt.cluster import Cluster, TransferDtype
from nptp_opt.layer.limits import Limits

if TYPE_CHECKING:
    from nptp_opt.planner import PlanOptions
    from nptp_opt.planner.options import Watch

Planning = Mapping[str, Any]
"""Of ``objective``, ``latency_limit_ms``, ``transfer_dtype``: those not by default."""

DTYPES = get_args(TransferDtype)


def aims(planner: str) -> bool:
    """Whether a planner looks for anything but the latency."""
    from nptp_opt.planner import PLANNERS

    return PLANNERS.find(planner).aims


def plannings(
    planner: str,
    cluster: Cluster,
    *,
    objectives: Sequence[str],
    transfer_dtypes: Sequence[str],
    latency_limit_ms: float | None,
) -> Iterator[dict[str, Any]]:
    """Every combination, without what is so by default; baselines plan once for all objectives."""
    wanted = objectives if aims(planner) else ["latency"]
    crossed = itertools.product(wanted, transfer_dtypes or [cluster.transfer_dtype])
    for objective, dtype in crossed:
        found: dict[str, Any] = {} if objective == "latency" else {"objective": objective}
        if dtype != cluster.transfer_dtype:
            found["transfer_dtype"] = dtype
        if latency_limit_ms is not None:
            found["latency_limit_ms"] = latency_limit_ms
        yield found


def words(planning: Planning) -> str:
    """As in a contender's name, each behind a space: `` bytes int8 <=900ms``."""
    found = [planning[name] for name in ("objective", "transfer_dtype") if name in planning]
    if "latency_limit_ms" in planning:
        found.append(f"<={planning['latency_limit_ms']:g}ms")
    return "".join(f" {word}" for word in found)


def family(named: str) -> str:
    """The plans among which a planner of that name (``words`` behind it) proves its bound."""
    kept = [word for word in named.split(" ")[1:] if word in DTYPES]
    return " ".join(["plan", *kept])


WITHIN = {name: frozenset({name}) for name in ("plan", *(f"plan {dtype}" for dtype in DTYPES))}
"""Families of plans that belong to a family of plans: itself, as a bound for one transfer type is
one for that type alone."""


def plan_options(planner: str, planning: Planning, limits: Limits, watch: Watch) -> PlanOptions:
    """What the planner is called with; ``cluster_of`` does the rest."""
    from nptp_opt.planner import PlanOptions

    limit_ms = planning.get("latency_limit_ms")
    return PlanOptions(
        planner=planner,
        limits=limits,
        watch=watch,
        objective=planning.get("objective", "latency"),
        bound=aims(planner),
        **({} if limit_ms is None else {"latency_limit_s": limit_ms * 1e-3}),
    )


def cluster_of(cluster: Cluster, planning: Planning) -> Cluster:
    """The cluster with the run's transfer type."""
    return cluster.sending_as(planning.get("transfer_dtype"))
