"""How far along the way to a reset a connection is: the phases of DESIGN, from what is known of it and the time."""

from __future__ import annotations

from typing import Final

from tracer.events.records import TcpState
from tracer.model import deadlines
from tracer.model.connection import Connection
from tracer.model.findings import Phase

STALL_NS: Final = 200_000_000
"""A window that is closed for less is a busy reader's; the sender's first probe comes after this."""
WAITING_NS: Final = 1_000_000_000
"""Data that moves within this is on its way."""

SEVERITY: Final = {
    Phase.RESET: 6,
    Phase.TIMED_OUT: 5,
    Phase.UNANSWERED: 4,
    Phase.STALLED: 3,
    Phase.BACKLOGGED: 2,
    Phase.CLOSED: 1,
    Phase.OK: 0,
}


def phase(connection: Connection) -> Phase:
    """The phase as far as it has been seen: what has not changed since the last look may have since, so time is that look's."""
    if connection.end is not None:
        return connection.end
    if unanswered(connection):
        return Phase.UNANSWERED
    if stalled(connection):
        return Phase.STALLED
    if unread_waits(connection) or unsent_waits(connection):
        return Phase.BACKLOGGED
    return Phase.OK


def unanswered(connection: Connection) -> bool:
    """Probes or retransmissions get no answer."""
    sock = connection.sock
    if sock.state in (TcpState.LISTEN, TcpState.CLOSE):
        return False
    return sock.retransmits >= deadlines.UNANSWERED_RETRANSMITS or deadlines.probe_unanswered(sock, connection.hz)


def stalled(connection: Connection) -> bool:
    """A window has been closed for long enough to be no flicker."""
    return reading_stalled(connection) or writing_stalled(connection)


def reading_stalled(connection: Connection) -> bool:
    """Our window is closed, and whoever should read does not: one who reads on keeps the sender waiting, but not for long."""
    closure = connection.local_closed
    return closure is not None and connection.ns - max(closure.ns, connection.sock.read_ns) >= STALL_NS


def writing_stalled(connection: Connection) -> bool:
    """The peer's window is closed."""
    closure = connection.peer_closed
    return closure is not None and connection.ns - closure.ns >= STALL_NS


def unread_waits(connection: Connection) -> bool:
    """Data waits for a reader who does not read, or will not get to the end of it within a second at the rate he has."""
    if connection.unread_since is None:
        return False
    if connection.ns - connection.unread_since >= WAITING_NS:
        return True
    return bool(connection.read_rate) and connection.sock.unread / (connection.read_rate or 1) > WAITING_NS / 1e9


def unsent_waits(connection: Connection) -> bool:
    """Data waits to be sent: nothing is acknowledged, or the peer's window lets too little through."""
    sock = connection.sock
    if connection.unacked_since is None or not sock.unsent:
        return False
    if connection.ns - connection.unacked_since >= WAITING_NS:
        return True
    in_flight, segment = sock.send_q - sock.unsent, max(sock.mss, 1)
    if sock.snd_wnd - in_flight >= segment or sock.snd_wnd >= max(sock.max_window // 2, 2 * segment):
        return False  # the path holds it back (congestion window, pacing, a narrow link), not the reader
    return connection.ack_rate is not None and sock.unsent > connection.ack_rate * WAITING_NS / 1e9
