"""What a profile predicts of chains of layers on tiles of several sizes, against measured seconds.

    python benchmarks/profile_error.py [MODEL ...]

Protocol. One thread, 224 x 224, ``onnxruntime``. A pass times what ``profile`` times, and then
chains of other lengths than those (a half and an eighth of the layers that are cut): whole maps and
middle tiles of 1/2 to 1/16 of a map. Of ``PASSES`` passes the least seconds of each program count.
``error`` is the sum of all predicted seconds over that of all measured ones, less 1, ``middle`` the
median of the chains' own errors without their signs, and ``alone`` the first by the lines of layers
timed alone, as profiles were before chains.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from about import arguments, head, result
from runtime_cases import Record, Row

from nptp_opt.kernels.crops import Array
from nptp_opt.kernels.executors import prepare
from nptp_opt.kernels.executors.choice import random_inputs
from nptp_opt.network.ir import Network
from nptp_opt.network.load import load_model
from nptp_opt.runtime.executed import as_arrays
from nptp_opt.runtime.profiling.chains import chain_groups
from nptp_opt.runtime.profiling.fit import Fitted, chain_errors, fit_together
from nptp_opt.runtime.profiling.layers import ChainSample, measure_network, median_s

MODELS = ("squeezenet1_1", "mobilenet_v2", "resnet50", "vgg16")
INPUT = (1, 3, 224, 224)
EXECUTOR = "onnxruntime"
OTHERS = (2, 8)
"""Into so many chains the layers are divided here; ``profile`` does it in others."""
PASSES = 7

Weights = Mapping[str, Array]
Timing = tuple[Any, float]
"""What a program computes, and its seconds."""


def others(network: Network, weights: Weights) -> Iterator[tuple[str, ChainSample]]:
    """Chains by the size of their tiles, each timed once."""
    for group in chain_groups(network, OTHERS):
        prepared = prepare(EXECUTOR, group.numbered, weights).prepared
        for number, timed in enumerate(group.programs):
            run = partial(prepared[number].run, random_inputs(timed.program, weights))
            yield group.size, (timed.work, median_s(run, 1))


def least(passes: Sequence[Sequence[Timing]]) -> list[Timing]:
    """Of every program the pass in which it took the fewest seconds."""
    return [min(each, key=lambda timing: timing[1]) for each in zip(*passes, strict=True)]


def row(name: str) -> Row:
    """One model."""
    model = load_model(name, INPUT)
    network, weights = model.network, as_arrays(model.weights())
    passes = []
    for _ in range(PASSES):
        profiled = measure_network(network, weights, 1, 1, lambda text: None, EXECUTOR)
        passes.append((profiled, list(others(network, weights))))
    samples = {key: least([p.samples[key] for p, _ in passes]) for key in passes[0][0].samples}
    speeds = {
        "together": fit_together(samples, least([p.chains for p, _ in passes])),
        "alone": fit_together(samples, ()),
    }
    chains = least([[chain for _, chain in found] for _, found in passes])
    sizes = [size for size, _ in passes[0][1]]
    found = {size: errors(size, sizes, chains, speeds) for size in dict.fromkeys(sizes)}
    return {"model": name, "chains": len(chains), "sizes": found}


def errors(
    size: str,
    sizes: Sequence[str],
    chains: Sequence[ChainSample],
    speeds: Mapping[str, Fitted],
) -> dict[str, float]:
    """Of the chains on tiles of one size."""
    own = [chain for each, chain in zip(sizes, chains, strict=True) if each == size]
    off = {kind: chain_errors(fitted, own) for kind, fitted in speeds.items()}
    return {
        "error": of_the_sum(off["together"], own),
        "middle": statistics.median(map(abs, off["together"])),
        "alone": of_the_sum(off["alone"], own),
    }


def of_the_sum(errors: Sequence[float], chains: Sequence[ChainSample]) -> float:
    """The error of all chains' seconds together."""
    total = sum(seconds for _, seconds in chains)
    return sum(e * seconds for e, (_, seconds) in zip(errors, chains, strict=True)) / total


def table(record: Record) -> str:
    sizes = list(record.rows[0]["sizes"])
    lines = [
        *head(
            "What a profile predicts of chains", "python benchmarks/profile_error.py", record.about
        ),
        "Error of the sum (median of the chains' own errors; before chains were measured).",
        "",
        f"| model | chains | {' | '.join(sizes)} |",
        "|" + "---|" * (2 + len(sizes)),
    ]
    for each in record.rows:
        cells = (
            f"{cell['error']:+.0%} ({cell['middle']:.0%}; {cell['alone']:+.0%})"
            for cell in each["sizes"].values()
        )
        lines.append(f"| {each['model']} | {each['chains']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("models", nargs="*", default=MODELS)
    models = parser.parse_args().models
    torch.set_num_threads(1)
    record = Record("profile_error", {"passes": PASSES, "input": INPUT, "others": OTHERS})
    for name in models:
        record.add(row(name), ("model", "sizes"))
        record.write({"models": len(record.rows)}, table(record))
    print(f"{result('profile_error.md')}: {len(record.rows)} models")


if __name__ == "__main__":
    main()
