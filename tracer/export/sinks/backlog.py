"""Lines that wait for a sink: bounded in bytes, and what does not fit is counted, never waited for."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import Final

BATCH_BYTES: Final = 1 << 20
RESERVE: Final = 64
"""Lines that have room when there is none: those that tell of losses and of the end."""


class Backlog:
    """A queue between the thread that traces and one that writes. `lost` counts the lines that found no room."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.lost = 0
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._reserve = RESERVE
        self._ended = False
        self._changed = threading.Condition()
        self._waiting = False
        self._woken = False

    def __len__(self) -> int:
        return len(self._lines)

    @property
    def behind(self) -> bool:
        """Whether more than half of the room is taken: lines are being lost, or may be soon."""
        return self._bytes > self.limit // 2

    def put(self, lines: Sequence[bytes]) -> None:
        """Never waits. When a line finds no room, those behind it in `lines` are lost as well."""
        with self._changed:
            for number, line in enumerate(lines):
                if self._bytes + len(line) > self.limit:
                    self.lost += len(lines) - number
                    break
                self._lines.append(line)
                self._bytes += len(line)
            if self._waiting:
                self._changed.notify()

    def put_anyway(self, line: bytes) -> None:
        """A line that tells of losses: it has room as long as few of them wait."""
        with self._changed:
            if self._bytes + len(line) > self.limit:
                if not self._reserve:
                    self.lost += 1
                    return
                self._reserve -= 1
            self._lines.append(line)
            self._bytes += len(line)
            if self._waiting:
                self._changed.notify()

    def give_back(self, lines: Sequence[bytes]) -> None:
        """Lines that were taken and could not be written; they are first again."""
        with self._changed:
            self._lines.extendleft(reversed(lines))
            self._bytes += sum(map(len, lines))

    def wait(self, seconds: float | None = None) -> bool:
        """Until there are lines, no more will come, or `wake`; whether there are any."""
        with self._changed:
            self._waiting = True
            self._changed.wait_for(lambda: self._lines or self._ended or self._woken, seconds)
            self._waiting = self._woken = False
            return bool(self._lines)

    def wake(self) -> None:
        """Ends a `wait`."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def linger(self, seconds: float) -> None:
        """For more lines to come, unless no more will."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended, seconds)

    def take(self) -> list[bytes]:
        """The oldest lines, a batch at most."""
        batch: list[bytes] = []
        size = 0
        with self._changed:
            while self._lines and size < BATCH_BYTES:
                line = self._lines.popleft()
                batch.append(line)
                size += len(line)
            self._bytes -= size
            if not self._lines:
                self._reserve = RESERVE
        return batch

    def drop(self) -> int:
        """Gives up on all lines that wait, and says how many they were."""
        with self._changed:
            number = len(self._lines)
            self._lines.clear()
            self._bytes = 0
            self.lost += number
        return number

    def end(self) -> None:
        """No more lines will come."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    @property
    def ended(self) -> bool:
        """Whether no more lines will come."""
        return self._ended
