"""Events come in the order of time, those of one time as they arose: against a sorted list."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from nptp_opt.evaluate.event_queue import has_events, no_events, pop, push

DELAYS = st.lists(st.sampled_from([0.0, 0.0, 0.25, 0.5, 1.0]), max_size=3)


@settings(max_examples=200, deadline=None)
@given(first=DELAYS, later=st.lists(DELAYS, max_size=12))
def test_events_come_as_a_stable_sort_has_them(
    first: list[float], later: list[list[float]]
) -> None:
    """Every event that comes pushes some more, due now or later."""
    heap_s, events, place = no_events(3 * (len(later) + 1) + 1)
    known: list[tuple[float, int]] = []
    found: list[tuple[float, int]] = []

    def arise(now: float, delays: list[float]) -> None:
        for delay in delays:
            push(heap_s, events, place, now, now + delay, 7, len(known))
            known.append((now + delay, len(known)))

    arise(0.0, first)
    now, more = 0.0, iter(later)
    while has_events(place):
        now, kind, item = pop(heap_s, events, place, now)
        assert kind == 7
        found.append((now, item))
        arise(now, next(more, []))
    assert found == sorted(known)
