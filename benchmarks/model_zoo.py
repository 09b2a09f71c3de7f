"""Models that people use: which import, how fast, how much of each is partitioned, and is it right.

    python benchmarks/model_zoo.py install ENVIRONMENT
    ENVIRONMENT/bin/python benchmarks/model_zoo.py run --only timm:resnet18 --verify

``install`` makes a virtual environment that sees this one's packages, with timm, ultralytics,
segmentation-models-pytorch and diffusers beside them. Names in ``model_zoo.txt`` are
``timm:NAME``, ``yolo:YAML`` (ultralytics), ``smp:ARCHITECTURE/ENCODER`` and ``diffusers:PART`` of a
small autoencoder, each with an input shape. All weights are random.

Protocol. One process for each model, forked from one that has the packages loaded, with a limit in
seconds and one torch thread. ``import_s`` is
``load_module`` with the packages loaded and the model built before the clock starts; ``cpu_s`` is
its processor time, which a busy machine does not stretch. ``same``: the outputs of the imported
network are those of the model itself, for one random input. ``partitioned`` is the share of all
FLOP in layers that are cut, ``convolutions`` that of the convolutions alone. With ``--verify`` the
plan
``strip-equal`` for two equal devices is held against the imported network in float32 and float64,
and the outputs against the model itself. A refusal is recorded with its message. Rows are
written model by model.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import os
import subprocess
import sys
import time
import venv
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from about import add_record, cut_share, kept, provenance, save

ROOT = Path(__file__).parent.parent
MODELS = ROOT / "benchmarks" / "model_zoo.txt"
LIMIT_S = 600
TARGETS = {"import_s": 20.0, "partitioned": 0.95}
PACKAGES = (
    "timm==1.0.31 ultralytics==8.4.* segmentation-models-pytorch==0.6.* diffusers==0.42.* "
    "huggingface_hub safetensors pyyaml tqdm filelock requests packaging httpx httpcore httpx2 "
    "httpcore2 truststore h11 anyio idna certifi sniffio opencv-python-headless psutil polars"
).split()
"""Installed without what they depend on: torch and torchvision are there already."""

Row = dict[str, Any]


def install(folder: Path) -> None:
    """A virtual environment with this one's packages and those of the models."""
    venv.create(folder, with_pip=True)
    site = next(folder.glob("lib/python*/site-packages"))
    here = [path for path in sys.path if path.endswith("site-packages")]
    (site / "beside.pth").write_text("\n".join([*here, str(ROOT)]) + "\n")
    pip = [str(folder / "bin" / "pip"), "install", "--no-deps", *PACKAGES]
    subprocess.run(pip, check=True)


def _timm(name: str) -> Any:
    import timm

    return timm.create_model(name, pretrained=False)


def _yolo(name: str) -> Any:
    from ultralytics.nn.tasks import DetectionModel

    return DetectionModel(f"{name}.yaml", ch=3, nc=80, verbose=False)


def _smp(name: str) -> Any:
    import segmentation_models_pytorch as smp

    architecture, encoder = name.split("/")
    return getattr(smp, architecture)(encoder_name=encoder, encoder_weights=None)


def _diffusers(part: str) -> Any:
    import torch
    from diffusers import AutoencoderKL

    whole = AutoencoderKL(
        block_out_channels=(32, 64),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=8,
    )
    parts = {
        "decoder": (whole.post_quant_conv, whole.decoder),
        "encoder": (whole.encoder, whole.quant_conv),
    }
    return torch.nn.Sequential(*parts[part])


BUILD: dict[str, Callable[[str], Any]] = {
    "timm": _timm,
    "yolo": _yolo,
    "smp": _smp,
    "diffusers": _diffusers,
}


def listed() -> list[tuple[str, tuple[int, ...]]]:
    """Names and input shapes of the list."""
    lines = [line.split() for line in MODELS.read_text().splitlines() if line[:1] not in ("#", "")]
    return [(name, tuple(map(int, shape.split("x")))) for name, shape in lines]


