"""A sink: a backlog and a thread that writes it to a target, and tries again for as long as the target fails.

Whoever fills the backlog never waits. A failure is told once, and so is the recovery, with what was lost in between.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from tracer.export.sinks.backlog import Backlog
from tracer.export.sinks.target import Gone, Target
from tracer.text import count, duration

FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 30.0
STEADY_S: Final = 1.0
"""A target that took lines for so long works again; one that fails sooner has never stopped failing."""
LAST_PAUSE_S: Final = 0.1
"""Between the attempts when the end is near."""


class Sink:
    """One target's. Use `put` from one thread, `close` once at the end."""

    def __init__(self, target: Target, backlog_bytes: int, say: Callable[[str], None]) -> None:
        """`say` is given what people should know of; it is called by the sink's thread."""
        self.name = target.name
        self.over = False
        """The target is gone for good, for the reason in `why_over`; what is put is lost."""
        self.why_over = ""
        self.written = 0
        self._target = target
        self._backlog = Backlog(backlog_bytes)
        self._say = say
        self._batch: list[bytes] = []
        self._reopen = False
        self._hurry = threading.Event()
        self._given_up = False
        self._failed_s: float | None = None
        self._opened_s: float | None = None
        self._failures = 0
        self._lost_before = 0
        self._thread = threading.Thread(target=self._run, name=f"sink {self.name}", daemon=True)

    def start(self) -> None:
        """Begins to write."""
        self._thread.start()

    def put(self, lines: Sequence[bytes]) -> None:
        """Lines to be written; those for which there is no room are counted as lost."""
        self._backlog.put(lines)

    def put_anyway(self, line: bytes) -> None:
        """A line that tells of losses, or of the end: there is room for some of those when there is no more."""
        self._backlog.put_anyway(line)

    def reopen(self) -> None:
        """The target is closed and opened again, between two lines."""
        self._reopen = True
        self._backlog.wake()

    @property
    def lost(self) -> int:
        """How many lines were lost so far, for want of room or of a target."""
        return self._backlog.lost

    @property
    def behind(self) -> bool:
        """Whether the target does not keep up."""
        return self._backlog.behind

    @property
    def failing(self) -> bool:
        """Whether the target fails, which was told."""
        return self._failed_s is not None

    def hurry(self) -> None:
        """The end is near: what waits is written now, and there are no long pauses."""
        self._backlog.end()
        self._hurry.set()

    def close(self, seconds: float) -> None:
        """Writes what waits, for at most so long; what then still waits is lost, and told."""
        self.hurry()
        self._thread.join(max(0.0, seconds))
        self._given_up = True
        left = self._backlog.drop() + (len(self._batch) if self._thread.is_alive() else 0)
        if left and not self.over:
            self._say(f"{self.name}: {count(left)} lines were not taken in time and are lost")

    def _run(self) -> None:
        while self._next():
            pass
        self._target.close()

    def _next(self) -> bool:
        """Writes a batch. False: all is written, or the target is gone."""
        more = self._backlog.wait(None if self._opened_s is None else STEADY_S)
        self._may_recover()
        if self._given_up or not (more or self._reopen or not self._backlog.ended):
            return False
        if more:
            self._backlog.linger(self._target.linger_s)
        self._batch = self._backlog.take()
        try:
            self._write(self._batch)
        except Gone as error:
            self._end(error)
            return False
        except OSError as error:
            self._backlog.give_back([*self._close_target(), *self._batch])
            self._batch = []
            self._fail(error)
        return True

    def _write(self, lines: list[bytes]) -> None:
        """All of them; `lines` keeps what is not written when it fails."""
        if self._reopen:
            self._reopen = False
            lines[:0] = self._close_target()
        self._target.open()
        if self._failed_s is not None:
            self._opened_s = self._opened_s or time.monotonic()
        while lines and not self._given_up:
            taken = self._target.write(lines)
            del lines[:taken]
            self.written += taken

    def _close_target(self) -> list[bytes]:
        """The lines that have to be written again."""
        again = self._target.close()
        self.written -= len(again)
        return again

    def _fail(self, error: OSError) -> None:
        if self._failed_s is None:
            self._failed_s = time.monotonic()
            self._lost_before = self.lost
            self._say(f"{self.name}: {reason(error)}; it is tried again, and what is lost meanwhile is counted")
        self._opened_s = None
        pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(self._failures, 16)) * random.uniform(0.5, 1)  # noqa: S311
        self._failures += 1
        if self._hurry.wait(pause):
            time.sleep(LAST_PAUSE_S)

    def _may_recover(self) -> None:
        """A target that has been open and has not failed for a while works."""
        if self._opened_s is None or time.monotonic() - self._opened_s < STEADY_S:
            return
        took = duration(time.monotonic() - (self._failed_s or 0.0))
        self._failed_s = self._opened_s = None
        self._failures = 0
        self._say(f"{self.name}: works again after {took}; {count(self.lost - self._lost_before)} lines were lost")

    def _end(self, error: OSError) -> None:
        self.over = True
        self._backlog.limit = 0
        self._backlog.give_back(self._batch)
        self._backlog.drop()
        self._batch = []
        self.why_over = reason(error)


def reason(error: OSError) -> str:
    """An error in words."""
    return error.strerror or str(error) or type(error).__name__
