"""Plans with bitmasks and pixels, executed: what comes out is what the model computes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from threading import BrokenBarrierError
from typing import Any

import numpy as np
import pytest
import torch

import nptp_opt
from nptp_opt.cost import Transfer, wire
from nptp_opt.evaluate.assemble import Choice, assemble
from nptp_opt.network.ir import Density
from nptp_opt.network.load import LoadedModel
from nptp_opt.network.ref import Pixels
from nptp_opt.plan.document import plan_from_json, plan_to_json
from nptp_opt.plan.model import Plan
from nptp_opt.runtime.launcher.launch import run_plan
from nptp_opt.runtime.launcher.report import make_reference
from nptp_opt.runtime.transport.base import PeerError
from nptp_opt.runtime.transport.packing import Packing
from nptp_opt.runtime.transport.registry import TRANSPORTS
from nptp_opt.runtime.worker.device import DeviceRun
from nptp_opt.verification.static import require_right
from nptp_opt.verification.torch_check import sent_errors, verify_plan
from tests.builders import make_cluster
from tests.network.partitioned import random_tiles, segments
from tests.runtime.grown import grown_model
from tests.runtime.plans import five_devices, hand_plan, in_pieces, model_of, tee
from tests.runtime.ranks import execute

DTYPES = ["float32", "float32", "float16", "bfloat16", "int8"]


def _grown(seed: int) -> LoadedModel:
    """A random network of pixels, most of its maps with a density."""
    rng = Random(seed)
    model = grown_model(seed, rng, 14, 13)
    model = model.of_pixels(Pixels(255.0, (0.4,), (0.2, 0.3, 0.25)) if seed % 3 else None)
    known = [layer.name for layer in model.network.spatial if rng.random() < 0.8]
    maps = [*model.network.inputs, *known]
    return model.of_densities({name: Density(0.5, 0.7, rng.choice([2.0, 8.0])) for name in maps})


def _plan(model: LoadedModel, seed: int) -> Plan:
    rng, choices, devices = Random(seed), list[Choice](), [*range(4)]
    source, sink = (f"d{rng.randrange(4)}" for _ in range(2))
    cluster = make_cluster([1.0] * 4, rates=10.0, source=source, sink=sink)
    cluster = cluster.sending_as(rng.choice(DTYPES))  # type: ignore[arg-type]
    for layers in segments(model.network, rng):
        if layers[-1].kind == "global":
            choices.append(Choice(layers))
            continue
        tiles = random_tiles(layers[-1].full, 2, rng)
        rng.shuffle(devices)
        choices.append(Choice(layers, dict(zip(devices, tiles, strict=False))))
    steps = assemble(model.network, cluster, choices)
    plan = Plan(model.ref, model.network, cluster, steps, 0.0)
    return in_pieces(plan) if rng.random() < 0.5 else plan


@pytest.mark.parametrize("seed", range(8))
def test_random_plans_give_the_models_output(seed: int) -> None:
    """Bitmasks, Huffman codes and pixels with every transfer type, overlap, joins and reductions;
    the densities are not those of the inputs, so some messages go dense."""
    model = _grown(seed)
    random = np.random.default_rng(seed)
    shape = model.network.shapes[model.network.inputs[0]]
    inputs = [torch.from_numpy(random.integers(0, 256, shape).astype(np.float32)) for _ in range(2)]
    references = [make_reference(model, x) for x in inputs]
    encodings = set()
    for number in range(4):
        plan = _plan(model, 1000 * seed + number)
        encodings |= {move.encoding for step in plan.steps for move in step.transfers}
        answers, _ = execute(plan, model, inputs)
        for reference, outputs in zip(references, answers, strict=True):
            lossy = 0.0
            if plan.cluster.transfer_dtype != "float32":
                lossy = 2 * sent_errors(plan, model, reference.inputs).relative
            error, ok = reference.error(outputs, lossy)
            assert ok, (number, plan.cluster.transfer_dtype, error)
    assert {"bitmask", "huffman"} & encodings


def _sampled(folder: Path) -> tuple[LoadedModel, Plan]:
    loaded = nptp_opt.load_model("tests.models:small_cnn", (1, 3, 24, 24), input_dtype="uint8",
                                 scale=255, mean=(0.5, 0.4, 0.45), std=0.25)  # fmt: skip
    random = np.random.default_rng(0)
    for k in range(3):
        pixels = random.integers(0, 256, (1, 3, 24, 24), dtype=np.uint8)
        np.save(folder / f"{k}.npy", pixels)
    cluster = make_cluster([0.02] * 3, rates=20.0)
    plan = nptp_opt.solve(loaded, cluster, samples=folder, planner="strip-equal", bound=False)
    return loaded, plan


@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_run_says_what_was_sent_and_what_dense_would_have_been(
    tmp_path: Path, transport: str
) -> None:
    """One process per device; the bytes are those of the samples to a few per cent."""
    loaded, plan = _sampled(tmp_path)
    report = run_plan(plan, loaded, repeats=2, warmup=1, transport=transport)
    assert report.ok and report.max_abs_error < 1e-4
    assert report.bytes == pytest.approx(plan.transfer_bytes, rel=0.1)
    content = report.to_json()
    assert content["dense_bytes"] == plan.dense_bytes > report.bytes == content["bytes"]


def test_plans_with_encodings_are_read_verified_and_held_to_what_they_say(tmp_path: Path) -> None:
    """What is coded made dense, or bytes that are not the expected ones, are faults on paper."""
    loaded, plan = _sampled(tmp_path)
    content = plan_to_json(plan)
    read = plan_from_json(content)
    assert read == plan
    assert verify_plan(read, loaded).ok
    require_right(read, loaded.network, "plan")
    said = [t for s in content["segments"] for t in s["transfers"] if "encoding" in t]
    assert said and {t["encoding"] for t in said} == {"huffman"}
    for change in ({"encoding": "dense"}, {"bytes": 5}):
        wrong = _with_first_coded(plan, change)
        assert any("no halo" in fault for fault in verify_plan(wrong, loaded).faults)
    said[0]["encoding"] = "zip"
    with pytest.raises(nptp_opt.InputError, match="encoding"):
        plan_from_json(content)


def _with_first_coded(plan: Plan, change: dict[str, Any]) -> Plan:
    """The plan whose first coded transfer is changed."""
    for k, step in enumerate(plan.steps):
        for place, move in enumerate(step.transfers):
            if move.encoding != "dense":
                moves = [*step.transfers]
                moves[place] = replace(move, **change)
                steps = [*plan.steps]
                steps[k] = replace(step, transfers=tuple(moves))
                return replace(plan, steps=tuple(steps))
    raise AssertionError("nothing is coded")


def test_densities_outside_0_to_1_are_no_plan(tmp_path: Path) -> None:
    _, plan = _sampled(tmp_path)
    name = next(iter(plan.network.densities))
    for key, value in (("mean", 0.0), ("mean", 1.2), ("p90", -1.0), ("first_byte_bits", 0.0),
                       ("first_byte_bits", 8.1)):  # fmt: skip
        content = plan_to_json(plan)
        content["network"]["densities"][name][key] = value
        with pytest.raises(nptp_opt.InputError, match="densities"):
            plan_from_json(content)


def _more_marked(sent: np.ndarray, head: np.ndarray) -> np.ndarray:
    """The mask of the first part marks an element more: its first that is zero."""
    mask = sent[8 * len(head) :]
    place = int(np.flatnonzero(mask != 0xFF)[0])
    mask[place] |= mask[place] + 1
    return sent


def _longer(sent: np.ndarray, head: np.ndarray) -> np.ndarray:
    """Eight bytes follow on the last part, and the length has them."""
    longer = np.concatenate([sent, np.zeros(8, np.uint8)])
    longer[:8].view(np.int64)[0] += 8
    return longer


def _changed(place: int, by: int) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    def change(sent: np.ndarray, head: np.ndarray) -> np.ndarray:
        head[place] += by
        return sent

    return change


LIES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "the message says": _changed(0, 8),
    "the mask marks": _more_marked,
    "values of": _changed(1, 10**6),
    "needs|the mask marks|follow on": _changed(1, 2),
    "follow on the last": _longer,
}


@pytest.mark.parametrize("why", LIES)
def test_a_broken_message_ends_the_run(monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    """A sender whose lengths or masks lie counts as lost, and the other devices end, too."""
    model = model_of("chain")
    names = [layer.name for layer in model.network.spatial]
    model = model.of_densities(dict.fromkeys(names, Density(0.4, 0.4)))
    plan = hand_plan(model, "chain", tee, five_devices())
    assert any(move.encoding == "bitmask" for step in plan.steps for move in step.transfers)
    honest, told = Packing._write_coded, list[str]()

    def lying(self: Packing, *args: Any) -> Any:
        sent = honest(self, *args)
        head = sent[: 8 * (1 + len(args[0].parts))].view(np.int64)
        return LIES[why](sent, head) if head[1] > 0 else sent

    lose = DeviceRun._arrived

    def noted(self: DeviceRun, message: Any) -> Any:
        try:
            return lose(self, message)
        except PeerError as error:
            told.append(str(error))
            raise

    monkeypatch.setattr(Packing, "_write_coded", lying)
    monkeypatch.setattr(DeviceRun, "_arrived", noted)
    (shape,) = (model.network.shapes[name] for name in model.network.inputs)
    with pytest.raises((PeerError, BrokenBarrierError)):
        execute(plan, model, [torch.randn(shape)])
    assert told and all("broken message" in each and re.search(why, each) for each in told)


def test_who_sends_pixels_between_the_same_devices_may_send_maps_beside_them() -> None:
    """A transfer of the input and one of a map in one message, each in its own bytes."""
    model = _grown(1)
    (image,) = model.network.inputs
    cluster = make_cluster([1.0] * 2, rates=10.0)
    move = wire(cluster, model.network, image).transfer(0, 1, image, model.network.full(image))
    assert isinstance(move, Transfer) and move.encoding == "bitmask"
    elements = torch.Size(model.network.shapes[image]).numel()
    assert move.bytes == -(-elements * 5 // 8) + 32
