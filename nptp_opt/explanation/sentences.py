"""The explanation as findings: a topic, a sentence, and the figures in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nptp_opt.cost.objectives import Carried, carried
from nptp_opt.evaluate.assemble import assemble
from nptp_opt.evaluate.simulate import simulate
from nptp_opt.evaluate.usage import usage_of
from nptp_opt.explanation.parts import (
    Part,
    PartKind,
    critical_parts,
    seconds_by_kind,
    seconds_by_step,
)
from nptp_opt.explanation.what_if import LEAST_GAIN, Answer, working
from nptp_opt.plan.model import Plan
from nptp_opt.planner.baselines.quick import single_on
from nptp_opt.plot.units import listed

WORDS: dict[PartKind, str] = {
    "compute": "computing",
    "send": "bytes on links",
    "queue": "messages waiting for a busy link",
    "latency": "message latency",
    "hand over": "handing messages over",
}

MOST_STEPS = 3
"""Steps that are named."""

LEAST_GAP = 1e-3
"""Gap below which a plan is told as one that none beats."""

MOST_LEGS = 12
"""Legs of the critical path that are told one by one."""


@dataclass(frozen=True)
class Finding:
    """One thing that there is to say of a plan."""

    topic: str
    text: str
    figures: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """As ``explain --json`` prints it."""
        return asdict(self)


def findings(plan: Plan) -> Iterator[Finding]:
    """All that the plan itself says, without any other being planned."""
    parts = critical_parts(plan)
    yield _total(plan)
    yield _time(plan, parts)
    yield from _slow_steps(plan, parts)
    yield _busiest(plan)
    yield _path(plan, parts)
    yield from left_out(plan)
    yield from _bound(plan)


def answered(plan: Plan, answer: Answer) -> Finding:
    """What a planned change would give."""
    gain = 1 - answer.latency_s / plan.latency_s
    used = ""
    if answer.devices != len(working(plan)):
        used = f", and {answer.devices} devices compute in place of {len(working(plan))}"
    effect = f"would take {ms(answer.latency_s)}, {gain:.0%} less"
    if abs(gain) < LEAST_GAIN:
        effect = "would help nothing"
    elif gain < 0:
        effect = f"would take {ms(answer.latency_s)}, {-gain:.0%} more"
    how = "proven: no plan is faster there" if answer.proven else "planned by a short search"
    figures = {
        "question": answer.question,
        "latency_s": answer.latency_s,
        "gain": gain,
        "devices": answer.devices,
        "proven": answer.proven,
    }
    return Finding("what if", f"With {answer.question} it {effect}{used} ({how}).", figures)


def ms(seconds: float) -> str:
    """Milliseconds with three digits, or seconds from one second on."""
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"


def size(count: int) -> str:
    """Bytes in kB or MB."""
    return f"{count / 1e6:.3g} MB" if count >= 1e6 else f"{count / 1e3:.3g} kB"


def layers_text(names: Sequence[str]) -> str:
    """Names of layers as a range."""
    if not names:
        return "collecting the outputs"
    return names[0] if len(names) == 1 else f"{names[0]} .. {names[-1]} ({len(names)} layers)"


# -- findings ----------------------------------------------------------------------------------


def _total(plan: Plan) -> Finding:
    network, cluster = plan.network, plan.cluster
    alone = assemble(network, cluster, single_on(network, cluster.source))
    alone_s, count = simulate(network, cluster, alone), len(working(plan))
    ratio = alone_s / plan.latency_s
    source = cluster.devices[cluster.source].name
    text = (
        f"{plan.model.ref} takes {ms(plan.latency_s)} on {count} of {len(cluster.devices)} devices"
    )
    if count > 1:
        text += f", {ratio:.3g} times faster than {ms(alone_s)} on {source} alone"
    else:
        text += ": it is not worth distributing here"
    figures = {"latency_s": plan.latency_s, "single_device_s": alone_s, "devices_used": count}
    return Finding("total", f"{text}.", figures)


def _time(plan: Plan, parts: tuple[Part, ...]) -> Finding:
    spent = seconds_by_kind(parts)
    shares = ", ".join(
        f"{WORDS[kind]} {ms(seconds)} ({seconds / plan.latency_s:.0%})"
        for kind, seconds in spent.items()
    )
    return Finding(
        "time", f"On the critical path: {shares}.", {f"{k}_s": v for k, v in spent.items()}
    )


def _slow_steps(plan: Plan, parts: tuple[Part, ...]) -> Iterator[Finding]:
    for number, seconds in list(seconds_by_step(parts).items())[:MOST_STEPS]:
        own = tuple(part for part in parts if part.step == number)
        kinds = ", ".join(f"{WORDS[kind]} {ms(s)}" for kind, s in seconds_by_kind(own).items())
        share = seconds / plan.latency_s
        name = layers_text(plan.steps[number].layers)
        yield Finding(
            "step",
            f"Step {number} ({name}) has {ms(seconds)} of the critical path ({share:.0%}): "
            f"{kinds}.",
            {"step": number, "seconds": seconds},
        )


def _busiest(plan: Plan) -> Finding:
    used = usage_of(plan.network, plan.cluster, plan.steps)
    names = [device.name for device in plan.cluster.devices]
    busy = int(np.argmax(used.compute_s))
    shares = {
        name: float(s / plan.latency_s) for name, s in zip(names, used.compute_s, strict=True)
    }
    text = f"The busiest device is {names[busy]}: it computes {shares[names[busy]]:.0%} of the time"
    figures: dict[str, Any] = {"device": names[busy], "compute_shares": shares}
    links = carried(plan.cluster, used)
    if links.medium_s is not None:
        share = links.medium_s / plan.latency_s
        text += f"; the medium carries {size(plan.transfer_bytes)} in {share:.0%} of it"
        figures["medium_share"] = share
    elif plan.transfer_bytes:
        share, link = max(_link_shares(plan, links))
        text += f"; the busiest link, {link}, is used {share:.0%} of it"
        figures |= {"link": link, "link_share": share}
    return Finding("limit", f"{text}.", figures)


def _link_shares(plan: Plan, links: Carried) -> Iterator[tuple[float, str]]:
    for k, device in enumerate(plan.cluster.devices):
        yield float(links.up_s[k]) / plan.latency_s, f"{device.name} up"
        yield float(links.down_s[k]) / plan.latency_s, f"{device.name} down"


def _path(plan: Plan, parts: tuple[Part, ...]) -> Finding:
    """The critical path, neighbouring steps that one device computes as one leg."""
    names = [device.name for device in plan.cluster.devices]
    legs: list[tuple[object, str, float, list[int]]] = []
    for part in parts:
        if part.kind == "compute":
            key: object = part.device
            words = f"{names[part.device]} computes"
        else:
            key = part.device, part.peer, part.step
            to = "" if part.peer is None else f" to {names[part.peer]}"
            words = f"{names[part.device]} sends{to}"
        if legs and legs[-1][0] == key:
            legs[-1] = (key, words, legs[-1][2] + part.seconds, [*legs[-1][3], part.step])
        else:
            legs.append((key, words, part.seconds, [part.step]))
    shown = legs if len(legs) <= MOST_LEGS else _longest(legs)
    text = "; ".join(f"{words} {_steps(steps)} ({ms(s)})" for _, words, s, steps in shown)
    left = len(legs) - len(shown)
    more = f"; {left} shorter legs are left out" if left else ""
    return Finding("critical path", f"What waits for what: {text}{more}.", {"legs": len(legs)})


def _longest(legs: list[tuple[object, str, float, list[int]]]) -> list[Any]:
    """The longest legs, in their order."""
    least = sorted((leg[2] for leg in legs), reverse=True)[MOST_LEGS - 1]
    return [leg for leg in legs if leg[2] >= least][:MOST_LEGS]


def _steps(steps: Sequence[int]) -> str:
    first, last = min(steps), max(steps)
    return f"step {first}" if first == last else f"steps {first} to {last}"


def left_out(plan: Plan) -> Iterator[Finding]:
    """Who computes nothing, and why; nothing where all do."""
    names = [plan.cluster.devices[i].name for i in plan.idle]
    if names:
        verb = "computes" if len(names) == 1 else "compute"
        yield Finding(
            "left out",
            f"{listed(names)} {verb} nothing: the search found no tile there that saves more "
            "than its messages take.",
            {"devices": names},
        )


def _bound(plan: Plan) -> Iterator[Finding]:
    if plan.bound_s is None or plan.gap is None:
        yield Finding("bound", "No bound was proven; `solve` without --no-bound proves one.", {})
        return
    figures = {"bound_s": plan.bound_s, "gap": plan.gap}
    if plan.gap < LEAST_GAP:
        yield Finding("bound", f"No plan can take less than {ms(plan.bound_s)} (proven).", figures)
        return
    yield Finding(
        "bound",
        f"No plan can take less than {ms(plan.bound_s)}, {plan.gap:.0%} below this one: what lies "
        "between is not decided (the bound counts computing and what must be sent at least, not "
        "every wait).",
        figures,
    )
