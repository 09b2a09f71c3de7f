"""The program of a device follows from the plan: checked by hand on a chain of two layers."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from nptp_opt.errors import InputError
from nptp_opt.evaluate.assemble import Choice, assemble
from nptp_opt.geometry import Tile
from nptp_opt.network.ref import ModelRef
from nptp_opt.plan.model import Plan
from nptp_opt.runtime.device_program import device_program, participants
from tests.builders import conv_chain, make_cluster


def _plan() -> Plan:
    """8 x 8, two 3x3 convolutions, upper half on d0, lower half on d1, d2 idle."""
    network = conv_chain((1, 2, 8, 8), [{}, {}])
    cluster = make_cluster([1.0, 1.0, 1.0])
    halves = {0: Tile(0, 4, 0, 8), 1: Tile(4, 8, 0, 8)}
    steps = assemble(network, cluster, [Choice((layer,), halves) for layer in network.layers])
    return Plan(ModelRef("chain", (1, 2, 8, 8)), network, cluster, steps, 0.0)


def test_idle_device_takes_no_part() -> None:
    """A device with no tile and nothing to send gets no process."""
    assert participants(_plan()) == (0, 1)


def test_sends_follow_the_task_that_makes_their_rows() -> None:
    """d0 sends five input rows at once, its last row after step 0; d1 its half after step 1."""
    d0, d1 = (device_program(_plan(), i) for i in (0, 1))
    assert [(m.peer, m.step, m.parts[0].tile) for m in d0.first_sends] == [(1, 0, Tile(3, 8, 0, 8))]
    assert [m.parts[0].tile for m in d0.tasks[0].sends] == [Tile(3, 4, 0, 8)]
    assert [m.parts[0].tile for m in d1.tasks[1].sends] == [Tile(4, 8, 0, 8)]
    assert {m.tag for m in d1.receives} == {m.tag for m in (*d0.first_sends, *d0.tasks[0].sends)}


def test_tensors_are_dropped_after_their_last_use() -> None:
    """d0 keeps each map until the step that reads it; the result stays."""
    d0 = device_program(_plan(), 0)
    assert [set(task.keep) for task in d0.tasks] == [{"conv0"}, {"conv1"}, {"conv1"}]
    assert d0.results == ("conv1",)
    assert device_program(_plan(), 1).results == ()


def test_plan_that_ends_elsewhere_is_refused() -> None:
    """The result has to be gathered at the sink."""
    plan = _plan()
    with pytest.raises(InputError, match="does not end with a gather at the sink 'd0'"):
        device_program(replace(plan, steps=plan.steps[:-1]), 0)


def test_sending_what_one_does_not_have_is_refused() -> None:
    """A transfer that leaves before its tensor is made cannot be executed."""
    plan = _plan()
    late = replace(plan.steps[0], transfers=plan.steps[1].transfers)
    with pytest.raises(InputError, match="does not have yet"):
        device_program(replace(plan, steps=(late, *plan.steps[1:])), 0)


def test_worker_needs_nothing_of_the_optimiser() -> None:
    """What a worker imports contains no solver and no planner."""
    code = "import sys, json, nptp_opt.runtime.worker.job; print(json.dumps(list(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = json.loads(out.stdout)
    unwanted = ("pulp", "ortools", "highspy", "nptp_opt.planner", "nptp_opt.solvers", "torchvision")
    assert not [name for name in modules if name.startswith(unwanted)]
