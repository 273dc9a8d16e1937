"""When the kernel gives up on a connection: the handlers of net/ipv4/tcp_timer.c, played forward from one socket's fields.

Each function returns nanoseconds of CLOCK_MONOTONIC, or None where that mechanism does not run. `ns` is when the socket was
read and `hz` the kernel's jiffies a second. Within, time is counted in jiffies, as the kernel does, and timers fire when the
wheel lets them.
"""

from __future__ import annotations

from typing import Final

from tracer.events.records import Pending, SockFlag, SockState, TcpState
from tracer.model import timers, wheel
from tracer.model.findings import By, Forecast

RTO_MIN_MS: Final = 200
SYN_RTO_MS: Final = 1000
TIMEWAIT_LEN_S: Final = 60
UNANSWERED_RETRANSMITS: Final = 2
"""One is a lost segment."""
FIRINGS_AT_MOST: Final = 512
"""Of one timer before it gives up; the counts that limit it are u8."""
_U32: Final = 0xFFFFFFFF
_OPENING: Final = frozenset({TcpState.SYN_SENT, TcpState.SYN_RECV})
_NO_KEEPALIVE: Final = frozenset({TcpState.LISTEN, TcpState.CLOSE, *_OPENING})


def forecast(sock: SockState, ns: int, hz: int) -> Forecast | None:
    """The earliest end that the kernel itself will bring; None while nothing runs that could end the connection.

    A probe or retransmission that is merely due is not yet a sign of one: keepalive, persist and retransmission count from the
    first that went unanswered (of retransmissions the second, for one segment may be lost), a user timeout from when its clock
    started.
    """
    found: list[Forecast] = []
    unanswered = probe_unanswered(sock, hz)
    if unanswered and (at := keepalive(sock, ns, hz)) is not None:
        found.append(Forecast("reset", "user-timeout" if sock.user_timeout else "keepalive", at, "kernel-timer"))
    if unanswered or sock.user_timeout or sock.flags & SockFlag.DEAD:
        _add(found, _by(sock, "persist"), persist(sock, ns, hz))
    _add(found, _by(sock, "retransmission"), retransmission(sock, ns, hz))
    _add(found, "orphan", orphan_fin_wait2(sock, ns, hz))
    return min(found, key=lambda one: one.at_ns or 0, default=None)


def keepalive(sock: SockState, ns: int, hz: int) -> int | None:
    """tcp_keepalive_timer(): when it sends a RST if nothing arrives any more.

    It does not run while anything is in flight or waits to be sent: a sender that a closed window blocks has no keepalive.
    """
    if not sock.flags & SockFlag.KEEPOPEN or not sock.keepalive_expires or sock.state in _NO_KEEPALIVE:
        return None
    if sock.packets_out or sock.unsent:
        return None
    heard = sock.jiffies - min(timers.since(sock, sock.lrcvtime), timers.since(sock, sock.rcv_tstamp))
    patience = timers.jiffies(sock.user_timeout, hz)
    at, probes = timers.keepalive_fires(sock), sock.probes_out
    for _ in range(FIRINGS_AT_MOST):
        idle = at - heard
        if idle < sock.keepalive_time:
            at = wheel.set_at(at, sock.keepalive_time - idle)
            continue
        # with TCP_USER_TIMEOUT the number of probes does not count, but one there must have been
        if (probes and idle >= patience) if patience else probes >= sock.keepalive_probes:
            return timers.at_ns(sock, at, ns, hz)
        probes += 1
        at = wheel.set_at(at, max(1, sock.keepalive_intvl))
    return None


def persist(sock: SockState, ns: int, hz: int) -> int | None:
    """tcp_probe_timer(): when zero-window probes end if none is answered, or though they are (TCP_USER_TIMEOUT, orphans)."""
    if sock.pending != Pending.PROBE0 or sock.packets_out or not sock.unsent:
        return None
    patience = timers.jiffies(sock.user_timeout, hz)
    at, probes, backoff = timers.write_fires(sock), sock.probes_out, sock.backoff
    started = sock.jiffies - timers.since(sock, sock.probes_tstamp) if sock.probes_tstamp else None
    # each answer starts the count anew, and a peer that answered until now is taken to go on
    unanswered = int(probes > 0 or not backoff)
    for _ in range(FIRINGS_AT_MOST):
        if started is None:
            started = at  # this firing starts the clock
        elif patience and at - started >= patience:
            return timers.at_ns(sock, at, ns, hz)
        if _persist_gives_up(sock, probes, backoff, hz):
            return timers.at_ns(sock, at, ns, hz)
        probes += unanswered
        backoff = min(backoff + 1, sock.retries2)
        at = wheel.set_at(at, timers.persist_wait(sock, backoff, at - started, hz))
    return None


