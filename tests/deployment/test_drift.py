"""What is measured becomes figures of the cluster, and not before it has lasted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nptp_opt.cluster import Cluster
from nptp_opt.deployment.drift import Drift
from nptp_opt.deployment.figures import (
    MEDIUM,
    Figure,
    changed,
    in_words,
    rate_of,
    ratio_of,
    scaled,
    settled,
)
from nptp_opt.deployment.link_rates import link_ratios
from nptp_opt.deployment.request import DriftLimits
from nptp_opt.errors import InputError
from nptp_opt.runtime.launcher.pipeline import Carried, Done
from tests.builders import make_cluster

MB = 10**6
LIMITS = DriftLimits(tolerance=0.25, after_s=5.0)


def _boards(**network: bool) -> Cluster:
    """Four devices of 80 Mbit/s, 10 MB/s, or on one medium of that rate."""
    return make_cluster([1, 1, 1, 1], rates=80.0, overhead_ms=2.0, **network)


def _carried(way: str, mb: float, start_s: float, end_s: float) -> Carried:
    """A message ``d0>d1``."""
    src, dst = way.split(">")
    return Carried(src, dst, int(mb * MB), start_s, end_s)


def test_figures_are_scaled_by_name_and_settle_on_the_first_plans() -> None:
    """A slower device's overhead is longer; what is nearly as it was is as it was."""
    first = _boards()
    slow = scaled(first, {Figure("speed", "d2"): 0.5, Figure("up", "d1"): 0.2})
    assert [device.gflops for device in slow.devices] == [1, 1, 0.5, 1]
    assert slow.devices[2].overhead_ms == 4.0
    assert rate_of(slow, Figure("up", "d1")) == pytest.approx(2 * MB)
    assert changed(slow, first) == [Figure("up", "d1"), Figure("speed", "d2")]
    assert in_words(Figure("up", "d1"), slow, first) == "d1 sends at 16 Mbit/s (plan: 80)"
    assert in_words(Figure("speed", "d2"), slow, first) == "d2 computes at 50% of its speed"
    half = settled(scaled(slow, {Figure("up", "d1"): 4.7}), first, 0.25)
    assert changed(half, first) == [Figure("speed", "d2")]
    assert settled(scaled(half, {Figure("speed", "d2"): 2.1}), first, 0.25) is first


def test_what_an_executor_measured_per_layer_is_scaled_too() -> None:
    device = {"name": "d0", "gflops": 2.0, "layers": [
        {"layer": "a", "gflops": 4.0, "overhead_ms": 1.0}]}  # fmt: skip
    cluster = Cluster(network={"kind": "shared", "mbit_per_s": 50.0}, devices=[device])
    (slow,) = scaled(cluster, {Figure("speed", "d0"): 0.5, MEDIUM: 0.1}).devices
    assert slow.layers is not None
    assert (slow.layers[0].gflops, slow.layers[0].overhead_ms) == (2.0, 2.0)


def test_messages_at_the_planned_rate_say_so_also_where_they_share_an_end() -> None:
    """Two at a time to one device take twice as long each, and nothing is slow."""
    messages = [
        _carried("d1>d0", 1, 0.0, 0.2),
        _carried("d2>d0", 1, 0.0, 0.2),
        _carried("d0>d3", 1, 0.3, 0.4),
    ]
    found = link_ratios(messages, _boards(), 0.25)
    assert found.keys() == {Figure("down", "d0"), Figure("up", "d0"), Figure("down", "d3"),
                            Figure("up", "d1"), Figure("up", "d2")}  # fmt: skip
    assert all(ratio == pytest.approx(1.0) for ratio in found.values())


def test_the_link_of_a_device_is_blamed_that_is_slow_to_and_from_all() -> None:
    """Both its ways; the others are cleared by what they exchange among themselves, or by being
    slow with it alone."""
    messages = [
        _carried("d0>d3", 1, 0.0, 0.5),
        _carried("d1>d3", 1, 0.5, 1.0),
        _carried("d3>d0", 1, 1.0, 1.5),
        _carried("d3>d2", 1, 1.5, 2.0),
        _carried("d0>d1", 1, 2.0, 2.1),
        _carried("d2>d0", 1, 2.0, 2.1),
    ]
    found = link_ratios(messages, _boards(), 0.25)
    assert found[Figure("up", "d3")] == pytest.approx(0.2)
    assert found[Figure("down", "d3")] == pytest.approx(0.2)
    assert found[Figure("up", "d0")] == found[Figure("down", "d0")] == pytest.approx(1.0)
    assert not {Figure("up", "d1"), Figure("down", "d2")} & found.keys()


def test_a_link_that_others_take_turns_on_is_measured_by_the_time_it_is_busy() -> None:
    """d3 sends to two at once at a fifth of its rate: 1 MB each in one second, not two."""
    messages = [_carried("d3>d1", 1, 0.0, 1.0), _carried("d3>d2", 1, 0.0, 1.0)]
    assert link_ratios(messages, _boards(), 0.25) == {Figure("up", "d3"): pytest.approx(0.2)}


def test_of_a_single_way_both_ends_are_suspected_and_the_slower_one_first() -> None:
    one = [_carried("d0>d1", 1, 0.0, 0.5)]
    assert link_ratios(one, _boards(), 0.25).keys() == {Figure("up", "d0"), Figure("down", "d1")}
    narrow = scaled(_boards(), {Figure("down", "d1"): 0.5})
    found = link_ratios(one, narrow, 0.25)
    assert found == {Figure("down", "d1"): pytest.approx(0.4)}


