"""Documents with numbers that nobody writes: an answer or a message, whatever they are.

``NPTP_FUZZ`` is how many times as many documents are tried (``make fuzz``).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nptp_opt.instances.reader import layer_problem_to_json
from nptp_opt.network.load import load_model
from nptp_opt.plan.document import plan_to_json
from nptp_opt.planner import PlanOptions, plan_network
from tests.builders import make_cluster, make_problem
from tests.fuzz.documents import (
    EXTREMES,
    budget,
    changed,
    ends_with_words,
    numbers,
    rehashed,
)


@pytest.fixture(scope="module")
def plan_document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    ref = "tests.models:small_cnn"
    model = load_model(ref, (1, 3, 32, 32))
    cluster = make_cluster((2.0, 1.0), overhead_ms=0.1)
    return plan_to_json(plan_network(model.ref, model.network, cluster, PlanOptions("column-dp")))


@budget(60)
@given(data=st.data())
def test_a_plan_with_any_number_is_verified_or_refused(
    data: st.DataObject, plan_document: dict[str, Any], tmp_path: Path
) -> None:
    place = data.draw(st.sampled_from(numbers(plan_document)))
    value = data.draw(st.sampled_from(EXTREMES))
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(rehashed(changed(plan_document, place, value))))
    ends_with_words(["verify", path])


@budget(60)
@given(data=st.data())
def test_a_layer_with_any_number_is_solved_or_refused(data: st.DataObject, tmp_path: Path) -> None:
    document = layer_problem_to_json(make_problem(make_cluster((2.0, 1.0))))
    place = data.draw(st.sampled_from(numbers(document)))
    value = data.draw(st.sampled_from(EXTREMES))
    path = tmp_path / "instance.json"
    path.write_text(json.dumps(changed(document, place, value)))
    ends_with_words(["solve-layer", path, "--time-limit", "1"])
