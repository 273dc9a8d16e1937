"""Who ends a command that goes on until it is told to stop: signals, and the reader of its output."""

from __future__ import annotations

import errno
import os
import select
import signal
import sys
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self


class Signals:
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


class Reader:
    """Whoever reads our standard output. One that goes is noticed at once, not with the next line, which may be hours away."""

    def __init__(self) -> None:
        self._poll = select.poll()
        with suppress(OSError):  # no descriptor
            self._poll.register(sys.stdout.fileno(), 0)  # POLLERR comes unasked

    def check(self) -> None:
        """Raises BrokenPipeError if it has gone."""
        if any(found & select.POLLERR for _, found in self._poll.poll(0)):
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
