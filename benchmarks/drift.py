"""A link that changes while a service is at work: what becomes of the latency.

    python benchmarks/drift.py [--network switched|shared]    (as root: network namespaces)

Protocol: four emulated boards of 0.8 to 1.2 GFLOP/s (so slow that this machine can be all of them
at once) on a switch of 100 Mbit/s, or on a medium of 50 Mbit/s. One input after the other. A
service with the default limits answers for 20 s, then both ways of one board's link (or the medium)
fall to a fifth of their rate for 60 s, then they are as before for 60 s.

"Fresh" is a plan made from nothing for the new rates, executed by a service of its own with
``fixed`` on a cluster that has these rates from the start: the median of 15 inputs. Counted is from
when on the latency was within 10 % of that for good (the median of five inputs in a row, for all
such fives until the phase ends), in seconds from the change. Every answer is compared with the
model; none may be lost or come twice. The machine's load is told.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from about import arguments, head, kept, provenance, save

import nptp_opt as nptp
from nptp_opt.cluster import Cluster
from nptp_opt.deployment.figures import MEDIUM, Figure, scaled
from nptp_opt.deployment.request import DeployRequest
from nptp_opt.deployment.service import Service
from nptp_opt.plan.model import Plan
from nptp_opt.runtime.emulation.network import EmulatedCluster

GFLOPS = (1.2, 1.0, 0.8, 0.8)
FELL_TO, VICTIM = 0.2, "d1"
PHASES = {"as planned": 20.0, "fallen": 60.0, "back": 60.0}
WITHIN, FRESH_INPUTS, IN_A_ROW = 0.10, 15, 5


def boards(kind: str) -> Cluster:
    """The cluster as it is planned for."""
    devices: list[dict[str, Any]] = [
        {"name": f"d{i}", "gflops": speed, "overhead_ms": 0.1} for i, speed in enumerate(GFLOPS)
    ]
    network: dict[str, Any] = {"kind": kind, "latency_ms": 0.5}
    if kind == "shared":
        network["mbit_per_s"] = 50.0
    else:
        devices = [d | {"up_mbit_per_s": 100.0, "down_mbit_per_s": 100.0} for d in devices]
    return Cluster(network=network, devices=devices)


def fallen(cluster: Cluster) -> Cluster:
    """The same with a link, or the medium, at a fifth of its rate."""
    figures = [MEDIUM] if cluster.shared else [Figure("up", VICTIM), Figure("down", VICTIM)]
    return scaled(cluster, dict.fromkeys(figures, FELL_TO))


class Asking:
    """Inputs one after the other, each answer compared; (seconds, latency) of all of them."""

    def __init__(self, service: Service, model: nptp.LoadedModel) -> None:
        self.service = service
        shape = model.signature.inputs[0].shape
        self.inputs = [torch.randn(shape, generator=torch.Generator().manual_seed(k))
                       for k in range(4)]  # fmt: skip
        self.expected = [model.witness.outputs(x)[0] for x in self.inputs]
        self.asked, self.latencies = 0, list[tuple[float, float]]()

    def ask(self) -> None:
        k = self.asked % len(self.inputs)
        answer = self.service.submit(self.inputs[k]).result()
        assert torch.allclose(answer.value, self.expected[k], atol=1e-3), "a wrong answer"
        self.asked += 1
        self.latencies.append((time.monotonic(), answer.latency_s))

    def until(self, when_s: float) -> None:
        while time.monotonic() < when_s:
            self.ask()


def solved(model: nptp.LoadedModel, cluster: Cluster) -> Plan:
    return nptp.solve(model, cluster, time_limit_s=60, bound=False)


def fresh(model: nptp.LoadedModel, cluster: Cluster) -> dict[str, float]:
    """Prediction and measured median of a plan made for ``cluster`` from nothing."""
    plan = solved(model, cluster)
    request = DeployRequest(site="emulated", in_flight=1, fixed=True)
    with Service(plan, model, request) as service:
        asking = Asking(service, model)
        for _ in range(FRESH_INPUTS):
            asking.ask()
    measured = statistics.median(latency for _, latency in asking.latencies)
    return {"predicted_s": plan.latency_s, "measured_s": measured}


def settled_after_s(latencies: list[tuple[float, float]], since_s: float, goal_s: float) -> Any:
    """Seconds until the median of five inputs in a row is within the goal and stays so; None
    where it never is."""
    ends, found = range(IN_A_ROW, len(latencies) + 1), None
    for end in reversed(ends):
        window = latencies[end - IN_A_ROW : end]
        if statistics.median(each for _, each in window) > goal_s * (1 + WITHIN):
            break
        found = window[0][0] - since_s
    return found


def measure(kind: str, name: str, size: int) -> dict[str, Any]:
    model = nptp.load_model(name, (1, 3, size, size))
    before = boards(kind)
    after = fallen(before)
    goals = {"as planned": fresh(model, before), "fallen": fresh(model, after)}
    goals["back"] = goals["as planned"]
    plan = solved(model, before)
    said: list[tuple[float, str]] = []
    request = DeployRequest(site="emulated", in_flight=1)
    with EmulatedCluster(before) as site:
        service = Service(
            plan, model, request, site=site,
            progress=lambda text: said.append((time.monotonic(), text)),
        )  # fmt: skip
        with service:
            asking, phases = Asking(service, model), []
            rates: dict[str, Callable[[], None]] = {
                "as planned": lambda: None,
                "fallen": lambda: site.change_rates(after),
                "back": lambda: site.change_rates(before),
            }
            for phase, seconds in PHASES.items():
                rates[phase]()
                begun_s = time.monotonic()
                first = asking.asked
                asking.until(begun_s + seconds)
                phases.append((phase, begun_s, asking.latencies[first:]))
        counts = service.counts
    assert counts.answered == asking.asked, "an answer was lost, or came twice"
    rows = [_row(*each, goals, said) for each in phases]
    return {"network": kind, "model": f"{name} at {size}", "answered": counts.answered,
            "drifts": counts.drifts, "replans": counts.replans, "phases": rows}  # fmt: skip


def _row(
    phase: str,
    begun_s: float,
    latencies: list[tuple[float, float]],
    goals: dict[str, dict[str, float]],
    said: list[tuple[float, str]],
) -> dict[str, Any]:
    goal, until_s = goals[phase], begun_s + PHASES[phase]
    last = [latency for _, latency in latencies[-10:]]
    return {
        "phase": phase,
        "inputs": len(latencies),
        "fresh_predicted_s": goal["predicted_s"],
        "fresh_measured_s": goal["measured_s"],
        "first_s": latencies[0][1],
        "last_median_s": statistics.median(last),
        "settled_after_s": settled_after_s(latencies, begun_s, goal["measured_s"]),
        "said": [f"{when - begun_s:.1f} s: {text}" for when, text in said
                 if begun_s <= when < until_s],
    }  # fmt: skip


def _page(content: dict[str, Any]) -> str:
    title = "A link that changes while a service is at work"
    lines = head(title, "python benchmarks/drift.py", content["about"])
    for case in content["cases"]:
        lines += [f"## {case['model']}, {case['network']} network", "",
                  f"{case['answered']} inputs, all answered once and right.", "",
                  "| phase | first input (s) | last ten, median (s) | fresh plan (s) "
                  "| settled after (s) |",
                  "|---|---|---|---|---|"]  # fmt: skip
        for row in case["phases"]:
            after = row["settled_after_s"]
            spelled = "never" if after is None else f"{after:.1f}"
            lines.append(f"| {row['phase']} | {row['first_s']:.3f} | {row['last_median_s']:.3f} | "
                         f"{row['fresh_measured_s']:.3f} | {spelled} |")  # fmt: skip
        lines += ["", *(f"- {row['phase']}, {text}" for row in case["phases"]
                        for text in row["said"]), ""]  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--network", choices=["switched", "shared"], help="both, if left out")
    parser.add_argument("--model", default="squeezenet1_1")
    parser.add_argument("--size", type=int, default=160)
    args = parser.parse_args()
    cases = {case["network"]: case for case in (kept("drift") or {"cases": []})["cases"]}
    for kind in [args.network] if args.network else ["switched", "shared"]:
        cases[kind] = measure(kind, args.model, args.size)
        content = {"about": provenance(), "cases": list(cases.values())}
        save("drift", content, _page(content))
        print(json.dumps(cases[kind], indent=1), flush=True)


if __name__ == "__main__":
    main()
