"""How connections end: by a RST of either side, by a timer that gives up, by an application that has had enough.

The record of an end is not always the last word: a RST that was received gets its cause from the other end's record, which on
loopback comes after it, and data that came after close() is reported as a RST received though none was.
"""

from __future__ import annotations

from typing import Final

from tracer.events import records as rec
from tracer.events.records import SockFlag
from tracer.model import causes, phases
from tracer.model.connection import Connection
from tracer.model.findings import Notice, Outcome, Phase
from tracer.model.notices import Notices
from tracer.model.owners import Owners
from tracer.model.patience import Patience
from tracer.model.registry import Registry
from tracer.model.resets import Resets

HOLD_NS: Final = 50_000_000
"""How long an end waits for what else is told of it."""
OVER_AT_MOST: Final = 4096


class Endings:
    """Ends connections. Those that wait to be settled are few, and the only ones that time has to be told of at once."""

    def __init__(self, connections: Registry, owners: Owners, resets: Resets, patience: Patience, notices: Notices) -> None:
        self._connections = connections
        self._owners = owners
        self._resets = resets
        self._patience = patience
        self._notices = notices
        self._waiting: dict[Connection, None] = {}
        self._over: dict[int, int] = {}

    def due_ns(self) -> int | None:
        """When an end that waits is to be settled."""
        times = [one.received.ns if one.received is not None else one.ended_ns for one in self._waiting]
        return min((ns for ns in times if ns is not None), default=-HOLD_NS) + HOLD_NS or None

    def tick(self, ns: int) -> list[Notice]:
        """Settles what has waited for long enough."""
        notices: list[Notice] = []
        for connection in list(self._waiting):
            if connection.received is not None and ns - connection.received.ns >= HOLD_NS:
                notices += self._settle(connection)
            if connection.ended_ns is not None and ns - connection.ended_ns >= HOLD_NS:
                notices += self.finish(connection, ns)
        return notices

    def closed(self, connection: Connection, record: rec.State) -> None:
        """The connection is in CLOSE: a timer gave up, or what else is told says why."""
        if connection.end is None:
            if not causes.is_aborted(record):
                connection.actor = connection.actor or record.actor
            connection.reset = causes.of_silent_end(record)
            connection.end = Phase.TIMED_OUT if connection.reset else Phase.CLOSED
        connection.ended_ns = connection.ended_ns or record.ns
        self._waiting[connection] = None

    def given_up(self, connection: Connection, record: rec.State) -> None:
        """The application closes a connection, which lives on until what was written is sent, or given up by the kernel."""
        self._note_patience(connection, record, "timeout")
        connection.given_up = True
        connection.actor = connection.actor or record.actor

    def reset_received(self, connection: Connection, record: rec.Reset) -> list[Notice]:
        """A RST came, or so the kernel says."""
        if connection.reset is not None:
            return []
        connection.received = record
        connection.end = Phase.RESET
        self._waiting[connection] = None
        known = self._resets.senders_view(connection.mirrored, record.ns)
        return self._settle(connection) if known and not causes.is_own_data_after_close(record) else []

    def cut_off(self, record: rec.Reset) -> Connection | None:
        """The connection that ended by data after close(), whose RST is told last where nobody held it any more."""
        sk = record.sock.sk
        if record.direction != "sent" or not record.passive or sk in self._connections.by_sk:
            return None
        received = ((one, one.received) for one in self._waiting if one.sock.sk == sk and one.received is not None)
        return next((one for one, found in received if causes.is_own_data_after_close(found)), None)

    def reset_sent(self, connection: Connection, record: rec.Reset) -> list[Notice]:
        """This host sent a RST; the other end, if it is here, gets its cause from it."""
        connection.received = None  # data after close(): none was received, though the kernel reports it so
        connection.end = Phase.RESET
        connection.ended_ns = record.ns
        connection.reset, connection.judged = causes.of_reset_sent(record), None
        self._waiting[connection] = None
        if connection.reset.cause != "administrative":
            self._note_patience(connection, record, "reset")
            connection.actor = connection.actor or record.actor
        self._resets.sent(connection.tuple4, record.ns, connection.reset)
        notices = self._notices.reset(connection, "reset-sent", record.ns)
        for other in self._connections.opposite(connection):
            if other.received is not None and not causes.is_own_data_after_close(other.received):
                notices += self._settle(other)
        return notices

    def reset_without_socket(self, record: rec.Reset) -> list[Notice]:
        """This host sent a RST for no connection of its own."""
        sock, view = record.sock, causes.of_reset_sent(record)
        ends = (sock.local_addr, sock.local_port, sock.peer_addr, sock.peer_port)
        if self._resets.senders_view(ends, record.ns) is None:  # else it answers what crossed the RST that ended it
            self._resets.sent(ends, record.ns, view)
        return self._notices.reset_without_socket(sock, record.ns, view)

    def destroyed(self, record: rec.Destroyed) -> list[Notice]:
        """The kernel frees the socket: whatever it was, it is over."""
        self._note_over(record.sock.sk, record.ns)
        connection = self._connections.release(record.sock.sk)
        if connection is None:
            return []
        connection.ended_ns = connection.ended_ns or record.ns
        connection.end = connection.end or Phase.CLOSED
        if connection.received is None:
            return self.finish(connection, record.ns)
        self._waiting[connection] = None
        return []

    def is_over(self, sk: int, ns: int) -> bool:
        """Whether a sample of the socket is from before its end, but told after it."""
        return ns <= self._over.get(sk, -1)

    def finish(self, connection: Connection, ns: int) -> list[Notice]:
        """Tells the end, and forgets the connection."""
        notices = self._settle(connection) if connection.received is not None else []
        ended_ns = connection.ended_ns or ns
        connection.finish(ended_ns)
        self._note_over(connection.sock.sk, ended_ns)
        if connection.end is Phase.TIMED_OUT:
            notices += self._notices.reset(connection, "connection-closed", ended_ns)
        elif connection.in_stream:
            notices += self._notices.of(connection, "connection-closed", ended_ns)
        self.forget(connection)
        return notices

    def forget(self, connection: Connection) -> None:
        """Nothing more is to be told of it."""
        self._connections.forget(connection)
        self._waiting.pop(connection, None)

    def _settle(self, connection: Connection) -> list[Notice]:
        """A received RST gets its cause: the sender's, if that is here and was seen."""
        record, connection.received = connection.received, None
        if record is None:
            return []
        connection.reset = causes.of_reset_received(record, self._resets.senders_view(connection.mirrored, record.ns))
        connection.judged = None
        connection.end = Phase.RESET
        connection.ended_ns = connection.ended_ns or record.ns
        return self._notices.reset(connection, "reset-received", record.ns)

    def _note_over(self, sk: int, ns: int) -> None:
        """Bounded: the oldest makes room. A process may hold a socket long after its connection's end."""
        self._over[sk] = max(ns, self._over.pop(sk, 0))
        if len(self._over) > OVER_AT_MOST:
            del self._over[next(iter(self._over))]

    def _note_patience(self, connection: Connection, record: rec.State | rec.Reset, outcome: Outcome) -> None:
        """The process that ends a connection has had enough of a peer whose window it saw close: so long it bears with one."""
        closure, actor, port = connection.peer_closed, record.actor, connection.service_port
        if closure is None or not closure.exact or record.ns - closure.ns < phases.STALL_NS or actor is None or port is None:
            return
        program = self._owners.name(actor.tgid) or (actor.comm if actor.tid == actor.tgid else None)
        if program is None or record.sock.flags & SockFlag.EXITING:
            return  # whoever ends ends all that it holds, whatever it thinks of its peers
        self._patience.saw(program, port, record.ns - closure.ns, outcome)
