"""A trace at work: the running kernel's records through the model to a table, lines or JSON, until told to stop."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Final

from tracer.cli import options
from tracer.cli.output import Json, Lines, Output, stream_facts
from tracer.cli.tracing import Tracing, clock_offset_ns
from tracer.model.tracker import Tracker
from tracer.sources.live import Live

if TYPE_CHECKING:
    from typing_extensions import Self

TICK_NS: Final = 100_000_000
"""How often time alone is asked for changes: a stall is one after 0.2 s."""
_SECOND: Final = 1_000_000_000


def watch(
    tracing: Tracing,
    output: Output,
    filters: options.Filters,
    interval: float,
    duration: float | None,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Feeds the model and shows what it finds until `duration` is over, a signal comes, or `stop` says so."""
    tracker = Tracker(filters.selection)
    programs = tracing.programs
    offset = clock_offset_ns()
    missing = {name: found.why for name, found in programs.missing.items()}
    now = time.monotonic_ns()
    end = now + round(duration * _SECOND) if duration else None
    with _Stop() as signalled, Live(programs, tracing.layout.reasons, interval) as live:
        output.start(now, stream_facts(offset, filters.words(), programs.attached, missing))
        try:
            draw_at, tick_at = now, now
            while not signalled.set and not stop() and (end is None or now < end):
                for record in live.wait(min(draw_at, tick_at, tracker.due_ns() or draw_at, end or draw_at)):
                    output.take(tracker.feed(record))
                now = time.monotonic_ns()
                if now >= min(tick_at, tracker.due_ns() or tick_at):
                    output.take(tracker.tick(now))
                    if tracker.seeks_owners(now):
                        live.hurry()
                    tick_at = now + TICK_NS
                if now >= draw_at:
                    output.draw(tracker.screen(now, everything=filters.selection.everything))
                    draw_at = now + round(interval * _SECOND)
            screen = tracker.screen(now)
            output.draw(screen)
        finally:
            totals = {"events": tracker.events, "lost": tracker.lost}
            output.end(time.monotonic_ns(), totals)


def output_for(as_json: bool, filters: str, tracing: Tracing) -> Output:
    """The output that suits standard output: JSON if asked for, a table on a terminal, lines in a pipe."""
    if as_json:
        return Json(clock_offset_ns())
    if not sys.stdout.isatty():
        return Lines(clock_offset_ns())
    from tracer.cli.live import Table

    return Table(filters, len(tracing.programs.attached), list(tracing.programs.missing))


class _Stop:
    """SIGINT and SIGTERM ask for an end instead of breaking in anywhere: a callback from C could not be broken safely."""

    def __init__(self) -> None:
        self.set = False
        self._before: dict[int, signal._HANDLER] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self.set = True
