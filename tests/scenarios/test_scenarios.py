"""The whole suite on this kernel: every scenario is told right, also where the kernel gives no reasons."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from rich.console import Console

from tests.scenarios import causes, foreign
from tests.scenarios.every import SCENARIOS
from tests.scenarios.judge import Result
from tests.scenarios.report import report
from tests.scenarios.runner import run

pytestmark = [pytest.mark.kernel, pytest.mark.slow]


def told(results: Sequence[Result]) -> str:
    """The report, as a person reads it."""
    console = Console(width=160, color_system=None)
    with console.capture() as captured:
        console.print(report(results))
    return captured.get()


def test_every_scenario_is_told_right() -> None:
    results = run(list(SCENARIOS.values()))
    assert len(results) >= 40
    assert not [one.name for one in results if not one.passed], told(results)


def test_causes_are_inferred_right_where_the_kernel_gives_no_reasons() -> None:
    of_causes = {causes.__name__, foreign.__name__}
    results = run([one for one in SCENARIOS.values() if one.play.__module__ in of_causes], reasonless=True)
    assert not [one.name for one in results if not one.passed], told(results)
