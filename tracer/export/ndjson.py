"""Documents as lines of JSON, each flushed: whoever reads the pipe sees an event when it happens."""

from __future__ import annotations

from typing import Any, BinaryIO

import orjson

_OPTIONS = orjson.OPT_APPEND_NEWLINE


class Writer:
    """Writes documents to a binary stream. A reader that went away raises BrokenPipeError."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, document: dict[str, Any]) -> None:
        """One line."""
        self._stream.write(orjson.dumps(document, option=_OPTIONS))
        self._stream.flush()
