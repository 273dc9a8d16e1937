"""Documents of the event stream as the records that they were made of: the reverse of tracer.export.ecs."""

from __future__ import annotations

from itertools import count
from typing import Any, Final, NamedTuple, TypeAlias

from tracer.events.records import Losses
from tracer.events.wire import KIND_NAMES
from tracer.model.restoring import Restored, RestoredReset
from tracer.sources import connections
from tracer.sources.fields import LONGEST_NS, Fields, ForeignError

SCHEMA: Final = 1
SAME_CLOCK_NS: Final = 1_000_000
"""A line's two clocks, UTC and the kernel's, are apart by the same as in the line before, but for what is lost in rounding."""
_SINK: Final = "sink "


class NewerSchemaError(Exception):
    """A document of a schema that only a newer tcptrace knows."""

    def __init__(self, schema: int) -> None:
        super().__init__(schema)
        self.schema = schema


class Started(NamedTuple):
    """A stream begins, or one whose beginning is not there. `clock_offset_ns` takes the times of its records to UTC."""

    ns: int
    host: str
    clock_offset_ns: int
    facts: dict[str, Any]


class Ended(NamedTuple):
    """A stream ended."""

    ns: int
    totals: dict[str, Any]


Told: TypeAlias = Started | Ended | Restored | RestoredReset | Losses


class Decoder:
    """Documents to records, in the order in which they were written: a stream's clock and names last from line to line."""

    def __init__(self) -> None:
        self._offset: int | None = None
        self._numbers: dict[str, int] = {}
        self._next = count(1)

    def decode(self, document: object) -> list[Told]:
        """What one document tells. Raises ForeignError and NewerSchemaError; then it is as if it had not been there."""
        if not isinstance(document, dict):
            raise ForeignError("it is no object")
        whole = Fields(document)
        own = whole.part("tcptrace")
        schema = own.integer("schema")
        if schema > SCHEMA:
            raise NewerSchemaError(schema)
        if schema != SCHEMA:
            raise ForeignError(f"tcptrace.schema {schema} is not known")
        action, host = whole.part("event").text("action"), whole.part("host").text("name")
        epoch_ns = whole.epoch_ns("@timestamp")
        if action == "stream-started":
            stream = own.part("stream")
            offset = stream.integer("clock_offset_ns", LONGEST_NS, -LONGEST_NS)
            return [self._start(epoch_ns, host, offset, stream.plain())]
        offset = self._offset_of(own, epoch_ns)
        told = self._told(whole, own, epoch_ns - offset, offset)
        begun = [] if offset == self._offset else [self._start(epoch_ns, host, offset, {})]
        if isinstance(told, Restored):
            self._note(told)
        return [*begun, told]

    def _offset_of(self, own: Fields, epoch_ns: int) -> int:
        """A line whose clocks are apart by other than those before is of another stream, whose first line is not there."""
        taken = own.maybe("sample").maybe_integer("ns")
        known = self._offset
        if taken is None:
            return known or 0
        offset = epoch_ns - taken
        return known if known is not None and abs(offset - known) <= SAME_CLOCK_NS else offset

    def _start(self, epoch_ns: int, host: str, offset: int, facts: dict[str, Any]) -> Started:
        self._offset = offset
        self._numbers.clear()
        return Started(epoch_ns - offset, host, offset, facts)

    def _told(self, whole: Fields, own: Fields, ns: int, offset: int) -> Told:
        action = whole.part("event").text("action")
        if action == "stream-ended":
            return Ended(ns, own.part("stream").plain())
        if action == "events-lost":
            return _losses(own.part("lost"), ns)
        connection = own.part("connection")
        if "id" in connection:
            number = self._numbers.get(connection.text("id"))
            return connections.restored(whole, next(self._next) if number is None else number, ns, offset)
        if action != "reset-sent":
            raise ForeignError("tcptrace.connection.id is missing")
        return RestoredReset(ns, connections.sock(own, 0, None), connections.reset(own.part("reset")))

    def _note(self, told: Restored) -> None:
        """The number is the connection's until it is over."""
        if told.action == "connection-closed":
            self._numbers.pop(told.name, None)
        else:
            self._numbers[told.name] = told.sample.sock.sk


def _losses(lost: Fields, ns: int) -> Losses:
    """By their names: kinds of records, sinks, and tables."""
    by_kind = lost.counts("by_kind")
    sinks = {name.removeprefix(_SINK): number for name, number in by_kind.items() if name.startswith(_SINK)}
    ring_buffer = {name: number for name, number in by_kind.items() if name in KIND_NAMES}
    tables = {name: number for name, number in by_kind.items() if name not in KIND_NAMES and not name.startswith(_SINK)}
    return Losses(ns, ring_buffer, tables, sinks)
