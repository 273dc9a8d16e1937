"""Standard output. A pipe whose reader went away never comes back; a file on a full disk does."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tracer.export.sinks.target import Gone, write_some

LINGER_S = 0.01


class Stdout:
    """Writes to descriptor 1, which is never closed."""

    def __init__(self) -> None:
        self.name = "-"
        self.linger_s = LINGER_S
        self._offset = 0

    def open(self) -> None:
        """It always is."""

    def write(self, lines: Sequence[bytes]) -> int:
        """Raises Gone when nobody reads."""
        try:
            taken, self._offset = write_some(sys.stdout.fileno(), lines, self._offset)
        except BrokenPipeError as error:
            raise Gone(error.errno, "nobody reads it any more") from error
        return taken

    def close(self) -> list[bytes]:
        """It stays open, and a line that is begun is ended."""
        return []
