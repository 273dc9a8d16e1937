"""What is printed at the end: a summary of what went by while nobody may have looked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from tracer.model.findings import ConnectionView, Notice, Phase, Screen
from tracer.text import count, duration, hostport
from tracer.view.rows import process, slow_reader


class Tally:
    """Counts notices as they come. Bounded: it keeps numbers and a few names, whatever the traffic."""

    def __init__(self) -> None:
        self._stalled = 0
        self._longest_s = 0.0
        self._longest_id = ""
        self._longest_who = ""
        self._resets: Counter[tuple[str, str, str]] = Counter()

    def add(self, notices: Iterable[Notice]) -> None:
        """Takes notices in."""
        for notice in notices:
            connection = notice.connection
            if notice.action == "verdict-changed" and connection and connection.verdict.phase is Phase.STALLED:
                self._stalled += 1
            if connection is not None:
                self._take_stall(connection)
            if notice.reset is not None:
                who = process(connection.owner) if connection else "nobody"
                key = (notice.reset.direction or "timed out", notice.reset.cause, who)
                if key in self._resets or len(self._resets) < 1000:
                    self._resets[key] += 1

    def lines(self, screen: Screen, seconds: float) -> list[str]:
        """The summary, a fact a line. Stalls that last are longer on the screen than at their last notice."""
        for connection in screen.connections:
            self._take_stall(connection)
        out = [
            f"watched for {duration(seconds)}: {count(screen.events)} events,"
            f" {count(screen.ring_buffer_lost)} lost; {count(self._stalled)} stalls, {count(self._resets.total())} resets"
        ]
        if self._longest_who:
            out.append(f"longest stall {duration(self._longest_s)}: {self._longest_who}")
        for (direction, cause, who), number in self._resets.most_common(10):
            out.append(f"{count(number)} {direction}: {cause}, {who}")
        return out

    def _take_stall(self, connection: ConnectionView) -> None:
        stalled_s = max(connection.totals.longest_stall_s, connection.verdict.stalled_s or 0.0)
        if stalled_s <= self._longest_s:
            return
        self._longest_s = stalled_s
        # a notice of the end of a stall knows how long it was, but nobody is slow any more
        if connection.id == self._longest_id and connection.verdict.slow_reader.side == "none":
            return
        local, peer = connection.local, connection.peer
        reader = slow_reader(connection.verdict.slow_reader)
        who = "" if reader == "-" else f"{reader} on "
        self._longest_id = connection.id
        self._longest_who = f"{who}{hostport(local.ip, local.port)} > {hostport(peer.ip, peer.port)}"
