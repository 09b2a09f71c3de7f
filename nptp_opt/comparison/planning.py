"""How a planner plans in a compared run: the options of ``solve`` that change its plan.

They are kept as a mapping without defaults, so that a run with none of them is the run that it
was before there were any, with the same key.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from nptp_opt.cluster import TransferDtype
from nptp_opt.layer.limits import Limits

if TYPE_CHECKING:
    from nptp_opt.instances.networks import NetworkProblem
    from nptp_opt.planner import PlanOptions
    from nptp_opt.planner.options import Watch

Planning = Mapping[str, Any]
"""Of ``objective``, ``latency_limit_ms``, ``transfer_dtype``, ``encodings``: those not by
default."""

Encodings = Literal["given", "dense"]
"""Pixels and densities as an instance gives them, or neither: all of it dense and float32."""

DTYPES = get_args(TransferDtype)


def aims(planner: str) -> bool:
    """Whether a planner looks for anything but the latency."""
    from nptp_opt.planner import PLANNERS

    return PLANNERS.find(planner).aims


def plannings(
    planner: str,
    problem: NetworkProblem,
    *,
    objectives: Sequence[str],
    transfer_dtypes: Sequence[str],
    encodings: Sequence[Encodings],
    latency_limit_ms: float | None,
) -> Iterator[dict[str, Any]]:
    """Every combination, without what is so by default; baselines plan once for all objectives,
    and dense is how an instance that gives no pixels and no densities is planned anyway."""
    wanted = objectives if aims(planner) else ["latency"]
    own = problem.cluster.transfer_dtype
    dense_too = encodings if problem != problem.dense else ["given"]
    crossed = itertools.product(wanted, transfer_dtypes or [own], dense_too)
    for objective, dtype, encoding in crossed:
        planning: dict[str, Any] = {} if objective == "latency" else {"objective": objective}
        if dtype != own:
            planning["transfer_dtype"] = dtype
        if encoding == "dense":
            planning["encodings"] = encoding
        if latency_limit_ms is not None:
            planning["latency_limit_ms"] = latency_limit_ms
        yield planning


def words(planning: Planning) -> str:
    """As in a contender's name, each behind a space: `` bytes int8 dense <=900ms``."""
    named = ("objective", "transfer_dtype", "encodings")
    parts = [planning[name] for name in named if name in planning]
    if "latency_limit_ms" in planning:
        parts.append(f"<={planning['latency_limit_ms']:g}ms")
    return "".join(f" {word}" for word in parts)


def family(named: str) -> str:
    """The plans among which a planner of that name (``words`` behind it) proves its bound."""
    kept = [word for word in named.split(" ")[1:] if word in (*DTYPES, "dense")]
    return " ".join(["plan", *kept])


_FAMILIES = [f"plan{dtype}{dense}" for dtype in ("", *(f" {name}" for name in DTYPES))
             for dense in ("", " dense")]  # fmt: skip
WITHIN = {name: frozenset({name}) for name in _FAMILIES}
"""Families of plans that belong to a family of plans: itself, as a bound for one transfer type is
one for that type alone, and one of dense transfers for these alone."""


def plan_options(planner: str, planning: Planning, limits: Limits, watch: Watch) -> PlanOptions:
    """What the planner is called with; ``problem_of`` does the rest."""
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


def problem_of(problem: NetworkProblem, planning: Planning) -> NetworkProblem:
    """The problem with the run's transfer type and encodings."""
    sent = problem.dense if planning.get("encodings") == "dense" else problem
    return replace(sent, cluster=sent.cluster.sending_as(planning.get("transfer_dtype")))
