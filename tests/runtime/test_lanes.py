"""Inputs beside each other on one device: one computes, the oldest first, and none mixes."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
import torch

from nptp_opt.kernels.executors.choice import Chosen
from nptp_opt.runtime.device_program import device_program
from nptp_opt.runtime.trace import Recorder
from nptp_opt.runtime.transport.control import Message
from nptp_opt.runtime.transport.packing import Packing
from nptp_opt.runtime.worker.device import DeviceRun
from nptp_opt.runtime.worker.lanes import Lanes, LaneTransport, Turns
from tests.runtime.plans import five_devices, halves, hand_plan, model_of


def test_one_at_a_time_and_the_oldest_first() -> None:
    """Whoever wishes while another computes gets the turn in the order of the inputs."""
    turns, order, inside = Turns(), list[int](), threading.Lock()

    def compute(number: int) -> None:
        with turns.of(number):
            assert inside.acquire(blocking=False)
            order.append(number)
            inside.release()

    with turns.of(0):
        threads = [threading.Thread(target=compute, args=(number,)) for number in (3, 1, 2)]
        for thread in threads:
            thread.start()
        while len(turns._wishing) < 3:
            time.sleep(1e-3)
    for thread in threads:
        thread.join()
    assert order == [1, 2, 3]


def test_a_turn_ends_with_an_exception() -> None:
    turns = Turns()
    for number in range(2):
        try:
            with turns.of(number):
                raise KeyError
        except KeyError:
            pass
    assert not turns._taken and not turns._wishing


class _Post:
    """Notes the tags."""

    posts_ahead = False

    def __init__(self) -> None:
        self.tags: list[int] = []

    def receive(self, peer: int, tag: int, buffer: Any, *, shorter: bool = False) -> Any:
        self.tags.append(tag)

    send = receive

    def close(self) -> None: ...


def test_no_two_lanes_share_a_tag() -> None:
    post = _Post()
    for lane in range(3):
        for tag in range(5):
            LaneTransport(post, lane, 3).send(0, tag, torch.empty(0))
    assert len(set(post.tags)) == 15


@pytest.mark.parametrize("ahead", [True, False])
def test_receives_of_the_next_input_are_posted_once_and_ahead_where_that_may_be(
    ahead: bool,
) -> None:
    """Posting them when the input comes took 0.4 ms of a request to VGG-16 on four devices."""
    model = model_of("chain")
    plan = hand_plan(model, "chain", halves, five_devices())
    program, post = device_program(plan, 1), _Post()
    post.posts_ahead = ahead
    run = DeviceRun(
        plan.network, program, LaneTransport(post, 0, 1), {0: 0, 1: 1}, Recorder(),
        chosen=Chosen("torch", {}), packing=Packing(plan.network, "float32", {}),
    )  # fmt: skip
    tags = [message.tag for message in program.receives]
    run.arm_ahead()
    assert tags and post.tags == (tags if ahead else [])
    run.arm({})
    assert post.tags == tags


def test_a_lane_goes_on_after_a_failure() -> None:
    """Which is reported with the input that it was about."""
    done: list[int] = []
    failures: list[tuple[int, str]] = []

    def execute(message: Message) -> None:
        if message["number"] == 1:
            raise ValueError("broken")
        done.append(message["number"])

    lanes = Lanes(2, execute, lambda m, error: failures.append((m["number"], str(error))))
    for number in range(4):
        lanes.put(number % 2, Message("input", {"number": number}))
    lanes.close()
    assert sorted(done) == [0, 2, 3] and failures == [(1, "broken")]
    assert not any(thread.is_alive() for thread in lanes.threads)