def probe_unanswered(sock: SockState, hz: int) -> bool:
    """Whether a zero-window probe or keepalive has stayed without an answer for longer than an answer takes.

    One that comes within half a second of an earlier one gets none (tcp_invalid_ratelimit), so the second often stays alone.
    """
    if not sock.probes_out:
        return _silent_in_flight(sock, hz)
    if sock.pending == Pending.PROBE0:
        interval = timers.probe_interval(sock, sock.backoff, hz)
        before = timers.probe_interval(sock, max(0, sock.backoff - 1), hz)
        left = timers.until(sock, sock.write_expires)
        waited = interval - left if left < _patience_left(sock, hz) else 0
        # when the interval grows no more the one before may have been as long; but the oldest that went unanswered was sent
        # within an interval, which the wheel makes an eighth longer, after the last answer, unless it was the first of all
        silent = timers.since(sock, sock.rcv_tstamp) - interval - interval // 8
        asked = timers.since(sock, sock.probes_tstamp) if sock.probes_tstamp else 0
        if min(silent, asked) >= max(sock.rto, hz):
            return True
    else:
        before = sock.keepalive_intvl
        waited = before - timers.until(sock, sock.keepalive_expires)
    return waited + (sock.probes_out - 1) * before >= max(sock.rto, hz)


def retransmission(sock: SockState, ns: int, hz: int) -> int | None:
    """tcp_retransmit_timer() and tcp_write_timeout(): when retransmissions end if none is answered."""
    if sock.pending != Pending.RETRANS or not sock.packets_out:
        return None
    if not sock.snd_wnd and not sock.flags & SockFlag.DEAD and sock.state not in _OPENING:
        return _in_flight_with_closed_window(sock, ns, hz)
    if sock.retransmits < UNANSWERED_RETRANSMITS:
        return None
    opening = sock.state in _OPENING
    retries = sock.syn_retries if opening else _retries(sock, hz)
    most_ms = timers.rto_max(sock, hz) * 1000 // hz
    patience_ms = sock.user_timeout or retransmission_patience_ms(retries, most_ms, SYN_RTO_MS if opening else RTO_MIN_MS)
    at, rto, sent, waited_ms = timers.write_fires(sock), sock.rto, sock.retransmits, timers.since_first_ms(sock, ns, hz)
    for _ in range(FIRINGS_AT_MOST):
        elapsed_ms = waited_ms + (at - sock.jiffies) * 1000 // hz
        if elapsed_ms >= patience_ms or (opening and sent >= retries + sock.syn_linear_timeouts):
            return timers.at_ns(sock, at, ns, hz)
        sent += 1
        if not opening or sent > sock.syn_linear_timeouts:
            rto = min(rto * 2, timers.rto_max(sock, hz))
        at = wheel.set_at(at, timers.clamped(sock, rto, elapsed_ms, hz))
    return None


