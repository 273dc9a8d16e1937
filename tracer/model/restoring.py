"""Recordings: what each line tells is told again, about connections that are set to the state they were in.

A recording has a line for every change, so time alone changes nothing here: phases, deadlines and words are judged anew, from
the sample that the line has, and when something is told is the recording's affair.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from tracer.events.records import Mechanism, Side, SockState
from tracer.model.endings import Endings
from tracer.model.findings import Action, Notice, Phase, Recorded, ResetView
from tracer.model.notices import Notices
from tracer.model.registry import Registry
from tracer.model.sample import Sample

EVENTLESS: Final = frozenset({"connection-seen", "verdict-changed"})
"""What is told without an event of the kernel's."""
_RESETS: Final = frozenset({"reset-sent", "reset-received"})


class Restored(NamedTuple):
    """What happened to connection `name` at `ns`, and how that left it. `sample.sock.sk` is any number of its own."""

    ns: int
    action: Action
    name: str
    sample: Sample
    recorded: Recorded
    window_side: Side | None = None
    probe_kind: Mechanism | None = None
    probe_number: int | None = None


class RestoredReset(NamedTuple):
    """A RST that was sent for no connection. Of `sock` only addresses, ports and netns are known."""

    ns: int
    sock: SockState
    view: ResetView
    action: Action = "reset-sent"


class Restoring:
    """Sets connections to what a recording says, and tells what happened to them."""

    def __init__(self, connections: Registry, endings: Endings, notices: Notices) -> None:
        self._connections = connections
        self._endings = endings
        self._notices = notices

    def restore(self, record: Restored | RestoredReset) -> list[Notice]:
        """What a line tells."""
        if isinstance(record, RestoredReset):
            return self._notices.reset_without_socket(record.sock, record.ns, record.view)
        sample = record.sample
        connection, _ = self._connections.get(sample.ns, sample.sock, sample.hz, record.name)
        connection.restore(sample, record.recorded)
        self._connections.link_to(connection, sample.other)
        ns, action = record.ns, record.action
        if action == "connection-seen":
            return self._notices.enter(connection, ns)
        if action in _RESETS or (action == "connection-closed" and connection.end is Phase.TIMED_OUT):
            notices = self._notices.reset(connection, action, ns)
        else:
            notices = self._notices.of(
                connection,
                action,
                ns,
                window_side=record.window_side,
                probe_kind=record.probe_kind,
                probe_number=record.probe_number,
            )
        if action == "connection-closed":
            self._endings.forget(connection)
        return notices