def measured(name: str, shape: tuple[int, ...], verify: bool) -> Row:
    """One model's row, in this process."""
    import torch

    from nptp_opt.errors import InputError
    from nptp_opt.network.load import load_module
    from nptp_opt.network.zoo import make_torchvision_importable

    torch.set_num_threads(1)
    torch.manual_seed(0)
    make_torchvision_importable()
    kind, _, rest = name.partition(":")
    module = BUILD[kind](rest).eval()
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        model = load_module(module, name, shape)
    except InputError as error:
        return {"refused": str(error)}
    row = {"import_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
    row |= shares(model.network) | answers(model)
    return row | (verified(model) if verify else {})


def answers(model: Any) -> Row:
    """Whether the imported network gives the outputs of the model itself, for one random input."""
    from nptp_opt.errors import VerificationError
    from nptp_opt.verification.import_check import check_import

    try:
        check_import(model)
    except VerificationError as error:
        return {"same": False, "why": str(error)}
    return {"same": True}


def shares(network: Any) -> Row:
    """What part of the FLOP is partitioned, of all layers and of the convolutions."""
    convolutions = [
        layer
        for layer in network.layers
        for node in layer.nodes[:1]
        if node.op.startswith("conv") and len(network.params.get(node.params["weight"], ())) >= 3
    ]
    return {
        "layers": len(network.layers),
        "gflop": sum(layer.flop for layer in network.layers) / 1e9,
        "partitioned": cut_share(network.layers),
        "convolutions": cut_share(convolutions),
        "whole": sorted({node.op for layer in network.head for node in layer.nodes}),
    }


def verified(model: Any) -> Row:
    """The plan strip-equal on two devices, held against the import and against the model."""
    from nptp_opt.cluster import Cluster
    from nptp_opt.planner import PlanOptions, plan_network
    from nptp_opt.verification.torch_check import verify_plan

    devices = [
        {"name": name, "gflops": 10.0, "up_mbit_per_s": 1000.0, "down_mbit_per_s": 1000.0}
        for name in ("left", "right")
    ]
    cluster = Cluster(network={"kind": "switched"}, devices=devices)
    started = time.perf_counter()
    plan = plan_network(model.ref, model.network, cluster, PlanOptions("strip-equal"))
    planned = time.perf_counter()
    report = verify_plan(plan, model)
    return {
        "plan_s": planned - started,
        "verify_s": time.perf_counter() - planned,
        "ok": report.ok,
        "max_rel_error": report.to_json()["max_rel_error_float64"],
        "faults": [str(fault) for fault in report.faults][:3],
    }


def in_process(name: str, verify: bool, limit_s: float) -> Row:
    """One model's row from a process of its own, a fork of this one."""
    fork = multiprocessing.get_context("fork")
    ours, theirs = fork.Pipe(duplex=False)
    load, child = os.getloadavg()[0], fork.Process(target=_answer, args=(theirs, name, verify))
    child.start()
    theirs.close()
    row: Row = {"failed": f"no answer in {limit_s:g} s"}
    if ours.poll(limit_s):
        try:
            row = ours.recv()
        except EOFError:
            row = {"failed": "the process died"}
    child.kill()
    child.join()
    return {"model": name, "load": load, **row}


def _answer(pipe: Any, name: str, verify: bool) -> None:
    warnings.simplefilter("ignore")
    try:
        pipe.send(measured(name, dict(listed())[name], verify))
    except Exception as error:  # noqa: BLE001 - a model, or its maker, may raise anything
        last = (str(error).splitlines() or [""])[-1]
        pipe.send({"failed": f"{type(error).__name__}: {last}"[:400]})


def warm() -> None:
    """Import what every model needs, so that no child has to."""
    from nptp_opt.network.zoo import make_torchvision_importable

    make_torchvision_importable()
    for module in ("timm", "nptp_opt.network.from_export", "nptp_opt.verification.torch_check"):
        importlib.import_module(module)


def markdown(about: Row, rows: list[Row]) -> str:
    good = [row for row in rows if "import_s" in row]
    checked = [row for row in good if "ok" in row]
    lines = [
        "# Models that people use",
        "",
        f"`python benchmarks/model_zoo.py run`; {about['cpu']}, {about['cores']} cores, torch "
        f"{about['versions']['torch']}, commit {about['commit'][:12]}, {about['date']}; "
        "the load is in the table.",
        "",
        f"{len(good)} of {len(rows)} models import, "
        f"{sum(row['import_s'] <= TARGETS['import_s'] for row in good)} of them within "
        f"{TARGETS['import_s']:g} s; the outputs of {sum(row['same'] for row in good)} are the "
        f"model's own; {sum(row['ok'] for row in checked)} of {len(checked)} verify.",
        "",
        "| model | import s | CPU s | load | GFLOP | partitioned | of convolutions "
        "| same outputs | verified |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    return "\n".join(lines + [_line(row) for row in rows]) + "\n"


def _line(row: Row) -> str:
    if "import_s" not in row:
        why = row.get("refused") or row.get("failed")
        return f"| {row['model']} | {why} | | {row['load']:.1f} | | | | | |"
    answer = {True: f"yes, {row.get('max_rel_error')}", False: "no", None: ""}[row.get("ok")]
    return (
        f"| {row['model']} | {row['import_s']:.1f} | {row['cpu_s']:.1f} | {row['load']:.1f} "
        f"| {row['gflop']:.2f} | {row['partitioned']:.3f} | {row['convolutions']:.3f} "
        f"| {'yes' if row['same'] else 'no'} | {answer} |"
    )


def run(only: list[str], verify: bool, limit_s: float) -> None:
    """Every model of the list, or those named, one after the other; earlier rows are kept."""
    before = (kept("model_zoo") or {"models": []})["models"] if only else []
    rows = {row["model"]: row for row in before}
    about = provenance()
    warm()
    for name, _ in listed():
        if only and name not in only:
            continue
        rows[name] = in_process(name, verify, limit_s)
        print(json.dumps(rows[name]), flush=True)
        found = [rows[each] for each, _ in listed() if each in rows]
        content = {**about, "targets": TARGETS, "models": found}
        save("model_zoo", content, markdown(about, found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("install").add_argument("folder", type=Path)
    every = commands.add_parser("run")
    add_record(every)
    every.add_argument("--verify", action="store_true")
    every.add_argument("--only", nargs="*", default=[])
    every.add_argument("--limit-s", type=float, default=LIMIT_S)
    given = parser.parse_args()
    if given.command == "install":
        install(given.folder)
    else:
        run(given.only, given.verify, given.limit_s)


if __name__ == "__main__":
    main()
