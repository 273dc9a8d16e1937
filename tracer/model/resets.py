"""The resets of late: for the screen, and for the cause of one that is received, where its sender is on this host."""

from __future__ import annotations

from collections import deque
from typing import Final

from tracer.model.connection import Tuple4
from tracer.model.findings import Notice, ResetView

PEER_CAUSE_NS: Final = 5_000_000_000
"""A RST sent longer ago than this is not the one that was received now."""
SHOWN_NS: Final = 60_000_000_000
SHOWN_AT_MOST: Final = 200
NOTES_AT_MOST: Final = 4096


class Resets:
    """Bounded: the oldest makes room."""

    def __init__(self) -> None:
        self._shown: deque[Notice] = deque(maxlen=SHOWN_AT_MOST)
        self._sent: dict[Tuple4, tuple[int, ResetView]] = {}

    def show(self, notice: Notice) -> None:
        """A reset for the screen."""
        self._shown.append(notice)

    def shown(self, ns: int) -> tuple[Notice, ...]:
        """Those of the last minute, oldest first."""
        while self._shown and ns - self._shown[0].ns > SHOWN_NS:
            self._shown.popleft()
        return tuple(self._shown)

    def sent(self, ends: Tuple4, ns: int, view: ResetView) -> None:
        """This host sent a RST from the first of these ends to the other."""
        self._sent.pop(ends, None)
        self._sent[ends] = (ns, view)
        while len(self._sent) > NOTES_AT_MOST or ns - self._oldest_ns() >= PEER_CAUSE_NS:
            del self._sent[next(iter(self._sent))]

    def _oldest_ns(self) -> int:
        return next(iter(self._sent.values()))[0]

    def senders_view(self, ends: Tuple4, ns: int) -> ResetView | None:
        """What is known of the RST that came from the first of these ends at about `ns`."""
        known = self._sent.get(ends)
        return known[1] if known and abs(ns - known[0]) < PEER_CAUSE_NS else None
