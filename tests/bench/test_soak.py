"""A short soak, in every run of the tests: what grows with connections that are gone shows within a minute."""

from __future__ import annotations

import pytest

from tests.bench import soak
from tests.bench.progress import Progress

pytestmark = [pytest.mark.kernel, pytest.mark.slow]


def test_memory_stays_flat_while_connections_come_and_go(capsys: pytest.CaptureFixture[str]) -> None:
    memory, slope = soak.measure(40.0, Progress(), 4_000, stalled=200)
    with capsys.disabled():
        least, most = min(memory.values), max(memory.values)
        print(f"\n{memory.name}: {least:.1f} to {most:.1f} MB, {slope.value:+.0f} MB an hour, {slope.note}")
    assert most <= 180
    # 1,600 connections that stalled and ended would be 5 MB if each were kept
    assert most - least <= 3
