"""A trace at work: the running kernel's records through the model to a table, lines or JSON, until told to stop."""

from __future__ import annotations

import errno
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
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
) -> bool:
    """Feeds the model and shows what it finds until `duration` is over, a signal comes, or `stop` says so.

    Whether it was a signal. Raises BrokenPipeError.
    """
    tracker = Tracker(filters.selection)
    programs = tracing.programs
    offset = clock_offset_ns()
    missing = {name: found.why for name, found in programs.missing.items()}
    now = time.monotonic_ns()
    end = now + round(duration * _SECOND) if duration else None
    reader = _Reader()
    with _Signals() as signals, Live(programs, tracing.layout.reasons, interval) as live:
        output.start(now, stream_facts(offset, filters.words(), programs.attached, missing))
        try:
            draw_at, tick_at = now, now
            while not signals.stop and not stop() and (end is None or now < end):
                # before the first scan a screen would say that there is nothing
                wake_at = [tick_at, tracker.due_ns(), end, draw_at if live.scanned else None]
                for record in live.wait(min(at for at in wake_at if at is not None)):
                    output.take(tracker.feed(record))
                now = time.monotonic_ns()
                if now >= min(tick_at, tracker.due_ns() or tick_at):
                    output.take(tracker.tick(now))
                    if tracker.seeks_owners(now):
                        live.hurry()
                    tick_at = now + TICK_NS
                    reader.check()
                if live.scanned and (now >= draw_at or signals.resized()):
                    output.draw(tracker.screen(now, everything=filters.selection.everything))
                    draw_at = now + round(interval * _SECOND)
            output.draw(tracker.screen(now, everything=filters.selection.everything))
        finally:
            totals = {"events": tracker.events, "lost": tracker.lost}
            output.end(time.monotonic_ns(), totals)
    return signals.stop


def output_for(as_json: bool, filters: str, tracing: Tracing) -> Output:
    """The output that suits standard output: JSON if asked for, a table on a terminal, lines in a pipe."""
    if as_json:
        return Json(clock_offset_ns())
    if not options.table_is_wanted(as_json):
        return Lines(clock_offset_ns())
    from tracer.cli.live import Table

    return Table(filters, len(tracing.programs.attached), list(tracing.programs.missing))


class _Signals:
    """SIGINT, SIGTERM and SIGHUP ask for an end instead of breaking in: a callback from C could not be broken safely."""

    def __init__(self) -> None:
        self.stop = False
        self._resized = False
        self._before: dict[int, signal._HANDLER] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup means it
                self._before[number] = signal.signal(number, self._end)
        self._before[signal.SIGWINCH] = signal.signal(signal.SIGWINCH, self._resize)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def resized(self) -> bool:
        """Whether the terminal has another size than when this was last asked."""
        was, self._resized = self._resized, False
        return was

    def _end(self, _number: int, _frame: FrameType | None) -> None:
        self.stop = True

    def _resize(self, _number: int, _frame: FrameType | None) -> None:
        self._resized = True


class _Reader:
    """Whoever reads our standard output. One that goes is noticed at once, not with the next line, which may be hours away."""

    def __init__(self) -> None:
        self._poll = select.poll()
        with suppress(OSError):  # no descriptor
            self._poll.register(sys.stdout.fileno(), 0)  # POLLERR comes unasked

    def check(self) -> None:
        """Raises BrokenPipeError if it has gone."""
        if any(found & select.POLLERR for _, found in self._poll.poll(0)):
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
