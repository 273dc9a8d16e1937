"""What a sink writes to, and how lines get through a descriptor that takes only a part of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Protocol


class Gone(OSError):  # noqa: N818  what happened, not an error of ours
    """A target that is lost for good: nothing is tried again."""


class Target(Protocol):
    """Used by one thread at a time. Each method but `close` raises OSError where it cannot do now what may work later."""

    name: str
    """As the user wrote it."""
    linger_s: float
    """How long to wait for more lines before the first is written."""

    def open(self) -> None:
        """Ready to write, if it was not."""

    def write(self, lines: Sequence[bytes]) -> int:
        """Takes some of the lines, at least a part of the first; how many whole ones. The rest is offered again."""

    def close(self) -> list[bytes]:
        """Gives the descriptor back; lines that were taken and did not get there, to be offered again first."""


def write_some(fd: int, lines: Sequence[bytes], offset: int = 0) -> tuple[int, int]:
    """One write of the lines, the first from `offset` on. How many are out as a whole, and how much of the next one is."""
    data = b"".join(lines)
    out = offset + os.write(fd, memoryview(data)[offset:])
    return whole(lines, out, len(data))


def whole(lines: Sequence[bytes], out: int, length: int) -> tuple[int, int]:
    """How many of the lines, `length` bytes in all, are in the first `out` bytes, and how much of the next one is."""
    if out == length:
        return len(lines), 0
    for number, line in enumerate(lines):
        if out < len(line):
            return number, out
        out -= len(line)
    return len(lines), 0