def test_a_fast_message_raises_both_ends_that_were_thought_slower() -> None:
    slow = scaled(_boards(), {Figure("up", "d3"): 0.2, Figure("down", "d1"): 0.5})
    found = link_ratios([_carried("d3>d1", 1, 0.0, 0.1)], slow, 0.25)
    assert found == {Figure("up", "d3"): pytest.approx(5), Figure("down", "d1"): pytest.approx(2)}


def test_short_messages_say_nothing() -> None:
    assert link_ratios([_carried("d0>d1", 0.004, 0.0, 0.0001)], _boards(), 0.25) == {}
    assert link_ratios([_carried("d0>d1", 0.004, 0.0, 0.0001)], _boards(shared=True), 0.25) == {}


def test_a_medium_is_measured_by_all_that_it_carries() -> None:
    messages = [_carried("d0>d1", 1, 0.0, 1.0), _carried("d2>d3", 1, 0.5, 1.0)]
    assert link_ratios(messages, _boards(shared=True), 0.25) == {MEDIUM: pytest.approx(0.2)}


def _input(now_s: float, rate: float, busy_s: float = 0.1) -> Done:
    """One that ends at that moment: 1 MB from d0 to d1 at so many times 10 MB/s, and back."""
    half_s = now_s - 0.1 / rate
    messages = (
        _carried("d0>d1", 1, half_s - 0.1 / rate, half_s),
        _carried("d1>d0", 1, half_s, now_s),
    )
    busy = {"d0": 0.1, "d1": busy_s}
    return Done(0, {}, 0.3, now_s, busy, 0.0, {}, {}, lambda: messages)


def _told(drift: Drift, rates: list[float], busy_s: float = 0.1) -> Iterator[tuple[int, str]]:
    """What is found in which second, with an input in each."""
    for second, rate in enumerate(rates):
        drift.note(_input(float(second), rate, busy_s))
        said = drift.found(float(second))
        if said is not None:
            drift.restart({"d0": 0.1, "d1": 0.1})
            yield second, said


def _drift(limits: DriftLimits = LIMITS, *, speeds: bool = False, shared: bool = True) -> Drift:
    drift = Drift(_boards(shared=shared), limits, speeds=speeds)
    drift.restart({"d0": 0.1, "d1": 0.1})
    return drift


def test_a_drift_is_told_once_it_has_lasted_and_once_it_is_over() -> None:
    drift = _drift()
    (down, back) = _told(drift, [1.0] * 3 + [0.2] * 12 + [1.0] * 12)
    assert down == (8, "the medium carries 16 Mbit/s (plan: 80)")
    assert back == (20, "the medium carries 80 Mbit/s (plan: 80)")
    assert drift.believed is drift.first


def test_a_moment_is_no_drift() -> None:
    """Nor are moments again and again, nor what is within the tolerance."""
    assert not [*_told(_drift(), ([0.2] * 4 + [1.0]) * 5)]
    assert not [*_told(_drift(), [0.85] * 20)]
    assert not [*_told(_drift(), [0.5, 2.0] * 10)]


def test_limits_say_how_long_and_how_much() -> None:
    at_once = DriftLimits(tolerance=0.1, after_s=0.0)
    assert [second for second, _ in _told(_drift(at_once), [0.85] * 4)] == [3]
    for field, value in (("tolerance", 0.0), ("after_s", -1.0), ("margin", float("nan"))):
        with pytest.raises(InputError, match=f"drift_{field}"):
            DriftLimits(**{field: value})


def test_inputs_that_come_seldom_are_enough() -> None:
    """Three measurements make a drift, however far apart."""
    drift, said = _drift(), []
    for minute in range(6):
        drift.note(_input(minute * 60.0, 0.2))
        said.append(drift.found(minute * 60.0))
    assert [minute for minute, text in enumerate(said) if text] == [3]


def test_a_device_that_computes_slower_is_found_and_later_given_another_chance() -> None:
    """When no plan uses it, nobody measures it: after a minute, then two, it is tried again."""
    drift = _drift(speeds=True, shared=False)
    ((_, said),) = _told(drift, [1.0] * 10, busy_s=0.2)
    assert said == "d1 computes at 50% of its speed"
    slow = Figure("speed", "d1")
    assert ratio_of(drift.believed, drift.first, slow) == pytest.approx(0.5)
    drift.restart({"d0": 0.1})
    left = [second for second in range(10, 400) if drift.found(float(second))]
    assert left[0] == pytest.approx(69, abs=2) and drift.believed is drift.first
    assert not _drift(speeds=False).found(1e4)


def test_a_link_that_no_message_takes_any_more_is_to_be_probed() -> None:
    """One that is as planned is not, nor one that was just measured."""
    drift = _drift(shared=False)
    ((second, said),) = _told(drift, [0.2] * 8)
    assert said.count("d1") == 2 or said.count("d0") == 2
    assert drift.unseen(second + 2.5, 2.0) == changed(drift.believed, drift.first) != []
    assert drift.unseen(second + 1.0, 2.0) == []
    drift.note_messages((_carried("d0>d1", 1, 20.0, 20.1), _carried("d1>d0", 1, 20.0, 20.1)))
    drift.found(22.0)
    assert drift.unseen(23.0, 2.0) == []
