"""A service under random kills: every request answered once and right, and nothing grows.

    python benchmarks/soak.py [--requests 10000] [--kill-every 4] [--seed 0]

Protocol: a network of four small convolutions on four local processes. Sixteen requests are
submitted ahead, eight in flight. Every ``--kill-every`` seconds in the mean (exponential) one of
the devices that are neither source nor sink and that are there gets SIGKILL; its worker is started
anew, joins, and gets a part of the work again. Every answer is compared with the model's. Resident
memory, open files and threads of the launcher, resident memory of the source's worker (which is
never killed) and the number of files in the run's folder are noted a hundred times. Times are told,
and depend on the machine.
"""

from __future__ import annotations

import gc
import itertools
import json
import os
import random
import re
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from about import arguments, head, provenance, save
from torch import nn

import nptp_opt as nptp
from nptp_opt.deployment.request import DeployRequest
from nptp_opt.deployment.service import Service

DEVICES, INPUTS, SAMPLES = 4, 16, 100
SHAPE = (1, 3, 32, 32)
WARM = 0.2
"""Share of the requests after which memory is compared with that at the end."""


def tiny() -> nn.Module:
    torch.manual_seed(0)
    widths = (3, 8, 8, 8, 4)
    pairs = itertools.pairwise(widths)
    return nn.Sequential(*(nn.Conv2d(a, b, 3, padding=1) for a, b in pairs)).eval()


class Killer:
    """Kills until it is stopped; knows whom."""

    def __init__(self, service: Service, every_s: float, seed: int) -> None:
        self.service, self.every_s, self.random = service, every_s, random.Random(seed)
        self.killed: list[str] = []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Killer:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()

    def _work(self) -> None:
        while not self.over.wait(self.random.expovariate(1 / self.every_s)):
            pool = self.service._pool
            there = [] if pool is None else sorted(pool.members.copy().items())[1:]  # not d0
            alive = [(name, m.process) for name, m in there if m.process is not None]
            if alive:
                name, process = self.random.choice(alive)
                process.kill()  # as SIGKILL to a process of which nobody has taken the status yet
                self.killed.append(name)


def _resident_mib(pid: int | str) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 2**20


def _sizes(service: Service) -> dict[str, float]:
    pool = service._pool
    assert pool is not None
    source = pool.members["d0"].process
    assert source is not None
    gc.collect()
    return {
        "launcher_mib": _resident_mib("self"),
        "source_mib": _resident_mib(source.pid),
        "files": len(list(Path("/proc/self/fd").iterdir())),
        "threads": threading.active_count(),
        "folder_files": sum(len(names) for _, _, names in os.walk(pool.folder)),
    }


def soak(requests: int, every_s: float, seed: int) -> dict[str, Any]:
    model = nptp.load_model(tiny(), SHAPE)
    devices = [{"name": f"d{i}", "gflops": 0.05, "up_mbit_per_s": 100.0,
                "down_mbit_per_s": 100.0} for i in range(DEVICES)]  # fmt: skip
    cluster = nptp.Cluster(network={"kind": "switched"}, devices=devices)
    plan = nptp.solve(model, cluster, bound=False)
    given = [torch.randn(SHAPE, generator=torch.Generator().manual_seed(k)) for k in range(INPUTS)]
    expected = [model.witness.outputs(x)[0] for x in given]
    answers, sizes = 0, list[dict[str, float]]()

    def watch(_: object) -> None:
        nonlocal answers
        answers += 1

    def inputs(name: str) -> Iterator[dict[str, torch.Tensor]]:
        for number in range(requests):
            yield {name: given[number % INPUTS]}

    said: Counter[str] = Counter()

    def note(text: str) -> None:
        if "planning again without it" in text:
            said[
                re.sub("device .*? (died|does|is|was|has|makes)", r"\1", text).partition(")")[0]
                + ")"
            ] += 1

    began = time.monotonic()
    request = DeployRequest(in_flight=8)
    with Service(plan, model, request, progress=note, watch=watch) as service:
        name, seen = service.signature.inputs[0].name, 0
        with Killer(service, every_s, seed) as killer:
            for number, answer in enumerate(service.stream(inputs(name))):
                assert torch.allclose(answer.value, expected[number % INPUTS], atol=1e-4), number
                seen += 1
                if number % max(1, requests // SAMPLES) == 0:
                    sizes.append(_sizes(service))
        counts = service.counts
    assert seen == answers == counts.answered == requests, "lost, or twice"
    warm = sizes[int(WARM * len(sizes)) :]
    tenth = max(1, len(warm) // 10)
    return {
        "requests": requests,
        "answered_right_and_once": seen,
        "kills": len(killer.killed),
        "losses": len(counts.losses),
        "losses_by_cause": dict(said),
        "returns": len(counts.returns),
        "replans": counts.replans,
        "seconds": time.monotonic() - began,
        "memory": {
            key: {
                "warm": statistics.median(each[key] for each in warm[:tenth]),
                "end": statistics.median(each[key] for each in warm[-tenth:]),
            }
            for key in warm[0]
        },
    }


def _page(content: dict[str, Any]) -> str:
    found = content["soak"]
    lines = head("A service under random kills", "python benchmarks/soak.py", content["about"])
    lines += [f"{found['requests']} requests, all answered once and right, in "
              f"{found['seconds']:.0f} s; {found['kills']} kills, {found['losses']} losses, "
              f"{found['returns']} returns, {found['replans']} plans for survivors.", "",
              f"| | after {WARM:.0%} | at the end |", "|---|---|---|"]  # fmt: skip
    for key, each in found["memory"].items():
        lines.append(f"| {key} | {each['warm']:.1f} | {each['end']:.1f} |")
    return "\n".join([*lines, ""])


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--kill-every", type=float, default=4.0, help="seconds, in the mean")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    content = {"about": provenance(), "soak": soak(args.requests, args.kill_every, args.seed)}
    save("soak", content, _page(content))
    print(json.dumps(content["soak"], indent=1))


if __name__ == "__main__":
    main()
