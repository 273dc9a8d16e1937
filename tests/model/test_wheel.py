"""The timer wheel against the table in kernel/time/timer.c and against a plain search."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.model import wheel

HZ_250_LEVELS = [(0, 0), (62, 0), (63, 1), (503, 1), (504, 2), (4031, 2), (4032, 3), (32255, 3), (32256, 4), (1 << 30, 8)]


@pytest.mark.parametrize(("delta", "level"), HZ_250_LEVELS)
def test_the_levels_begin_where_the_kernels_do(delta: int, level: int) -> None:
    assert wheel.level(delta) == level


@given(now=st.integers(1, 1 << 40), delta=st.integers(0, 1 << 24))
def test_a_timer_is_never_early_and_late_by_an_eighth_at_most(now: int, delta: int) -> None:
    fires = wheel.set_at(now, delta)
    assert now + delta < fires
    assert fires - (now + delta) <= max(1, delta / 7)


@given(now=st.integers(1, 1 << 40), delta=st.integers(0, 1 << 20))
def test_it_fires_when_its_bucket_is_emptied(now: int, delta: int) -> None:
    width = 8 ** wheel.level(delta)
    fires = wheel.set_at(now, delta)
    assert fires % width == 0 and fires - width <= now + delta < fires
