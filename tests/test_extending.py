"""The extension guide's own code, run as a plug-in of another package would be."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType

import pytest

import nptp_opt as nptp
from nptp_opt.kernels.executors import EXECUTORS
from nptp_opt.layer.registry import METHODS
from nptp_opt.planner import PLANNERS
from nptp_opt.plugins import Registry
from nptp_opt.solvers.base import BACKENDS
from tests.builders import make_cluster

GUIDE = Path(__file__).parents[1] / "docs" / "extending.md"
POINTS = (
    EntryPoint("halves", "halves:register_planner", "nptp_opt.planners"),
    EntryPoint("first-alone", "first_alone:register_formulation", "nptp_opt.formulations"),
    EntryPoint("halved", "halved:register_executor", "nptp_opt.executors"),
    EntryPoint("broken", "no_such_module_at_all:register", "nptp_opt.planners"),
)


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The guide's modules, found by entry points; registries are as before afterwards."""
    for name, code in re.findall(r"```python\n# (\w+)\.py\n(.*?)```", GUIDE.read_text(), re.S):
        module = ModuleType(name)
        exec(compile(code, f"{GUIDE}:{name}", "exec"), module.__dict__)
        monkeypatch.setitem(sys.modules, name, module)
    registries: tuple[Registry[object], ...] = (  # type: ignore[assignment]
        PLANNERS, METHODS, BACKENDS, EXECUTORS,
    )  # fmt: skip
    kept = [dict(registry._entries) for registry in registries]
    for registry in registries:
        monkeypatch.setattr(registry, "_complete", False)
    monkeypatch.setattr(
        "nptp_opt.plugins.entry_points",
        lambda group: [point for point in POINTS if point.group == group],
    )
    yield
    for registry, entries in zip(registries, kept, strict=True):
        registry._entries.clear()
        registry._entries.update(entries)


@pytest.mark.usefixtures("plugins")
def test_the_guides_planner_plans_and_its_plan_is_right(caplog: pytest.LogCaptureFixture) -> None:
    model = nptp.load_model("tests.models:small_cnn", (1, 3, 33, 29))
    cluster = make_cluster((1.0, 1.0, 1.0))
    with caplog.at_level(logging.WARNING):
        plan = nptp.solve(model, cluster, planner="halves")
    assert nptp.verify(plan, model).ok
    assert {device for step in plan.steps for device in step.tiles} == {0, 1}
    assert "plug-in broken (no_such_module_at_all:register) is left out" in caplog.text


@pytest.mark.usefixtures("plugins")
def test_the_guides_formulation_solves_a_layer() -> None:
    result = nptp.solve_layer("examples/vgg16-conv3_2-n4.json", formulation="first-alone")
    assert result.status == "feasible" and list(result.tiles or ()) == [0]


@pytest.mark.usefixtures("plugins")
def test_the_guides_executor_is_verified_and_found_to_round() -> None:
    """It is near enough for the self-test, and too far from the model for ``verify``."""
    model = nptp.load_model("tests.models:small_cnn", (1, 3, 33, 29))
    plan = nptp.solve(model, make_cluster((1.0, 1.0)), trust_import=True)
    report = nptp.verify(plan, model, executor="halved")
    assert report.executed is not None and 1e-5 < report.executed.errors.relative < 1e-2
    assert any("executor halved" in fault for fault in report.faults)


@pytest.mark.usefixtures("plugins")
def test_a_planner_that_registers_changes_nothing_that_ours_finds() -> None:
    model = nptp.load_model("tests.models:small_cnn", (1, 3, 33, 29))
    cluster = make_cluster((1.0, 1.0))
    assert "halves" in PLANNERS
    plan = nptp.solve(model, cluster, trust_import=True)
    PLANNERS._entries.pop("halves")
    assert nptp.solve(model, cluster, trust_import=True).steps == plan.steps


def test_a_name_that_is_taken_and_one_that_nobody_has_are_errors() -> None:
    registry: Registry[int] = Registry("planner")
    registry.register("one", 1)
    with pytest.raises(ValueError, match="planner 'one' is registered twice"):
        registry.register("one", 2)
    with pytest.raises(nptp.InputError, match=r"unknown planner 'onee'.*Did you mean 'one'"):
        registry.find("onee")
    assert dict(registry) == {"one": 1} and len(registry) == 1
