"""A recording at work: its lines through the model to a table, lines or JSON, at the pace at which it was made or another."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from tracer.cli import options
from tracer.cli.output import Json, Lines, Output
from tracer.cli.signals import Reader, Signals
from tracer.model.selection import Selection
from tracer.model.tracker import Tracker
from tracer.sources.documents import Ended, Started, Told
from tracer.sources.recording import Recording
from tracer.sources.replay import Replay
from tracer.text import printable

DRAW_S: Final = 0.25
WAIT_S: Final = 0.1
"""How long a signal waits at most."""


def play(recording: Recording, speed: float | None, say: Callable[[str], None], *, everything: bool, as_json: bool) -> None:
    """Shows the recording until its end, or a signal. `say` gets what is left out. Raises TcptraceError, BrokenPipeError."""
    unsaid: list[str] = []
    table = options.table_is_wanted(as_json)
    source = Replay(recording, unsaid.append if table else say)  # a table has the terminal to itself
    stage = _Stage(recording.name, speed, everything=everything, as_json=as_json)
    reader = Reader()
    try:
        with Signals() as signals:
            try:
                while not signals.stop and not source.over:
                    for told in source.read(0.0 if stage.is_due_to_draw() else WAIT_S):
                        while not signals.stop and not stage.is_due(told):
                            stage.rest(told)
                            reader.check()
                            stage.draw(signals.resized())
                        stage.take(told)
                    reader.check()
                    stage.draw(signals.resized())
            finally:
                stage.end()
    finally:
        for text in unsaid:
            say(text)
    unsaid.clear()
    source.close()
    for text in unsaid:
        say(text)


class _Pace:
    """The recording's clock: as it was, times `speed`; None: what the last line says, and goes on from there."""

    def __init__(self, speed: float | None, ns: int) -> None:
        self._speed = speed
        self._ns = ns
        self._at = time.monotonic()

    def now(self) -> int:
        """The time in the recording."""
        return self._ns + round((time.monotonic() - self._at) * 1e9 * (self._speed or 1.0))

    def wait_s(self, ns: int) -> float:
        """How long it is until that."""
        return max(0, ns - self.now()) / 1e9 / self._speed if self._speed else 0.0

    def reached(self, ns: int) -> None:
        """A line of that time is shown."""
        if self._speed is None and ns >= self._ns:
            self._ns, self._at = ns, time.monotonic()


class _Stage:
    """The stream that is shown now: each that a recording has gets a model and an output of its own."""

    def __init__(self, name: str, speed: float | None, *, everything: bool, as_json: bool) -> None:
        self._name = name
        self._speed = speed
        self._everything = everything
        self._table = options.table_is_wanted(as_json)
        self._json = Json(0, samples=True) if as_json else None
        self._tracker = Tracker(Selection(everything=everything))
        self._pace = _Pace(speed, 0)
        self._output: Output | None = None
        self._last_ns = 0
        self._draw_at = 0.0

    def is_due(self, told: Told) -> bool:
        """Whether it is time for that."""
        return isinstance(told, Started) or not self._pace.wait_s(told.ns)

    def rest(self, told: Told) -> None:
        """Waits for it, but not for long."""
        time.sleep(min(self._pace.wait_s(told.ns), WAIT_S))

    def take(self, told: Told) -> None:
        """Shows it."""
        if isinstance(told, Started):
            self._start(told)
            return
        if self._output is None:
            return  # nothing is said between an end and the next beginning
        self._pace.reached(told.ns)
        self._last_ns = max(self._last_ns, told.ns)
        if isinstance(told, Ended):
            self._end(told.ns, told.totals)
        else:
            self._output.take(self._tracker.feed(told))

    def is_due_to_draw(self) -> bool:
        """Whether the table is older than it may be."""
        return self._table and time.monotonic() >= self._draw_at

    def draw(self, resized: bool) -> None:
        """Draws if it is time to, or has to be."""
        if self._output is not None and self._table and (resized or self.is_due_to_draw()):
            self._draw(self._pace.now())
            self._draw_at = time.monotonic() + DRAW_S

    def end(self) -> None:
        """The recording ends here, whether or not it says so."""
        self._end(self._last_ns, {"events": self._tracker.events, "lost": self._tracker.lost})

    def _start(self, started: Started) -> None:
        self.end()
        self._tracker = Tracker(Selection(everything=self._everything))
        self._pace = _Pace(self._speed, started.ns)
        self._last_ns = started.ns
        self._output = self._output_for(started)
        self._output.start(started.ns, started.facts | {"clock_offset_ns": started.clock_offset_ns, "replayed": True})

    def _end(self, ns: int, totals: dict[str, object]) -> None:
        output, self._output = self._output, None
        if output is None:
            return
        if self._table:
            output.draw(self._tracker.screen(ns, everything=self._everything))
        output.end(ns, totals | {"replayed": True})

    def _draw(self, ns: int) -> None:
        if self._output is not None:
            self._output.draw(self._tracker.screen(ns, everything=self._everything))

    def _output_for(self, started: Started) -> Output:
        if self._json is not None:
            self._json.move(started.host, started.clock_offset_ns)
            return self._json
        if not self._table:
            return Lines(started.clock_offset_ns)
        from tracer.cli.live import Table

        attached, missing, filters = (started.facts.get(name) for name in ("attached", "missing", "filters"))
        words = f"{filters if isinstance(filters, str) else 'all that was recorded'}, replayed from {printable(self._name)}"
        number = len(attached) if isinstance(attached, list) else 0
        return Table(words, number, list(missing) if isinstance(missing, dict) else [], started.host)
