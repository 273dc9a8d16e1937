"""Who is slow: the reader behind a closed window, followed through proxies and across both ends of a connection.

A process that does not read A because it cannot write to B is a victim; the slow reader of A is B's peer, and so on. A step is
only taken where it is proven: the process is known, it was blocked on B no later than on A, and there is one B to choose. Where
there are several the process is still a victim, and the slow reader unknown.
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

NOBODY: Final = SlowReader("none")


class _Root(NamedTuple):
    end: Endpoint
    owner: Owner
    chain: tuple[str, ...]


class Blame:
    """Finds the slow reader of a connection among all that are known."""

    def __init__(self, connections: Mapping[int, Connection], owners: Owners) -> None:
        self._connections = connections
        self._owners = owners

    def slow_reader(self, connection: Connection, now: int) -> SlowReader:
        """The slow reader; `side` is the end of this connection whose window is closed, the rest is who is behind it."""
        if reading_blocked(connection, now):
            root = self._root(connection, now, _ends(connection))
            return _slow_reader("local", root)
        if not writing_blocked(connection, now):
            return NOBODY
        other = connection.other
        if other is None:
            return SlowReader("peer", connection.peer.ip, connection.peer.port)
        return _slow_reader("peer", self._root(other, now, _ends(other)))

    def _root(self, connection: Connection, now: int, visited: set[int]) -> _Root:
        """Who is behind it that this end does not read."""
        owner = self._owners.of(connection, now)
        here = _Root(connection.local, owner, ())
        if owner.pid is None or len(visited) > LONGEST_CHAIN:
            return here
        blocking = self._blocking(connection, owner.pid, now, visited)
        peers = {one.peer for one in blocking}
        if not peers:
            return here
        if len(peers) > 1:
            # a victim, but of whom is not known: neither it nor one of them may be accused
            return _Root(connection.local, Owner(), (f"{process_label(owner)} cannot write to {len(peers)} peers",))
        culprit = blocking[0]
        step = f"{process_label(owner)} cannot write to {hostport(culprit.peer.ip, culprit.peer.port)}"
        other = culprit.other
        if other is None:
            return _Root(culprit.peer, Owner(), (step, f"{hostport(culprit.peer.ip, culprit.peer.port)} does not read"))
        beyond = self._root(other, now, visited | _ends(other))
        last = (f"{label(beyond.owner, beyond.end)} does not read",) if not beyond.chain else beyond.chain
        return _Root(beyond.end, beyond.owner, (step, *last))

    def _blocking(self, connection: Connection, pid: int, now: int, visited: set[int]) -> list[Connection]:
        """The connections that the process cannot write, and could not when it stopped reading this one."""
        since = blocked_since(connection)
        found = []
        for sk in self._owners.by_pid.get(pid, ()):
            one = self._connections.get(sk)
            if one is None or sk in visited or pid not in (one.holders or ()) or not writing_blocked(one, now):
                continue
            if blocked_since(one) <= since + LATER_NS:
                found.append(one)
        return found


def reading_blocked(connection: Connection, now: int) -> bool:
    """This end does not read: its window is closed, or data waits."""
    closure = connection.local_closed
    return (closure is not None and now - closure.ns >= phases.STALL_NS) or phases.unread_waits(connection, now)


def writing_blocked(connection: Connection, now: int) -> bool:
    """This end cannot write because the other does not read."""
    closure = connection.peer_closed
    if closure is not None:
        return now - closure.ns >= phases.STALL_NS
    return phases.unsent_waits(connection, now) and not phases.unanswered(connection)


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
    )
