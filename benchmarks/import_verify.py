"""Import times, and what ``verify`` costs beside one forward pass of the model.

    python benchmarks/import_verify.py

Protocol. ``import``: ``load_model`` in a fresh process, torch and torchvision loaded before the
clock starts. ``verify``: a plan for the boards of ``examples/four-unequal.toml`` is verified
in float32 and float64. Its time, best of the repeats, without what the comparison of layers takes,
is divided by that of one forward pass of the model's own module in each dtype, best of the repeats,
weights converted before. Memory is the largest sum of all storages alive at once that torch ops
have made (weights left out, they are held once), seen by a ``TorchDispatchMode``; the unpartitioned
run is the same module in float64. The answer is asserted: no faults.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import weakref
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from about import arguments, provenance, save
from torch.utils._python_dispatch import TorchDispatchMode

from nptp_opt.cluster import load_cluster
from nptp_opt.network import zoo
from nptp_opt.network.load import LoadedModel, load_model
from nptp_opt.network.ref import ModelRef
from nptp_opt.plan.model import Plan
from nptp_opt.planner import PlanOptions, plan_network
from nptp_opt.verification import torch_check

ROOT = Path(__file__).parent.parent
SHAPE = (1, 3, 224, 224)
IMPORTS = ("resnet152", "densenet121")
VERIFIED = (("vgg16", "nptp"), ("vgg16", "strip-equal"), ("resnet50", "strip-equal"))
TARGETS = {"import_s": 10.0, "time_ratio": 3.0, "memory_ratio": 2.0}

Row = dict[str, Any]


class Peak(TorchDispatchMode):
    """Bytes of all storages that ops have made and that are alive; ``weights`` do not count."""

    def __init__(self, weights: list[torch.Tensor]) -> None:
        super().__init__()
        self.weights = {t.untyped_storage().data_ptr() for t in weights}
        self.users, self.now, self.peak = Counter[int](), 0, 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (list, tuple)) else [result]:
            if isinstance(tensor, torch.Tensor):
                self._add(tensor)
        return result

    def _add(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage.data_ptr(), storage.nbytes()
        if key in self.weights or size == 0:
            return
        if not self.users[key]:
            self.now += size
            self.peak = max(self.peak, self.now)
        self.users[key] += 1
        weakref.finalize(tensor, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self.users[key] -= 1
        if not self.users[key]:
            self.now -= size


class Frozen(LoadedModel):
    """A model whose conversions are made before the clock starts, as those of the module are."""

    def in_double(self) -> LoadedModel:
        if "kept" not in self.__dict__:
            self.__dict__["kept"] = super().in_double()
            self.__dict__["kept"].weights()
        kept: LoadedModel = self.__dict__["kept"]
        return kept


def best(repeats: int, action: Callable[[], Any]) -> float:
    """Shortest time of the repeats."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return min(times)


def import_row(name: str) -> Row:
    code = (
        "import time, nptp_opt.network.from_export\n"
        "from nptp_opt.network.zoo import torchvision_models\n"
        "from nptp_opt.network.load import load_model\n"
        "torchvision_models()\n"
        f"t = time.perf_counter(); load_model({name!r}, {SHAPE}); print(time.perf_counter() - t)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {"model": name, "import_s": float(done.stdout)}


def module_of(name: str, dtype: torch.dtype) -> torch.nn.Module:
    return zoo.build(name).to(dtype).eval()


def forward_s(name: str, repeats: int) -> dict[str, float]:
    found = {}
    for dtype in (torch.float32, torch.float64):
        module, x = module_of(name, dtype), torch.randn(SHAPE, dtype=dtype)
        with torch.inference_mode():
            found[str(dtype)] = best(repeats + 1, lambda m=module, x=x: m(x))
    return found


def compared_s(plan: Plan, model: LoadedModel, repeats: int) -> tuple[float, float]:
    """Shortest time of ``verify`` and of the comparison within that run."""
    plain = torch_check.difference
    found = []
    for _ in range(repeats):
        spent = [0.0]

        def timed(*args: Any, spent: list[float] = spent) -> float:
            started = time.perf_counter()
            error = plain(*args)
            spent[0] += time.perf_counter() - started
            return error

        torch_check.difference = timed
        started = time.perf_counter()
        report = torch_check.verify_plan(plan, model)
        found.append((time.perf_counter() - started, spent[0]))
        assert report.faults == [], report.faults
    torch_check.difference = plain
    return min(found, key=lambda pair: pair[0] - pair[1])


def peaks(name: str, plan: Plan, model: LoadedModel) -> tuple[int, int]:
    """Peak bytes of the unpartitioned float64 run and of ``verify``."""
    module = module_of(name, torch.float64)
    with torch.inference_mode(), Peak([*module.state_dict().values()]) as alone:
        module(torch.randn(SHAPE, dtype=torch.float64))
    with Peak([t for each in (model, model.in_double()) for t in each.weights().values()]) as both:
        torch_check.verify_plan(plan, model)
    return alone.peak, both.peak


def verify_row(name: str, planner: str, repeats: int) -> Row:
    loaded = load_model(name, SHAPE)
    model = Frozen(loaded.imported, loaded.build, loaded.ref, loaded.witness)
    cluster = load_cluster(ROOT / "examples" / "four-unequal.toml")
    plan = plan_network(ModelRef(name, SHAPE), model.network, cluster, PlanOptions(planner))
    forward = forward_s(name, repeats)
    torch_check.verify_plan(plan, model)
    total_s, comparing_s = compared_s(plan, model, repeats)
    alone, both = peaks(name, plan, model)
    return {
        "model": name,
        "planner": planner,
        "forward_s": forward,
        "verify_s": total_s,
        "comparing_s": comparing_s,
        "time_ratio": (total_s - comparing_s) / sum(forward.values()),
        "peak_bytes": alone,
        "verify_peak_bytes": both,
        "memory_ratio": both / alone,
    }


def markdown(about: Row, imports: list[Row], rows: list[Row]) -> str:
    lines = [
        "# Import and verify",
        "",
        f"`python benchmarks/import_verify.py`; {about['cpu']}, {about['cores']} cores, load "
        f"{about['load']:.1f}, torch {about['versions']['torch']}, commit "
        f"{about['commit'][:12]}, {about['date']}.",
        "",
        "| model | import s (target < 10) |",
        "|---|---|",
        *(f"| {row['model']} | {row['import_s']:.2f} |" for row in imports),
        "",
        "| model | plan | forward s (f32 + f64) | verify s | of that comparing s "
        "| time ratio (target <= 3) | memory ratio (target <= 2) |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        forward = " + ".join(f"{value:.3f}" for value in row["forward_s"].values())
        lines.append(
            f"| {row['model']} | {row['planner']} | {forward} | {row['verify_s']:.2f} "
            f"| {row['comparing_s']:.2f} | {row['time_ratio']:.2f} | {row['memory_ratio']:.2f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    about = provenance()
    imports = [import_row(name) for name in IMPORTS]
    rows = [verify_row(name, planner, repeats) for name, planner in VERIFIED]
    record = {**about, "targets": TARGETS, "imports": imports, "verify": rows}
    save("import_verify", record, markdown(about, imports, rows))
    print(json.dumps(record))


if __name__ == "__main__":
    main()
