"""Who is slow: the reader behind a closed window, followed through proxies and across both ends of a connection.

A process that does not read A because it cannot write to B is a victim; the slow reader of A is B's peer, and so on. One is
accused, and a step beyond it taken, only where that is proven:

- every holder was looked for after the stall began, so that it is known whose the socket is and what else that process holds;
- without a B that it could not write to when it stopped reading A, it is the process itself that does not read;
- with one, its thread must be blocked in writing to B, or wait for events as an event loop does and have no other B;
- else the process may be a victim or not: the slow reader is unknown, and why is said.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from tracer.model import phases
from tracer.model.connection import Connection
from tracer.model.findings import Endpoint, Owner, SlowReader
from tracer.model.owners import Owners
from tracer.text import hostport

LONGEST_CHAIN: Final = 8
LATER_NS: Final = 1_000_000_000
"""A consequence cannot come before its cause; queues between the two take their time to fill."""
SETTLED_NS: Final = 300_000_000
"""A window that closed is known at the other end by then: ACKs are delayed by 200 ms at most."""

NOBODY: Final = SlowReader("none")


class _Root(NamedTuple):
    end: Endpoint
    owner: Owner
    chain: tuple[str, ...] = ()
    doubt: str | None = None


class Blame:
    """Finds the slow reader of a connection among all that are known."""

    def __init__(self, connections: Mapping[int, Connection], owners: Owners) -> None:
        self._connections = connections
        self._owners = owners
        self._unwritable_of: dict[int, list[Connection]] = {}

    def changed(self) -> None:
        """Something is known of connections or owners that was not."""
        if self._unwritable_of:
            self._unwritable_of = {}

    def slow_reader(self, connection: Connection, now: int) -> SlowReader:
        """The slow reader; `side` is the end of this connection whose window is closed, the rest is who is behind it."""
        if reading_blocked(connection):
            return _slow_reader("local", self._root(connection, now, _ends(connection)))
        if not writing_blocked(connection):
            return NOBODY
        other = connection.other
        if other is None:
            return SlowReader("peer", connection.peer.ip, connection.peer.port)
        return _slow_reader("peer", self._root(other, now, _ends(other)))

    def is_known(self, connection: Connection) -> bool:
        """Whether the holders of the end that does not read were looked for since: until then nobody can be accused."""
        reading = connection if reading_blocked(connection) else connection.other
        return reading is None or self._owners.scanned_ns >= blocked_since(reading) + SETTLED_NS

    def _root(self, connection: Connection, now: int, visited: set[int]) -> _Root:
        """Who is behind it that this end does not read."""
        owner = self._owners.of(connection, now)
        since = blocked_since(connection)
        unknown = _Root(connection.local, Owner())
        if owner.pid is None or connection.holders is None or self._owners.scanned_ns < since + SETTLED_NS:
            return unknown
        blocking = self._blocking(owner.pid, since, visited)
        culprit, doubt = self._culprit(connection, owner, blocking)
        if doubt is not None or len(visited) > LONGEST_CHAIN:
            return unknown._replace(doubt=doubt)
        if culprit is None:
            return _Root(connection.local, owner)
        return self._beyond(culprit, f"{process_label(owner)} cannot write to {_peer(culprit)}", now, visited)

    def _beyond(self, culprit: Connection, step: str, now: int, visited: set[int]) -> _Root:
        """The root of a chain that goes on with the other end of what a process cannot write to."""
        other = culprit.other
        if other is None:
            return _Root(culprit.peer, Owner(), (step, f"{_peer(culprit)} does not read"))
        beyond = self._root(other, now, visited | _ends(other))
        last = (f"{label(beyond.owner, beyond.end)} does not read",) if not beyond.chain else beyond.chain
        return _Root(beyond.end, beyond.owner, (step, *last), beyond.doubt)

    def _blocking(self, pid: int, since: int, visited: set[int]) -> list[Connection]:
        """The connections that the process cannot write, and could not when it stopped reading at `since`."""
        return [one for one in self._unwritable(pid) if one.sock.sk not in visited and blocked_since(one) <= since + LATER_NS]

    def _unwritable(self, pid: int) -> list[Connection]:
        """The connections that the process cannot write, looked for once for all that it does not read."""
        known = self._unwritable_of.get(pid)
        if known is None:
            ones = (self._connections.get(sk) for sk in self._owners.by_pid.get(pid, ()))
            known = self._unwritable_of[pid] = [
                one
                for one in ones
                if one is not None and pid in (one.holders or ()) and (one.peer_closed is not None or writing_blocked(one))
            ]
        return known

    def _culprit(
        self, connection: Connection, owner: Owner, blocking: list[Connection]
    ) -> tuple[Connection | None, str | None]:
        """The one of `blocking` that keeps the owner from reading, or a doubt; neither: nothing keeps it."""
        if not blocking:
            return None, None
        pid = owner.pid or 0
        who = process_label(owner)
        thread = self._owners.reader_thread(connection, owner)
        if thread is not None and thread.call is not None and thread.fd is not None:
            written = self._owners.by_descriptor.get((pid, thread.fd))
            return next((one for one in blocking if one.sock.sk == written), None), None
        peers = {one.peer for one in blocking}
        if len(peers) > 1:
            return None, f"{who} cannot write to {len(peers)} peers either, which may be why"
        if thread is not None and thread.call is not None:
            return blocking[0], None
        return None, f"{who} cannot write to {_peer(blocking[0])} either, which may be why"


def reading_blocked(connection: Connection) -> bool:
    """This end does not read: its window is closed, or data waits."""
    return phases.reading_stalled(connection) or phases.unread_waits(connection)


def writing_blocked(connection: Connection) -> bool:
    """This end cannot write because the other does not read."""
    if connection.peer_closed is not None:
        return phases.writing_stalled(connection)
    return phases.unsent_waits(connection) and not phases.unanswered(connection)


def blocked_since(connection: Connection) -> int:
    """Since when it has been so, at least."""
    known = (
        connection.local_closed.ns if connection.local_closed else None,
        connection.peer_closed.ns if connection.peer_closed else None,
        connection.unread_since,
        connection.unacked_since,
    )
    return min((ns for ns in known if ns is not None), default=connection.ns)


def label(owner: Owner, end: Endpoint) -> str:
    """The process, or without one the address."""
    return process_label(owner) if owner.pid is not None else hostport(end.ip, end.port)


def process_label(owner: Owner | SlowReader) -> str:
    """A process as `java[32278]/worker-1`; the thread only where it is not the process's own."""
    name = f"{owner.name or '?'}[{owner.pid}]"
    if isinstance(owner, Owner) and owner.threads > 1:
        return name  # any of them might have read
    if owner.thread_id is None or (owner.thread_id == owner.pid and owner.thread_name in (owner.name, None)):
        return name
    # a thread that has its process's name is told by its id
    return f"{name}/{owner.thread_name if owner.thread_name not in (owner.name, None) else owner.thread_id}"


def _peer(connection: Connection) -> str:
    return hostport(connection.peer.ip, connection.peer.port)


def _ends(connection: Connection) -> set[int]:
    """Both ends, where both are here: a process may hold the two, and is not its own victim."""
    other = connection.other
    return {connection.sock.sk} if other is None else {connection.sock.sk, other.sock.sk}


def _slow_reader(side: str, root: _Root) -> SlowReader:
    owner = root.owner
    return SlowReader(
        "local" if side == "local" else "peer",
        root.end.ip,
        root.end.port,
        owner.pid,
        owner.name,
        owner.thread_id if owner.threads <= 1 else None,
        owner.thread_name if owner.threads <= 1 else None,
        root.chain,
        root.doubt,
    )
