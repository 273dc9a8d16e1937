"""Why a connection was reset or ended: from the kernel's own reason where that decides, else from the socket's state.

The table of callers and what each leaves visible is docs/verdicts.md's; the functions named here are in net/ipv4/.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Final

from tracer.events.records import Reset, SockFlag, SockState, State, TcpState
from tracer.model.findings import Cause, ResetView

_BY_REASON: Final[Mapping[str, Cause]] = {
    "TCP_ABORT_ON_CLOSE": "close-with-unread-data",
    "TCP_ABORT_ON_LINGER": "orphan",  # close() in FIN_WAIT2 with TCP_LINGER2 < 0, not SO_LINGER
    "TCP_ABORT_ON_MEMORY": "out-of-memory",
    "TCP_ABORT_ON_DATA": "data-after-close",
    "TCP_DISCONNECT_WITH_DATA": "disconnect",
    "TCP_KEEPALIVE_TIMEOUT": "keepalive-timeout",
    "TCP_TIMEWAIT_SOCKET": "time-wait",
    "NO_SOCKET": "no-socket",
    "INVALID_SYN": "invalid-segment",
    "TCP_ACK_UNSENT_DATA": "invalid-segment",
    "TCP_FLAGS": "invalid-segment",
    "TCP_INVALID_ACK_SEQUENCE": "invalid-segment",
    "TCP_OLD_ACK": "invalid-segment",
    "TCP_RFC7323_PAWS": "invalid-segment",
    "TCP_TOO_OLD_ACK": "invalid-segment",
}
_CLOSING: Final = frozenset({TcpState.FIN_WAIT1, TcpState.FIN_WAIT2, TcpState.CLOSE_WAIT, TcpState.LAST_ACK, TcpState.CLOSING})
_TIMED_OUT: Final = frozenset({errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH})
"""tcp_write_err() prefers what ICMP or the neighbour last said of the way; while a connection opens, that ends it by itself."""
_BOTH: Final = 3
"""RCV_SHUTDOWN and SEND_SHUTDOWN, as close() leaves them."""
_RCV_SHUTDOWN: Final = 1


def of_reset_sent(record: Reset) -> ResetView:
    """The cause of a RST that this host sent."""
    cause = _BY_REASON.get(record.reason or "")
    decided = cause is not None
    if cause is None:
        cause = _infer_passive(record) if record.passive else _infer_active(record.sock)
    if cause == "keepalive-timeout" and record.sock.user_timeout:
        # the same code path; with TCP_USER_TIMEOUT set the number of probes is ignored
        cause = "user-timeout"
    sock = record.sock if record.has_socket else None
    return ResetView(
        "sent",
        cause,
        record.reason,
        "kernel" if decided else "inferred",
        sock.unread if sock else None,
        sock.unsent if sock else None,
    )


def of_reset_received(record: Reset, peers: ResetView | None) -> ResetView:
    """The cause of a RST that this host received: the sender's if that is on this host too (`peers`), else only "peer"."""
    sock = record.sock
    return ResetView(
        "received",
        peers.cause if peers else "peer",
        peers.reason if peers else None,
        peers.reason_source if peers else "inferred",
        sock.unread,
        sock.unsent,
    )


def is_own_data_after_close(record: Reset) -> bool:
    """Whether a tcp_receive_reset may be tcp_reset() called for data that came after close(): then no RST was received."""
    return record.sock.state in _CLOSING and bool(record.sock.shutdown & _RCV_SHUTDOWN)


def is_aborted(record: State) -> bool:
    """Whether a process that is not its own ends the connection: tcp_abort(), as `ss -K` asks for it."""
    return record.sock.err == errno.ECONNABORTED


def of_silent_end(record: State) -> ResetView | None:
    """Why a connection ended without a RST: a timer gave up. None for any other end."""
    sock = record.sock
    if sock.err not in _TIMED_OUT or (sock.err != errno.ETIMEDOUT and record.old == TcpState.SYN_SENT):
        return None
    return ResetView(None, _infer_silent(sock), None, "inferred", sock.unread, sock.unsent)


def _infer_silent(sock: SockState) -> Cause:
    if sock.flags & SockFlag.DEAD:
        return "orphan"
    if sock.user_timeout:
        return "user-timeout"
    # the timer's own mark is gone by now (icsk_pending, packets_out), the count of what went unanswered is not
    if sock.retransmits or sock.snd_una != sock.snd_nxt:
        return "retransmission-timeout"  # before a closed window only what is in flight tells, retransmissions are not counted
    if sock.probes_out:
        return "probe-timeout" if sock.send_q else "keepalive-timeout"
    return "unknown"


def _infer_passive(record: Reset) -> Cause:
    if record.has_socket:
        # tcp_reset() has already run for data that came after close(); no other way leads here from CLOSE
        return "data-after-close" if record.sock.state == TcpState.CLOSE else "invalid-segment"
    if record.sock.state == TcpState.TIME_WAIT:
        return "time-wait"
    return "invalid-segment" if record.sock.state in (TcpState.NEW_SYN_RECV, TcpState.LISTEN) else "no-socket"


def _infer_active(sock: SockState) -> Cause:
    if sock.state == TcpState.CLOSE:
        return _infer_closed(sock)
    if sock.flags & SockFlag.DEAD:
        # tcp_keepalive_timer() for an orphan in FIN_WAIT2; else tcp_out_of_resources()
        return "orphan" if sock.state == TcpState.FIN_WAIT2 else "out-of-memory"
    if sock.flags & SockFlag.OWNED:
        return "administrative"  # tcp_abort(): ss -K aborts before the state changes
    if sock.flags & SockFlag.KEEPOPEN and sock.probes_out and not sock.packets_out and not sock.unsent:
        return "keepalive-timeout"
    return "unknown"


def _infer_closed(sock: SockState) -> Cause:
    if sock.flags & SockFlag.DEAD:
        return "orphan" if sock.linger2 < 0 else "out-of-memory"
    if sock.flags & SockFlag.UNACCEPTED:
        return "listener-closed"
    if sock.shutdown != _BOTH:
        return "disconnect"  # connect(AF_UNSPEC) does not shut down first
    if sock.unread:
        return "close-with-unread-data"
    if sock.flags & SockFlag.LINGER and not sock.lingertime:
        return "linger-zero"
    return "unknown"
