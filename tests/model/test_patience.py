"""How long programs bear with stalled peers: learned after three sightings, and only where they agree."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import SECOND
from tracer.model.findings import Outcome
from tracer.model.patience import PROGRAMS_AT_MOST, SIGHTINGS_AT_MOST, Patience


def seen(*stalled_s: float, outcome: Outcome = "timeout") -> Patience:
    patience = Patience()
    for one in stalled_s:
        patience.saw("nginx", 443, round(one * SECOND), outcome)
    return patience


@pytest.mark.parametrize("stalled", [(), (60,), (60, 60)])
def test_less_than_three_sightings_are_nothing_known(stalled: tuple[float, ...]) -> None:
    assert seen(*stalled).habit("nginx", 443) is None


def test_three_that_agree_are_a_habit_with_its_spread() -> None:
    habit = seen(59.5, 60, 61.25).habit("nginx", 443)
    assert habit is not None
    assert (habit.program, habit.patience_ns, habit.spread_ns) == ("nginx", 60 * SECOND, round(1.25 * SECOND))
    assert (habit.sightings, habit.outcome) == (3, "timeout")


def test_three_that_have_no_clock_in_common_are_none() -> None:
    assert seen(3, 60, 400).habit("nginx", 443) is None


def test_another_port_or_program_is_another_habit() -> None:
    patience = seen(60, 60, 60)
    assert patience.habit("nginx", 80) is None and patience.habit("haproxy", 443) is None


def test_most_resets_make_a_reset() -> None:
    patience = seen(60, 60, outcome="reset")
    patience.saw("nginx", 443, 60 * SECOND, "timeout")
    habit = patience.habit("nginx", 443)
    assert habit is not None and habit.outcome == "reset"


def test_what_was_long_ago_is_forgotten() -> None:
    patience = seen(*[10] * SIGHTINGS_AT_MOST, *[60] * SIGHTINGS_AT_MOST)
    habit = patience.habit("nginx", 443)
    assert habit is not None and (habit.patience_ns, habit.sightings) == (60 * SECOND, SIGHTINGS_AT_MOST)
    for number in range(PROGRAMS_AT_MOST):
        patience.saw(f"program-{number}", 443, SECOND, "timeout")
    assert patience.habit("nginx", 443) is None


@given(st.lists(st.floats(0.2, 1000), min_size=3, max_size=20))
def test_a_habit_covers_all_that_was_seen(stalled: list[float]) -> None:
    habit = seen(*stalled).habit("nginx", 443)
    if habit is not None:
        for one in stalled:
            assert abs(round(one * SECOND) - habit.patience_ns) <= habit.spread_ns
