"""Inputs beside each other on one device: one computes, the oldest first, and none mixes."""

from __future__ import annotations

import threading
import time
from typing import Any

import torch

from nptp_opt.runtime.transport.control import Message
from nptp_opt.runtime.worker.lanes import Lanes, LaneTransport, Turns


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

    def receive(self, peer: int, tag: int, buffer: torch.Tensor) -> Any:
        self.tags.append(tag)

    send = receive

    def close(self) -> None: ...


def test_no_two_lanes_share_a_tag() -> None:
    post = _Post()
    for lane in range(3):
        for tag in range(5):
            LaneTransport(post, lane, 3).send(0, tag, torch.empty(0))
    assert len(set(post.tags)) == 15


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
