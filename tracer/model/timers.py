"""What a socket's timers and time stamps say: in jiffies as the kernel counts, or as nanoseconds of CLOCK_MONOTONIC.

`ns` is when the socket was read and `hz` the kernel's jiffies a second. Timers fire when the wheel lets them.
"""

from __future__ import annotations

from typing import Final

from tracer.events.records import Pending, SockFlag, SockState, TcpState
from tracer.model import wheel

RTO_MAX_S: Final = 120
TIMEOUT_MIN: Final = 2
_U32: Final = 0xFFFFFFFF
_SECOND: Final = 1_000_000_000


def since(sock: SockState, stamp: int) -> int:
    """Jiffies since a u32 time stamp; one that is ahead by the clock's last tick is now."""
    waited = (sock.jiffies - stamp) & _U32
    return 0 if waited > 0x7FFFFFFF else waited


def until(sock: SockState, expires: int) -> int:
    """Jiffies until a timer expires."""
    return max(0, expires - sock.jiffies)


def jiffies(ms: int, hz: int) -> int:
    """msecs_to_jiffies(), which rounds up."""
    return -(-ms * hz // 1000)


def at_ns(sock: SockState, at: int, ns: int, hz: int) -> int:
    """Jiffies as nanoseconds."""
    return ns + (at - sock.jiffies) * _SECOND // hz


def timer_ns(sock: SockState, expires: int, ns: int, hz: int) -> int:
    """When a timer that expires at that many jiffies does."""
    return at_ns(sock, max(sock.jiffies, expires), ns, hz)


def last_data_ns(sock: SockState, ns: int, hz: int) -> int:
    """When the last data arrived (icsk_ack.lrcvtime)."""
    return ns - since(sock, sock.lrcvtime) * _SECOND // hz


def first_probe_ns(sock: SockState, ns: int, hz: int) -> int | None:
    """When the first zero-window probe of this closure was due (icsk_probes_tstamp); None if none was."""
    if not sock.probes_tstamp:
        return None
    return ns - since(sock, sock.probes_tstamp) * _SECOND // hz


def since_first_ms(sock: SockState, ns: int, hz: int) -> int:
    """Since the segment that is being retransmitted was first sent again (retrans_stamp: ms, or µs)."""
    if not sock.retrans_stamp:
        return 0  # that is happening now
    if sock.flags & SockFlag.USEC_TS:
        # the kernel is a jiffy generous here
        return ((ns // 1000 - sock.retrans_stamp) & _U32) // 1000 + 1000 // hz
    return (ns // 1_000_000 - sock.retrans_stamp) & _U32


def round_trip(sock: SockState, hz: int) -> int:
    """The smoothed round-trip time in jiffies, rounded up (srtt_us: microseconds, times 8)."""
    return -(-sock.srtt_us * hz // 8_000_000)


def rto_max(sock: SockState, hz: int) -> int:
    """The longest that a retransmission waits."""
    return sock.rto_max or RTO_MAX_S * hz


def clamped(sock: SockState, rto: int, elapsed_ms: int, hz: int) -> int:
    """tcp_clamp_rto_to_user_timeout()"""
    if not sock.user_timeout:
        return rto
    return min(rto, max(1, jiffies(sock.user_timeout - elapsed_ms, hz)))


def probe_interval(sock: SockState, backoff: int, hz: int) -> int:
    """tcp_probe0_when(): jiffies from one zero-window probe to the next."""
    return min(max(sock.rto, hz // 5) << min(backoff, 10), rto_max(sock, hz))


def persist_wait(sock: SockState, backoff: int, waited: int, hz: int) -> int:
    """Jiffies to the next zero-window probe, `waited` after the first was due: tcp_clamp_probe0_to_user_timeout()."""
    wait = probe_interval(sock, backoff, hz)
    if not sock.user_timeout:
        return wait
    return min(wait, max(TIMEOUT_MIN, jiffies(sock.user_timeout, hz) - waited))


def write_fires(sock: SockState) -> int:
    """When the write timer really fires, in jiffies."""
    return max(sock.jiffies, wheel.fires(sock.write_expires, sock.timer_levels & 0xF))


def keepalive_fires(sock: SockState) -> int:
    """When the keepalive timer really fires, in jiffies."""
    return max(sock.jiffies, wheel.fires(sock.keepalive_expires, sock.timer_levels >> 4))


def retransmit_timer_rearmed(sock: SockState, ns: int, hz: int) -> SockState:
    """A socket read while tcp_retransmit_timer() sends again, as that leaves it: with the timer armed for twice as long."""
    if sock.pending:
        return sock
    linear = sock.state == TcpState.SYN_SENT and sock.retransmits <= sock.syn_linear_timeouts
    rto = sock.rto if linear else min(sock.rto * 2, rto_max(sock, hz))
    wait = clamped(sock, rto, since_first_ms(sock, ns, hz), hz)
    levels = sock.timer_levels & 0xF0 | wheel.level(wait)
    return sock._replace(pending=Pending.RETRANS, rto=rto, write_expires=sock.jiffies + wait, timer_levels=levels)


def keepalive_timer_firing(sock: SockState) -> SockState:
    """A socket read when its keepalive timer fires, which is not armed then: it expires now."""
    return sock._replace(keepalive_expires=sock.jiffies, timer_levels=sock.timer_levels & 0x0F)
