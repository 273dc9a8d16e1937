"""When the kernel gives up on a connection: the formulas of net/ipv4/tcp_timer.c over one socket's fields.

Each function returns nanoseconds of CLOCK_MONOTONIC, or None where that mechanism does not run. `ns` is when the socket was
read and `hz` the kernel's jiffies a second; whatever the kernel counts in jiffies is exact to one of them.
"""

from __future__ import annotations

from typing import Final

from tracer.events.records import Pending, SockFlag, SockState, TcpState
from tracer.model.findings import By, Forecast

RTO_MAX_S: Final = 120
RTO_MIN_MS: Final = 200
TIMEWAIT_LEN_S: Final = 60
_U32: Final = 0xFFFFFFFF
_NO_KEEPALIVE: Final = frozenset({TcpState.LISTEN, TcpState.SYN_SENT, TcpState.SYN_RECV, TcpState.CLOSE})
_SECOND: Final = 1_000_000_000


def forecast(sock: SockState, ns: int, hz: int) -> Forecast | None:
    """The earliest end that the kernel itself will bring; None while nothing runs that could end the connection.

    A probe or retransmission that is merely due is not yet a sign of one: keepalive, persist and retransmission count from the
    first that went unanswered, a user timeout from when its clock started.
    """
    found: list[Forecast] = []
    orphan = bool(sock.flags & SockFlag.DEAD)
    if sock.probes_out or sock.user_timeout:
        at = keepalive(sock, ns, hz)
        if at is not None and sock.probes_out:
            found.append(Forecast("reset", "user-timeout" if sock.user_timeout else "keepalive", at, "kernel-timer"))
    at = persist(sock, ns, hz)
    if at is not None and (orphan or sock.user_timeout or probe_unanswered(sock, hz)):
        found.append(Forecast("timeout", _by(sock, "persist"), at, "kernel-timer"))
    at = retransmission(sock, ns, hz)
    if at is not None:
        found.append(Forecast("timeout", _by(sock, "retransmission"), at, "kernel-timer"))
    at = orphan_fin_wait2(sock, ns, hz)
    if at is not None:
        found.append(Forecast("timeout", "orphan", at, "kernel-timer"))
    return min(found, key=lambda one: one.at_ns or 0, default=None)


