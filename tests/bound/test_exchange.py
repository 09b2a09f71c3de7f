"""The linear programme of one device against all others, worked by hand.

One layer, two devices of equal weight. The device has 1 s of work, all of it; s is its share and
b = 1 - s the other's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest

from nptp_opt.bound import exchange
from nptp_opt.bound.exchange import Exchange
from tests.builders import make_cluster

EXACT = 1e-4
SECOND = 1e6
"""Bytes that 8 Mbit/s take a second for."""


@dataclass(frozen=True)
class Given:
    """What differs from a source that computes in 1 s what takes the other none, free links."""

    own_s: float = 1.0
    others_s: float = 0.0
    rest_s: float = 0.0
    sizes: tuple[float, float] = (0.0, 0.0)
    per_output: float = 1.0
    off_s: float = 0.0
    tail_s: float = 0.0
    has_input: bool = True
    collected: bool = False
    shared: bool = True
    source: int = 0
    sink: int = 0

    def least_s(self) -> float:
        ends = {"source": f"d{self.source}", "sink": f"d{self.sink}"}
        cluster = make_cluster((1.0, 1.0), rates=8.0, shared=self.shared, **ends)
        return Exchange(
            cluster=cluster,
            device=0,
            own_s=np.array([0.0, self.own_s]),
            others_s=np.array([0.0, self.others_s]),
            rest_s=self.rest_s,
            weight=0.5,
            per_output=np.array([self.per_output]),
            read=np.array([1.0]),
            sizes=np.array(self.sizes),
            off_s=self.off_s,
            tail_s=self.tail_s,
            has_input=self.has_input,
            collected=self.collected,
        ).least_s()


BOTH_WAYS = Given(sizes=(SECOND, 0.5 * SECOND), collected=True, tail_s=0.1)
SINK = Given(source=1, others_s=2.0, off_s=0.2, collected=True)


@pytest.mark.parametrize(
    ("given", "least_s"),
    [
        # T >= 100 s and, with half of the weight each, 0.5 b <= 0.5 T.
        (Given(own_s=100.0, others_s=0.5), 100 / 101),
        # 1 - b = T and, there and back, 1.5 b = T - 0.1.
        (BOTH_WAYS, 0.64),
        # 1 - b = T and b = T - 0.1: the result has a way of its own.
        (replace(BOTH_WAYS, shared=False), 0.55),
        # Half of the input is enough: b = T - 0.1, on the medium.
        (replace(BOTH_WAYS, per_output=0.5), 0.55),
        # Nothing comes back: b = T - 0.1.
        (replace(BOTH_WAYS, collected=False), 0.55),
        # s = T - 0.2 and 2 b = 0.5 T.
        (SINK, 0.96),
        # All together: 0.3 + 0.5 s + 2 b = T, where s = T - 0.2.
        (replace(SINK, rest_s=0.3), 1.04),
        # The other one collects: what the device computes goes there: r = T - 0.4 and b = 0.5 T.
        (Given(others_s=1.0, sizes=(0.0, SECOND), sink=1, collected=True, tail_s=0.4), 1.4 / 1.5),
        # Nobody waits for an input where there is none: 0.5 b <= 0.5 T alone.
        (Given(own_s=100.0, others_s=0.5, sizes=(1e9, 0.0), has_input=False), 100 / 101),
    ],
)
def test_the_least_time_by_hand(given: Given, least_s: float) -> None:
    assert given.least_s() == pytest.approx(least_s, rel=EXACT)


def test_where_the_solver_fails_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "linprog", lambda *_, **__: SimpleNamespace(status=4, fun=1.0))
    assert Given().least_s() == 0.0
