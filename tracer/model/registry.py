"""The connections that are known: by socket, by their ends, and each with its other end where that is on this host."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tracer.events import records as rec
from tracer.events.records import SockState
from tracer.model.connection import Connection, Tuple4


class Registry:
    """Connections come in with the first record of their socket, and go when they are forgotten."""

    def __init__(self) -> None:
        self._by_sk: dict[int, Connection] = {}
        self._by_tuple: dict[Tuple4, list[Connection]] = {}
        self._listeners: set[tuple[int, int]] = set()
        self._last_id = 0

    def __iter__(self) -> Iterator[Connection]:
        return iter(self._by_sk.values())

    @property
    def by_sk(self) -> Mapping[int, Connection]:
        """By socket."""
        return self._by_sk

    def get(self, ns: int, sock: SockState, hz: int, name: str | None = None) -> tuple[Connection, bool]:
        """The connection that the socket is now, and whether it is new; one that had the socket before has ended unseen.

        A new one is numbered, unless it has a `name` already.
        """
        known = self._by_sk.get(sock.sk)
        ends = (sock.local_addr, sock.local_port, sock.peer_addr, sock.peer_port)
        if known is not None:
            if known.tuple4 == ends:
                return known, False
            self.forget(known)
        self._last_id += 1
        connection = Connection(name or f"c{self._last_id}", sock, ns, hz)
        self._by_sk[sock.sk] = connection
        self._by_tuple.setdefault(ends, []).append(connection)
        return connection, True

    def link(self, connection: Connection) -> None:
        """Finds the other end, if it is on this host and the sequence numbers prove it."""
        if connection.other is not None:
            return
        found = [
            one
            for one in self.opposite(connection)
            if one is not connection and one.other is None and _is_other_end(connection.sock, one.sock)
        ]
        if len(found) == 1:
            connection.other, found[0].other = found[0], connection

    def link_to(self, connection: Connection, name: str | None) -> None:
        """Links the other end as it was found when this was recorded: what is known of it now may be too old to prove it."""
        other = next((one for one in self.opposite(connection) if one.id == name and one is not connection), None)
        if other is not None and other.other is None and connection.other is None:
            connection.other, other.other = other, connection

    def opposite(self, connection: Connection) -> list[Connection]:
        """Those whose ends mirror this one's; several in different namespaces may."""
        return self._by_tuple.get(connection.mirrored, [])

    def release(self, sk: int) -> Connection | None:
        """The socket is no more; its connection may still have to be told of."""
        return self._by_sk.pop(sk, None)

    def forget(self, connection: Connection) -> None:
        """It is over."""
        ends = connection.tuple4
        same = [one for one in self._by_tuple.get(ends, ()) if one is not connection]
        if same:
            self._by_tuple[ends] = same
        else:
            self._by_tuple.pop(ends, None)
        if self._by_sk.get(connection.sock.sk) is connection:
            del self._by_sk[connection.sock.sk]
        if connection.other is not None:
            connection.other.other = None
            connection.other = None

    def listener(self, netns: int, port: int) -> None:
        """A scan found a listening socket."""
        self._listeners.add((netns, port))

    def forget_listeners(self) -> None:
        """The scan is over: the next one finds them anew."""
        self._listeners.clear()

    def opened_by(self, sock: SockState) -> rec.OpenedBy:
        """Who opened the connection, by which end's port is listened on."""
        if (sock.netns, sock.local_port) in self._listeners:
            return "peer"
        other = self._by_tuple.get((sock.peer_addr, sock.peer_port, sock.local_addr, sock.local_port))
        if other and (other[0].sock.netns, sock.peer_port) in self._listeners:
            return "local"
        return "unknown"


def _is_other_end(one: SockState, other: SockState) -> bool:
    """Whether each has received up to what the other has in flight.

    Nothing less is a proof: initial sequence numbers are a clock and a hash of the addresses, so twins with the same addresses
    in other namespaces, opened at about the same time, have nearly the same. Looks that are too far apart prove nothing yet.
    """
    return _fits(one, other) and _fits(other, one)


def _fits(sender: SockState, receiver: SockState) -> bool:
    return 0 <= rec.distance(sender.snd_una, receiver.rcv_nxt) <= rec.distance(sender.snd_una, sender.snd_nxt)