def keepalive(sock: SockState, ns: int, hz: int) -> int | None:
    """tcp_keepalive_timer(): when it sends a RST if nothing arrives any more.

    It does not run while anything is in flight or waits to be sent: a sender that a closed window blocks has no keepalive.
    """
    if not sock.flags & SockFlag.KEEPOPEN or not sock.keepalive_expires or sock.state in _NO_KEEPALIVE:
        return None
    if sock.packets_out or sock.unsent:
        return None
    idle = min(_since(sock, sock.lrcvtime), _since(sock, sock.rcv_tstamp))
    expires = _until(sock, sock.keepalive_expires)
    # a firing before the idle time is over only arms the timer again
    first = expires if sock.probes_out else max(expires, sock.keepalive_time - idle)
    interval = max(1, sock.keepalive_intvl)
    if sock.user_timeout:
        patience = sock.user_timeout * hz // 1000
        missing = patience - (idle + first)
        # the firing that gives up needs a probe before it
        firings = -(-missing // interval) if missing > 0 else 0
        jiffies = first + max(firings, 0 if sock.probes_out else 1) * interval
    else:
        jiffies = first + max(0, sock.keepalive_probes - sock.probes_out) * interval
    return _at(ns, jiffies, hz)


def persist(sock: SockState, ns: int, hz: int) -> int | None:
    """tcp_probe_timer(): when the zero-window probes end if none is answered, or though they are (TCP_USER_TIMEOUT)."""
    if sock.pending != Pending.PROBE0 or sock.packets_out or not sock.unsent:
        return None
    expires = _until(sock, sock.write_expires)
    if sock.user_timeout and not sock.flags & SockFlag.DEAD:
        patience = sock.user_timeout * hz // 1000
        # the clock starts with the first firing
        started = -_since(sock, sock.probes_tstamp) if sock.probes_tstamp else expires
        return _at(ns, max(expires, started + patience), hz)
    jiffies, probes, backoff = expires, sock.probes_out, sock.backoff
    for _ in range(512):  # retries2 is a u8
        if _persist_gives_up(sock, probes, backoff, hz):
            return _at(ns, jiffies, hz)
        probes += 1
        backoff = min(backoff + 1, sock.retries2)
        jiffies += probe_interval(sock, backoff, hz)
    return None


def probe_interval(sock: SockState, backoff: int, hz: int) -> int:
    """tcp_probe0_when(): jiffies from one zero-window probe to the next."""
    return min(max(sock.rto, hz // 5) << min(backoff, 10), _rto_max(sock, hz))


def probe_unanswered(sock: SockState, hz: int) -> bool:
    """Whether a zero-window probe or keepalive has stayed without an answer for longer than an answer takes."""
    if sock.probes_out != 1:
        return sock.probes_out > 1
    if sock.pending == Pending.PROBE0:
        waited = probe_interval(sock, sock.backoff, hz) - _until(sock, sock.write_expires)
    else:
        waited = sock.keepalive_intvl - _until(sock, sock.keepalive_expires)
    return waited >= max(sock.rto, hz)


def retransmission(sock: SockState, ns: int, hz: int) -> int | None:
    """tcp_write_timeout() and tcp_rtx_probe0_timed_out(): when retransmissions end if none is answered."""
    if sock.pending != Pending.RETRANS or not sock.retransmits or not sock.packets_out:
        return None
    expires = _until(sock, sock.write_expires)
    waited = _since_first_send(sock, ns, hz)
    if not sock.snd_wnd and not sock.flags & SockFlag.DEAD and sock.state not in _NO_KEEPALIVE:
        return _in_flight_with_closed_window(sock, ns, hz, expires, waited)
    if sock.user_timeout:
        # tcp_clamp_rto_to_user_timeout() makes the timer fire in time
        return _at(ns, max(expires, sock.user_timeout * hz // 1000 - waited), hz)
    patience = retransmission_patience_ms(_retries(sock, hz), _rto_max(sock, hz) * 1000 // hz) * hz // 1000
    jiffies, rto = expires, sock.rto
    for _ in range(512):
        if waited + jiffies >= patience:
            return _at(ns, jiffies, hz)
        rto = min(rto * 2, _rto_max(sock, hz))
        jiffies += rto
    return None


def retransmission_patience_ms(retries: int, rto_max_ms: int) -> int:
    """tcp_model_timeout(): how long `retries` retransmissions that double from 200 ms take."""
    threshold = (rto_max_ms // RTO_MIN_MS).bit_length() - 1
    if retries <= threshold:
        return ((2 << retries) - 1) * RTO_MIN_MS
    return ((2 << threshold) - 1) * RTO_MIN_MS + (retries - threshold) * rto_max_ms


def retransmit_timer_rearmed(sock: SockState, hz: int) -> SockState:
    """A socket read while tcp_retransmit_timer() sends again, as that leaves it: with the timer armed for twice as long."""
    if sock.pending:
        return sock
    rto = min(sock.rto * 2, _rto_max(sock, hz))
    return sock._replace(pending=Pending.RETRANS, rto=rto, write_expires=sock.jiffies + rto)


def orphan_fin_wait2(sock: SockState, ns: int, hz: int) -> int | None:
    """The end of a FIN_WAIT2 that nobody holds: silently, after the timer that is armed and a time in TIME_WAIT."""
    if sock.state != TcpState.FIN_WAIT2 or not sock.flags & SockFlag.DEAD or not sock.keepalive_expires:
        return None
    return _at(ns, _until(sock, sock.keepalive_expires) + TIMEWAIT_LEN_S * hz, hz)


def last_data_ns(sock: SockState, ns: int, hz: int) -> int:
    """When the last data arrived (icsk_ack.lrcvtime)."""
    return ns - _since(sock, sock.lrcvtime) * _SECOND // hz


def first_probe_ns(sock: SockState, ns: int, hz: int) -> int | None:
    """When the first zero-window probe of this closure was due (icsk_probes_tstamp); None if none was."""
    if not sock.probes_tstamp:
        return None
    return ns - _since(sock, sock.probes_tstamp) * _SECOND // hz


def timer_ns(sock: SockState, expires: int, ns: int, hz: int) -> int:
    """When a timer that expires at that many jiffies does."""
    return _at(ns, _until(sock, expires), hz)


def _by(sock: SockState, mechanism: By) -> By:
    if sock.flags & SockFlag.DEAD:
        return "orphan"
    return "user-timeout" if sock.user_timeout else mechanism


def _in_flight_with_closed_window(sock: SockState, ns: int, hz: int, expires: int, waited: int) -> int:
    """Retransmits for as long as ACKs arrive; a user timeout counts all the same (since 6.10)."""
    if sock.user_timeout:
        return _at(ns, max(expires, sock.user_timeout * hz // 1000 - waited), hz)
    limit = 2 * _rto_max(sock, hz)
    silent = min(_since(sock, sock.rcv_tstamp), waited)
    return _at(ns, max(expires, limit - silent), hz)


def _persist_gives_up(sock: SockState, probes: int, backoff: int, hz: int) -> bool:
    if not sock.flags & SockFlag.DEAD:
        return probes >= sock.retries2
    alive = sock.rto << backoff < _rto_max(sock, hz)
    limit = _orphan_retries(sock, alive)
    return (not alive and backoff >= limit) or probes >= limit


def _retries(sock: SockState, hz: int) -> int:
    if not sock.flags & SockFlag.DEAD:
        return sock.retries2
    return _orphan_retries(sock, sock.rto < _rto_max(sock, hz))


def _orphan_retries(sock: SockState, alive: bool) -> int:
    """tcp_orphan_retries()"""
    return sock.orphan_retries or (8 if alive else 0)


def _rto_max(sock: SockState, hz: int) -> int:
    return sock.rto_max or RTO_MAX_S * hz


def _since_first_send(sock: SockState, ns: int, hz: int) -> int:
    """Jiffies since the segment that is being retransmitted was first sent (retrans_stamp: ms, or µs)."""
    unit_ns = 1000 if sock.flags & SockFlag.USEC_TS else 1_000_000
    waited = (ns // unit_ns - sock.retrans_stamp) & _U32
    return waited * unit_ns * hz // _SECOND


def _since(sock: SockState, stamp: int) -> int:
    """Jiffies since a u32 time stamp; one that is ahead by the clock's last tick is now."""
    waited = (sock.jiffies - stamp) & _U32
    return 0 if waited > 0x7FFFFFFF else waited


def _until(sock: SockState, expires: int) -> int:
    return max(0, expires - sock.jiffies)


def _at(ns: int, jiffies: int, hz: int) -> int:
    return ns + jiffies * _SECOND // hz
