"""Learned patience: how long a program has borne with stalled peers before it ended such connections itself.

nginx's send_timeout and its like are an application's own clocks, which no kernel timer shows. What a program has done three
times and about alike, it is taken to do again; less than that is nothing known.
"""

from __future__ import annotations

import statistics
from collections import deque
from typing import Final, NamedTuple

from tracer.model.findings import Habit, Outcome

ENOUGH: Final = 3
SIGHTINGS_AT_MOST: Final = 64
PROGRAMS_AT_MOST: Final = 256
WIDEST: Final = 0.5
"""Sightings that lie further apart than this share of their median have no clock in common."""


class _Sighting(NamedTuple):
    stalled_ns: int
    outcome: Outcome


class Patience:
    """Sightings by program and the port that is listened on; bounded, the program seen longest ago makes room."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, int], deque[_Sighting]] = {}

    def saw(self, program: str, port: int, stalled_ns: int, outcome: Outcome) -> None:
        """The program ended a connection of that port whose peer's window had been closed for so long."""
        sightings = self._seen.pop((program, port), None) or deque(maxlen=SIGHTINGS_AT_MOST)
        sightings.append(_Sighting(stalled_ns, outcome))
        self._seen[program, port] = sightings
        if len(self._seen) > PROGRAMS_AT_MOST:
            del self._seen[next(iter(self._seen))]

    def habit(self, program: str, port: int) -> Habit | None:
        """What the program does; None before three sightings, and where they have nothing in common."""
        sightings = self._seen.get((program, port), ())
        if len(sightings) < ENOUGH:
            return None
        lengths = [one.stalled_ns for one in sightings]
        median = round(statistics.median(lengths))
        spread = max(max(lengths) - median, median - min(lengths))
        if spread > WIDEST * median:
            return None
        resets = sum(one.outcome == "reset" for one in sightings)
        return Habit(program, median, spread, len(sightings), "reset" if 2 * resets > len(sightings) else "timeout")
