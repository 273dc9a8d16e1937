"""Lines of a stream for the tests of what carries them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from tests.builders import START
from tests.views import proxied, view
from tracer.export.ecs import Documents
from tracer.export.sinks.target import Gone, whole
from tracer.model.findings import Notice


def stream(number: int = 3, **values: Any) -> list[bytes]:
    """So many lines, numbered from 1."""
    documents = Documents("web-1", 1_795_000_000_000_000_000)
    views = (view(**values), proxied())
    notices = (Notice("verdict-changed", START + one, views[one % 2]) for one in range(number))
    return [orjson.dumps(documents.notice(one), option=orjson.OPT_APPEND_NEWLINE) for one in notices]


def sequences(lines: Sequence[bytes] | bytes) -> list[int]:
    """Their numbers."""
    each = lines.splitlines() if isinstance(lines, bytes) else lines
    return [orjson.loads(line)["event"]["sequence"] for line in each]


def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Waits for it. Raises AssertionError."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.005)


class Fake:
    """A target that does as it is told: takes lines, fails, hangs, is gone."""

    name = "fake"
    linger_s = 0.0

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.fails: OSError | None = None
        self.hangs = threading.Event()
        self.bites: int | None = None
        """How many bytes it takes at a time."""
        self.undelivered: list[bytes] = []
        self.opened = self.closed = 0
        self.is_open = False
        self._offset = 0

    def open(self) -> None:
        if not self.is_open:
            self._may_fail()
            self.is_open, self.opened = True, self.opened + 1

    def write(self, lines: Sequence[bytes]) -> int:
        assert self.is_open
        while self.hangs.is_set():
            time.sleep(0.01)
        self._may_fail()
        data = b"".join(lines)
        out = min(len(data), self._offset + (self.bites or len(data)))
        done, self._offset = whole(lines, out, len(data))
        self.taken += lines[:done]
        return done

    def close(self) -> list[bytes]:
        self.closed += self.is_open
        self.is_open, self._offset = False, 0
        again, self.undelivered = self.undelivered, []
        return again

    def gone(self) -> None:
        self.fails = Gone(32, "nobody reads it any more")

    def _may_fail(self) -> None:
        if self.fails is not None:
            raise self.fails
