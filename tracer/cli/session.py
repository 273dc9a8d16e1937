"""A trace at work: the running kernel's records through the model to a table, lines or JSON, until told to stop."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from tracer.cli import options
from tracer.cli.output import Json, Lines, Output, stream_facts
from tracer.cli.signals import Reader, Signals
from tracer.cli.tracing import Tracing, clock_offset_ns
from tracer.model.tracker import Tracker
from tracer.sources.live import Live

TICK_NS: Final = 100_000_000
"""How often time alone is asked for changes, while it may bring some: a stall is one after 0.2 s."""
IDLE_NS: Final = 250_000_000
"""How often while it brings none: whoever tells us to stop does not wait for longer."""
_SECOND: Final = 1_000_000_000


def watch(
    tracing: Tracing,
    output: Output,
    filters: options.Filters,
    interval: float,
    duration: float | None,
    stop: Callable[[], bool] = lambda: False,
    *,
    for_reader: bool = True,
) -> bool:
    """Feeds the model and shows what it finds until `duration` is over, a signal comes, or `stop` says so.

    Whether it was a signal. Raises BrokenPipeError when the reader of standard output goes, if it is `for_reader`.
    """
    tracker = Tracker(filters.selection)
    programs = tracing.programs
    offset = clock_offset_ns()
    missing = {name: found.why for name, found in programs.missing.items()}
    now = time.monotonic_ns()
    end = now + round(duration * _SECOND) if duration else None
    reader = Reader() if for_reader else None
    with Signals() as signals, Live(programs, tracing.layout.reasons, interval) as live:
        output.start(now, stream_facts(offset, filters.words(), programs.attached, missing))
        try:
            draw_at, ticked = now, now
            while not signals.stop and not stop() and (end is None or now < end):
                # before the first scan a screen would say that there is nothing
                tick_at = ticked + (TICK_NS if tracker.stirs else IDLE_NS)
                wake_at = [tick_at, tracker.due_ns(), end, draw_at if output.draws and live.scanned else None]
                for record in live.wait(min(at for at in wake_at if at is not None)):
                    output.take(tracker.feed(record))
                now = time.monotonic_ns()
                if tracker.stirs:
                    tick_at = ticked + TICK_NS
                if now >= min(tick_at, tracker.due_ns() or tick_at):
                    output.take(tracker.tick(now))
                    if tracker.seeks_owners(now):
                        live.hurry()
                    ticked = now
                    if reader is not None:
                        reader.check()
                if output.draws and live.scanned and (now >= draw_at or signals.resized()):
                    output.draw(tracker.screen(now, everything=filters.selection.everything))
                    draw_at = now + round(interval * _SECOND)
            if output.draws:
                output.draw(tracker.screen(now, everything=filters.selection.everything))
        finally:
            totals = {"events": tracker.events, "lost": tracker.lost}
            output.end(time.monotonic_ns(), totals)
    return signals.stop


def output_for(as_json: bool, filters: str, tracing: Tracing, *, samples: bool = False) -> Output:
    """The output that suits standard output: JSON if asked for, a table on a terminal, lines in a pipe."""
    if as_json:
        return Json(clock_offset_ns(), samples=samples)
    if not options.table_is_wanted(as_json):
        return Lines(clock_offset_ns())
    from tracer.cli.live import Table

    return Table(filters, len(tracing.programs.attached), list(tracing.programs.missing))
