"""Traces that are none, or of another plan, are refused in one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nptp_opt.errors import InputError
from nptp_opt.plot.viewer.measured import load_trace
from nptp_opt.runtime.profiling.timeline import MEASURED, chrome_trace
from tests.plot.viewer.plans import spans_of, two_devices


def trace(**change: Any) -> dict[str, Any]:
    """A trace of ``two_devices``, its first measured span changed."""
    plan = two_devices()
    content = chrome_trace(plan, spans_of(plan))
    first = next(e for e in content["traceEvents"] if (e["ph"], e["pid"]) == ("X", MEASURED))
    first |= change
    return content


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([], "must be an object"),
        ({}, "traceEvents: Field required"),
        ({"traceEvents": 3}, "traceEvents: must be a list"),
        ({"traceEvents": []}, "is the trace of another plan"),
        (trace(tid=7), "of a device that the plan does not have"),
        (trace(args={"step": 0, "peer": "nobody"}), "of a device that the plan does not have"),
        (trace(args={"step": 99}), "of a step that the plan does not have"),
        (trace(ts="soon"), "ts: Input should be a valid number"),
        (trace(dur=1e300), "dur: Input should be less than or equal"),
    ],
)
def test_what_is_no_trace_of_the_plan_is_told(tmp_path: Path, content: Any, said: str) -> None:
    path = tmp_path / "trace.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=said) as caught:
        load_trace(path, two_devices())
    assert str(caught.value).startswith(f"{path}: ")


def test_a_trace_of_another_plan_is_told(tmp_path: Path) -> None:
    """Same devices and layers, but fused: nothing of the trace fits."""
    path = tmp_path / "trace.json"
    path.write_text(json.dumps(trace()))
    assert load_trace(path, two_devices()).spans
    with pytest.raises(InputError, match="another plan; run this one with `nptp-opt run --trace`"):
        load_trace(path, two_devices(fuse=2))


def test_a_trace_without_a_run_is_told(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    path.write_text(json.dumps(chrome_trace(two_devices(), {})))
    with pytest.raises(InputError, match="has no measured spans"):
        load_trace(path, two_devices())
