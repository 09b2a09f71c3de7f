"""The viewer's document: a plan worked out by hand, and what every plan's document has."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nptp_opt.evaluate.simulate import timeline
from nptp_opt.geometry import Tile
from nptp_opt.plot.viewer.data import VIEWER_SCHEMA, viewer_data
from nptp_opt.plot.viewer.measured import MeasuredRun, MeasuredSpan, load_trace
from nptp_opt.runtime.profiling.timeline import chrome_trace
from tests.builders import conv_chain, make_cluster
from tests.plot.viewer.plans import plan_of, spans_of, two_devices
from tests.runtime.plans import five_devices, hand_plan, model_of, tee

PAGE = Path(__file__).parents[3] / "docs" / "viewer.md"


def shown(**options: Any) -> dict[str, Any]:
    (plan,) = viewer_data({"p.json": two_devices(**options)})["plans"]
    return dict(plan)


def test_the_timeline_by_hand() -> None:
    """d1 has its 5 rows (640 bytes) at 0.5 s and computes until 1.5; d0 computes until 1 and waits
    for d1's row, sent at 1.5, until 1.6. d1 ends at 2.5 and its 4 rows are at d0 at 2.9.

    That is the critical path: 0.5 s of sending, 1 + 1 s of d1, 0.4 s of sending.
    """
    plan = shown()
    tasks = [(s["step"], s["device"], s["start_s"], s["end_s"]) for s in plan["timeline"]
             if "peer" not in s]  # fmt: skip
    assert sorted(tasks) == [
        (0, 0, 0.0, 1.0), (0, 1, 0.5, 1.5), (1, 0, 1.6, 2.6), (1, 1, 1.5, 2.5), (2, 0, 2.9, 2.9),
    ]  # fmt: skip
    sent = [(s["step"], s["device"], s["peer"], *s["link_s"]) for s in plan["timeline"]
            if "peer" in s]  # fmt: skip
    assert sorted(sent) == [(0, 0, 1, 0.0, 0.5), (1, 0, 1, 1.0, 1.1), (1, 1, 0, 1.5, 1.6),
                            (2, 1, 0, 2.5, 2.9)]  # fmt: skip
    path = [(plan["timeline"][p["stretch"]], p["added_s"]) for p in plan["path"]]
    assert [(s["step"], s["device"], added) for s, added in path] == [
        (0, 0, 0.5), (0, 1, 1.0), (1, 1, 1.0), (2, 1, 0.4), (2, 0, 0.0),
    ]  # fmt: skip
    assert all(s["critical"] for s, _ in path)
    assert sum(s["critical"] for s in plan["timeline"]) == len(path)
    assert plan["waits"] == [
        {"device": 0, "step": 1, "start_s": 1.0, "end_s": 1.6, "peer": 1},
        {"device": 0, "step": 2, "start_s": 2.6, "end_s": 2.9, "peer": 1},
        {"device": 1, "step": 0, "start_s": 0.0, "end_s": 0.5, "peer": 0},
    ]
    times = ("start_s", "end_s", "critical_compute_s", "critical_exchange_s")
    assert [tuple(step[key] for key in times) for step in plan["steps"]] == [
        (0.0, 1.5, 1.0, 0.5), (1.0, 2.6, 1.0, 0.0), (2.5, 2.9, 0.0, 0.4),
    ]  # fmt: skip


def test_devices_and_totals_by_hand() -> None:
    """Memory as in tests/evaluate/test_memory.py; d1 may hold 0.002 MiB."""
    plan = shown()
    assert plan["devices"] == [
        {"name": "d0", "busy_s": 2.0, "waiting_s": pytest.approx(0.9), "critical_s": 0.0,
         "sent_bytes": 768, "received_bytes": 640,
         "up_s": 0.6, "down_s": 0.5, "memory_bytes": 2 * 576 + 96 * 16,
         "memory_limit_bytes": None},
        {"name": "d1", "busy_s": 2.0, "waiting_s": 0.5, "critical_s": 2.0,
         "sent_bytes": 640, "received_bytes": 768,
         "up_s": 0.5, "down_s": 0.6, "memory_bytes": 2 * 576 + 72 * 16,
         "memory_limit_bytes": 2097},
    ]  # fmt: skip
    totals = plan["totals"]
    assert (totals["latency_s"], totals["bound_s"], totals["bytes"]) == (2.9, 2.0, 1408)
    assert totals["gap"] == pytest.approx(0.9 / 2.9)
    assert (plan["end_s"], plan["measured"], plan["measured_s"]) == (2.9, None, None)
    assert plan["medium_s"] is None


def test_a_shared_medium_carries_what_all_send_by_hand() -> None:
    """1408 bytes at 1280 bytes/s, the rate that the links have above."""
    shared = two_devices(shared=True)
    (plan,) = viewer_data({"p": shared})["plans"]
    assert plan["medium_s"] == pytest.approx(1408 / shared.cluster.network.bytes_per_s)
    assert [(d["up_s"], d["down_s"]) for d in plan["devices"]] == [(None, None)] * 2


def test_maps_and_transfers_by_hand() -> None:
    """Who owns, needs and sends what before the second convolution: a row to each side."""
    before = shown()["steps"][1]
    whole = {"channels": 4, "height": 8, "width": 8}
    halves = [[0, 0, 4, 0, 8], [1, 4, 8, 0, 8]]
    assert before["maps"] == [
        {"tensor": "conv0", "role": "input", **whole, "owned": halves,
         "needs": [[0, 0, 5, 0, 8], [1, 3, 8, 0, 8]]},
        {"tensor": "conv1", "role": "output", **whole, "owned": halves},
    ]  # fmt: skip
    assert before["transfers"] == [
        {"from": 1, "to": 0, "tensor": "conv0", "tile": [4, 5, 0, 8], "bytes": 128},
        {"from": 0, "to": 1, "tensor": "conv0", "tile": [3, 4, 0, 8], "bytes": 128},
    ]


def test_a_fused_step_tells_what_is_computed_twice() -> None:
    """Of the inner map d0 computes rows 0 to 5 and d1 rows 3 to 8: rows 3 and 4 twice."""
    fused = shown(fuse=2)["steps"][0]
    assert fused["layers"] == ["conv0", "conv1"]
    (inner,) = (m for m in fused["maps"] if m["role"] == "inner")
    assert inner["tensor"] == "conv0"
    assert inner["computed"] == [[0, 0, 5, 0, 8], [1, 3, 8, 0, 8]]
    assert inner["repeated"] == [[3, 5, 0, 8]]
    assert [move["tile"] for move in fused["transfers"]] == [[2, 8, 0, 8]]


def test_added_seconds_of_steps_sum_to_the_latency() -> None:
    """On one medium, with queues, latencies and messages that are handed over, whose time is no
    wait."""
    cluster = make_cluster((0.01,) * 4, rates=2.0, shared=True, latency_ms=0.2, message_ms=0.1)
    network = conv_chain((1, 3, 24, 24), [{}, {"stride": 2}, {}])

    def quarters(height: int, width: int) -> dict[int, Tile]:
        return {i: Tile(i * height // 4, (i + 1) * height // 4, 0, width) for i in range(4)}

    (plan,) = viewer_data({"p": plan_of(network, cluster, quarters)})["plans"]
    added = sum(s["critical_compute_s"] + s["critical_exchange_s"] for s in plan["steps"])
    assert added == pytest.approx(plan["totals"]["latency_s"], abs=1e-7)
    assert plan["waits"] and all(wait["peer"] is not None for wait in plan["waits"])
    for i, device in enumerate(plan["devices"]):
        own = [s for s in plan["timeline"] if s["device"] == i]
        handed = 1e-4 * sum("peer" in s for s in own)
        last = max((s["start_s"] if "peer" in s else s["end_s"]) for s in own)
        assert device["busy_s"] + device["waiting_s"] + handed == pytest.approx(last, abs=1e-7)


def test_a_reduction_sends_partials_which_are_no_part_of_its_map() -> None:
    """The arrows go from owner to user of the map that is reduced."""
    plan = hand_plan(model_of("squeeze"), "squeeze", tee, five_devices())
    (found,) = viewer_data({"p": plan})["plans"]
    reductions = [step for step in found["steps"] if step["kind"] == "global"]
    moves = [move for step in reductions for move in step["transfers"]]
    assert moves and all(move["tile"] is None and move["bytes"] > 0 for move in moves)
    for step in reductions:
        inputs = {m["tensor"]: m for m in step["maps"] if m["role"] == "input"}
        for move in step["transfers"]:
            assert move["from"] in {tile[0] for tile in inputs[move["tensor"]]["owned"]}


def test_a_run_is_shown_beside_its_prediction(tmp_path: Path) -> None:
    """Spans go through the trace's file and come back in seconds; what is flushed after the last
    step is no part of the latency, but of the axis."""
    plan = two_devices()
    path = tmp_path / "trace.json"
    path.write_text(json.dumps(chrome_trace(plan, spans_of(plan))))
    run = load_trace(path, plan)
    spans = run.spans
    assert spans[0] == MeasuredSpan("send", 0, 0, 0.0, 0.01, 1)
    assert spans[-1] == MeasuredSpan("compute", 0, 1, 0.5, 1.5)
    content = viewer_data({"p.json": plan, "q.json": two_devices(fuse=2)}, {"p.json": run})
    first, second = content["plans"]
    assert (first["measured_s"], first["end_s"], content["end_s"]) == (2.7, 3.0, 3.25)
    assert first["slower"] == [{"device": 0, "seconds": pytest.approx(0.1)}]  # step 1 in 1.1 s
    assert first["measured"][3] == {
        "phase": "wait", "step": 1, "device": 0, "start_s": 1.01, "end_s": 1.6, "peer": 1,
    }  # fmt: skip
    assert first["measured"][5]["step"] is None
    assert (second["measured"], second["void"], first["void"]) == (None, None, False)
    path.write_text(json.dumps(chrome_trace(plan, spans_of(plan), void=True)))
    assert load_trace(path, plan).void


def _keys(value: Any) -> Iterator[str]:
    for each in value.values() if isinstance(value, dict) else value:
        if isinstance(each, (dict, list)):
            yield from _keys(each)
    if isinstance(value, dict):
        yield from value


def test_the_document_has_the_keys_of_its_page() -> None:
    """docs/viewer.md lists every key, and no other; numbers are numbers."""
    plan = two_devices(fuse=2)
    stretch = timeline(plan.network, plan.cluster, plan.steps)[0]
    spans = [MeasuredSpan("send", 0, 0, stretch.start_s, stretch.end_s, 1)]
    spans.append(MeasuredSpan("compute", 0, 0, 0.0, 99.0))  # a device that is slower
    content = viewer_data({"p": plan}, {"p": MeasuredRun(tuple(spans))})
    assert content["schema"] == VIEWER_SCHEMA == "nptp-opt/viewer/1"
    table = PAGE.read_text(encoding="utf-8").split("\n## The document")[1]
    cells = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    named = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    assert named == set(_keys(content))
    assert json.loads(json.dumps(content, allow_nan=False)) == content