def retransmission_patience_ms(retries: int, rto_max_ms: int, base_ms: int = RTO_MIN_MS) -> int:
    """tcp_model_timeout(): how long `retries` retransmissions that double from `base_ms` take."""
    threshold = (rto_max_ms // base_ms).bit_length() - 1
    if retries <= threshold:
        return ((2 << retries) - 1) * base_ms
    return ((2 << threshold) - 1) * base_ms + (retries - threshold) * rto_max_ms


def orphan_fin_wait2(sock: SockState, ns: int, hz: int) -> int | None:
    """The end of a FIN_WAIT2 that nobody holds: silently, after the timer that is armed and as long again in TIME_WAIT."""
    if sock.state != TcpState.FIN_WAIT2 or not sock.flags & SockFlag.DEAD or not sock.keepalive_expires:
        return None
    shortest = 4 * sock.rto - sock.rto // 2
    left = max(sock.linger2 or sock.fin_timeout, shortest) - TIMEWAIT_LEN_S * hz
    at = timers.keepalive_fires(sock)
    return timers.at_ns(sock, wheel.set_at(at, max(left, shortest)) if left > 0 else at, ns, hz)


def _add(found: list[Forecast], by: By, at: int | None) -> None:
    if at is not None:
        found.append(Forecast("timeout", by, at, "kernel-timer"))


def _by(sock: SockState, mechanism: By) -> By:
    if sock.flags & SockFlag.DEAD:
        return "orphan"
    return "user-timeout" if sock.user_timeout else mechanism


def _in_flight_with_closed_window(sock: SockState, ns: int, hz: int) -> int | None:
    """tcp_rtx_probe0_timed_out() (since 6.6): retransmits for as long as ACKs arrive; a user timeout counts all the same."""
    patience = timers.jiffies(sock.user_timeout, hz)
    silent = _silent_in_flight(sock, hz)
    if not patience and not silent:
        return None
    limit = min(2 * timers.rto_max(sock, hz), patience or _U32)
    heard = sock.jiffies - timers.since(sock, sock.rcv_tstamp)
    waited_ms = timers.since_first_ms(sock, ns, hz)
    expires, at, rto = sock.write_expires, timers.write_fires(sock), sock.rto
    for _ in range(FIRINGS_AT_MOST):
        elapsed_ms = waited_ms + (at - sock.jiffies) * 1000 // hz
        if (patience and elapsed_ms > sock.user_timeout) or (
            silent and expires - heard > limit and timers.jiffies(elapsed_ms, hz) > limit
        ):
            return timers.at_ns(sock, at, ns, hz)
        rto = min(rto * 2, timers.rto_max(sock, hz))
        wait = timers.clamped(sock, rto, elapsed_ms, hz)
        expires, at = at + wait, wheel.set_at(at, wait)
    return None


def _patience_left(sock: SockState, hz: int) -> int:
    """Jiffies until TCP_USER_TIMEOUT ends zero-window probes: a timer that is set for then says not how long it was set for."""
    if not sock.user_timeout or not sock.probes_tstamp:
        return _U32
    return timers.jiffies(sock.user_timeout, hz) - timers.since(sock, sock.probes_tstamp)


def _silent_in_flight(sock: SockState, hz: int) -> bool:
    """Whether what is in flight before a closed window was sent again and drew no ACK, for longer than an answer takes."""
    if sock.pending != Pending.RETRANS or sock.snd_wnd or not sock.packets_out or sock.backoff < 1:
        return False
    silent = timers.since(sock, sock.rcv_tstamp)
    heard = sock.jiffies - silent
    # the timer was last armed, for rto, when the segment was last sent, and for half of that before; it is late by an eighth
    sent = sock.write_expires - sock.rto
    before = sock.rto if sock.rto >= timers.rto_max(sock, hz) else sock.rto // 2
    last_unanswered = heard < sent and sock.jiffies - sent >= max(hz // 2, 2 * timers.round_trip(sock, hz))
    one_before_unanswered = heard < sent - before - before // 8 - timers.TIMEOUT_MIN
    return silent >= max(before, hz) and (last_unanswered or one_before_unanswered)


def _persist_gives_up(sock: SockState, probes: int, backoff: int, hz: int) -> bool:
    if not sock.flags & SockFlag.DEAD:
        return probes >= sock.retries2
    alive = sock.rto << backoff < timers.rto_max(sock, hz)
    limit = _orphan_retries(sock, alive)
    return (not alive and backoff >= limit) or probes >= limit


def _retries(sock: SockState, hz: int) -> int:
    if not sock.flags & SockFlag.DEAD:
        return sock.retries2
    return _orphan_retries(sock, sock.rto < timers.rto_max(sock, hz))


def _orphan_retries(sock: SockState, alive: bool) -> int:
    """tcp_orphan_retries()"""
    return sock.orphan_retries or (8 if alive else 0)
