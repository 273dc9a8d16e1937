"""What goes on, said on standard error: a line that changes on a terminal, nothing but headings elsewhere."""

from __future__ import annotations

import sys
import time


class Progress:
    """Says what is being measured and for how long that has taken."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._name = ""

    def begin(self, name: str) -> None:
        """The next measurement."""
        self._name = name
        self.clear()
        print(f"{time.monotonic() - self._began:5.0f} s  {name}", file=sys.stderr, flush=True)

    def say(self, words: str) -> None:
        """Where it has got to."""
        if sys.stderr.isatty():
            print(f"\r\033[K         {self._name}: {words}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Takes the line that changes away."""
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr, flush=True)
