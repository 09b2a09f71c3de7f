"""A refactoring changes no plan: what twelve small cases did when recorded they do today."""

from __future__ import annotations

import json

import pytest

import nptp_opt as nptp
from tests.planner import recorded

RECORD = json.loads(recorded.RECORD.read_text())
CASES = [*recorded.cases()]


@pytest.mark.parametrize(("model", "cluster", "options"), CASES)
def test_a_plan_is_the_recorded_one(
    model: str, cluster: str, options: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name in recorded.TIMES:
        monkeypatch.setattr(module, name, 1e6)
    loaded = nptp.load_model(model, recorded.MODELS[model])
    plan = recorded.plan_of_case(loaded, cluster, options)
    digest, latency_s = RECORD[f"{model}, {cluster}, {options}"]
    assert plan.latency_s == pytest.approx(latency_s, rel=1e-12)
    assert recorded.digest(plan) == digest
