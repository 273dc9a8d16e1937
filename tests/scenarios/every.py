"""All scenarios: importing a module of stories registers them."""

from __future__ import annotations

from tests.scenarios import (
    causes,
    chains,
    ends,
    forecasts,
    foreign,
    habits,
    healthy,
    holders,
    losses,
    readers,
    silence,
    traffic,
    windows,
)
from tests.scenarios.scenario import SCENARIOS

MODULES = (forecasts, silence, windows, causes, foreign, chains, ends, holders, readers, habits, healthy, losses, traffic)

__all__ = ["MODULES", "SCENARIOS"]
