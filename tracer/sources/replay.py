"""A recording as a source of records: line by line, and what is none of ours is told of and left out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import orjson

from tracer.errors import USAGE, TcptraceError
from tracer.sources.documents import SCHEMA, Decoder, NewerSchemaError, Told
from tracer.sources.fields import ForeignError
from tracer.sources.recording import Line, Recording
from tracer.text import count

TOLD_AT_MOST: Final = 10
"""Lines that are told of one by one; the others are counted."""


class Replay:
    """Records of a recording. `say` is told, in a line each, what is left out."""

    def __init__(self, recording: Recording, say: Callable[[str], None]) -> None:
        self._recording = recording
        self._say = say
        self._decoder = Decoder()
        self._good = 0
        self.skipped = 0
        """Lines that were left out."""

    @property
    def over(self) -> bool:
        """Whether there is nothing more."""
        return self._recording.over

    def read(self, wait_s: float) -> list[Told]:
        """What the next line tells; nothing if none came for so long, or it is none of ours.

        Raises TcptraceError: its schema is newer than ours, or it is no text.
        """
        line = self._recording.line(wait_s)
        if line is None:
            return []
        try:
            told = self._decoder.decode(_document(line))
        except ForeignError as error:
            self._skip(line.number, str(error))
            return []
        except NewerSchemaError as error:
            raise TcptraceError(
                f"{self._recording.name}:{line.number}: its schema is {error.schema}, and this tcptrace knows {SCHEMA}",
                "replay it with a newer tcptrace",
                USAGE,
            ) from error
        self._good += 1
        return told

    def close(self) -> None:
        """Counts what was left out. Raises TcptraceError if that is all."""
        more = self.skipped - TOLD_AT_MOST
        if more > 0:
            self._say(f"{self._recording.name}: {count(more)} more lines are left out")
        if self._good or not self.over:
            return
        cause = f"{self._recording.name} is empty" if self._recording.is_empty else f"{self._recording.name} is no recording"
        raise TcptraceError(cause, "`tcptrace record --output FILE` makes one", USAGE)

    def _skip(self, number: int, why: str) -> None:
        self.skipped += 1
        if self.skipped <= TOLD_AT_MOST:
            self._say(f"{self._recording.name}:{number}: left out: {why}")


def _document(line: Line) -> object:
    if line.data is None:
        raise ForeignError("it is too long")
    try:
        return orjson.loads(line.data)
    except orjson.JSONDecodeError as error:
        raise ForeignError("it is no JSON, or a part of it is missing") from error
