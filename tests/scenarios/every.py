"""All scenarios: importing a module of stories registers them."""

from __future__ import annotations

from tests.scenarios import causes, forecasts, segments
from tests.scenarios.scenario import SCENARIOS

MODULES = (forecasts, causes, segments)

__all__ = ["MODULES", "SCENARIOS"]
