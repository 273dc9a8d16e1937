"""One stream into several sinks: each line is made and numbered once, so that every sink has the same.

A line that a sink loses is a gap in that sink's `event.sequence`, and nowhere else. Every sink's losses are in the
`events-lost` lines of all, as `tcptrace.lost.by_kind["sink NAME"]`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson

from tracer.export.ecs import Document, Documents
from tracer.export.sinks.sink import Sink
from tracer.model.findings import Notice
from tracer.text import count

FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 60.0
_OPTIONS: Final = orjson.OPT_APPEND_NEWLINE


class Fanout:
    """Takes notices, gives lines to sinks. None of its methods waits for a sink, but `close`."""

    def __init__(self, documents: Documents, sinks: Sequence[Sink], say: Callable[[str], None]) -> None:
        self._documents = documents
        self._sinks = sinks
        self._say = say
        self._kernel: Mapping[str, Mapping[str, int]] = {}
        self._told: dict[str, int] = {}
        self._slow: set[str] = set()
        self._ended: set[str] = set()
        self._check_s = 0.0
        self._next_s = 0.0
        self._pause_s = FIRST_PAUSE_S

    def start(self, ns: int, facts: Mapping[str, Any]) -> None:
        """The first line."""
        self._put_anyway(self._documents.started(ns, facts))

    def take(self, notices: Sequence[Notice]) -> None:
        """A line each, and one that tells of losses where that is due."""
        if notices:
            lines = [self._line(notice) for notice in notices]
            for sink in self._sinks:
                sink.put(lines)
        now = time.monotonic()
        if now >= self._check_s:
            self._check_s = now + FIRST_PAUSE_S
            self._tell_ends()
            self._tell_losses(now)

    def end(self, ns: int, totals: Mapping[str, Any]) -> None:
        """The last line; the sinks hurry from now on."""
        self._tell_losses(time.monotonic(), ending=True)
        sinks = {sink.name: {"lines": sink.written, "lost": sink.lost} for sink in self._sinks}
        self._put_anyway(self._documents.ended(ns, {**totals, "sinks": sinks}))
        for sink in self._sinks:
            sink.hurry()

    def reopen(self) -> None:
        """Every sink's target is closed and opened again."""
        for sink in self._sinks:
            sink.reopen()

    def close(self, seconds: float) -> None:
        """Gives the sinks so long to write what waits."""
        until = time.monotonic() + seconds
        for sink in self._sinks:
            sink.close(until - time.monotonic())

    @property
    def over(self) -> bool:
        """Whether every sink is gone for good."""
        return all(sink.over for sink in self._sinks)

    def _tell_ends(self) -> None:
        """Who ends `tcptrace record | head` knows; but where others go on, one that is gone is worth a word."""
        for sink in self._sinks:
            if sink.over and sink.name not in self._ended and not self.over:
                self._ended.add(sink.name)
                self._say(f"{sink.name}: {sink.why_over}")

    def _tell_losses(self, now: float, *, ending: bool = False) -> None:
        """An events-lost line where a sink lost more: at once, when it has caught up, and ever less often in between."""
        lost = self._lost()
        rose = [sink for sink in self._sinks if sink.lost != self._told.get(sink.name, 0)]
        if not rose:
            self._pause_s = FIRST_PAUSE_S
            return
        if not ending and now < self._next_s and all(sink.behind for sink in rose):
            return
        self._next_s = now + self._pause_s
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        for sink in rose:
            if sink.behind and not sink.failing and sink.name not in self._slow:
                self._say(f"{sink.name}: does not keep up; {count(sink.lost)} lines are lost so far, and more are counted")
        self._slow = {sink.name for sink in self._sinks if sink.behind}
        self._told = lost
        self._put_anyway(
            self._documents.notice(Notice("events-lost", time.monotonic_ns(), lost={**self._kernel, "sinks": lost}))
        )

    def _lost(self) -> dict[str, int]:
        return {sink.name: sink.lost for sink in self._sinks if sink.lost}

    def _line(self, notice: Notice) -> bytes:
        if notice.action == "events-lost":
            self._kernel = notice.lost
            notice = Notice(notice.action, notice.ns, lost={**notice.lost, "sinks": self._lost()})
        return orjson.dumps(self._documents.notice(notice), option=_OPTIONS)

    def _put_anyway(self, document: Document) -> None:
        line = orjson.dumps(document, option=_OPTIONS)
        for sink in self._sinks:
            sink.put_anyway(line)
