"""Sockets out of recordings: the kernel's fields where a line has them, else what makes the same show."""

from __future__ import annotations

import re
from typing import Any, Final, get_args

from tracer.events.records import Pending, SockState, TcpState
from tracer.events.wire import SOCK_STATE
from tracer.model import findings
from tracer.model.sample import Sample
from tracer.sources.fields import Fields, ForeignError

NOTHING: Final = SockState(*(b"" if name.endswith("_addr") else 0 for name in SockState._fields))  # type: ignore[arg-type]
SHOWN_HZ: Final = 1000
FARTHEST: Final = 1 << 33
"""Jiffies to a timer's end, at most: what is armed is never further away."""

_BITS: Final = {"Q": 64, "I": 32, "i": 31, "H": 16, "B": 8}
_ELSEWHERE: Final = frozenset({"sk", "local_addr", "peer_addr", "local_port", "peer_port", "netns"})
_STATES: Final = tuple(state.name for state in TcpState)
_PENDING: Final = {"retransmit": Pending.RETRANS, "persist": Pending.PROBE0}


def _bounds() -> dict[str, tuple[int, int]]:
    """The least and most of each field, as wide as bpf/records.h has it."""
    codes = "".join(
        code if code == "s" else code * int(number or 1) for number, code in re.findall(r"(\d*)([QIiHBs])", SOCK_STATE.format)
    )
    widths = dict(zip(SockState._fields, codes, strict=True))
    return {
        name: (-(1 << 31) if code == "i" else 0, (1 << _BITS[code]) - 1)
        for name, code in widths.items()
        if name not in _ELSEWHERE
    }


BOUNDS: Final = _bounds()


def raw(sock: Fields) -> dict[str, Any]:
    """The fields that are not zero. Unknown ones, of a newer kernel side, change nothing."""
    return {name: sock.integer(name, most, least) for name, (least, most) in BOUNDS.items() if name in sock}


def check(sock: SockState) -> None:
    """Raises ForeignError where a socket is not one that any kernel has."""
    if sock.state not in TcpState.__members__.values():
        raise ForeignError("tcptrace.sample.sock.state is none of TCP's")
    for name in ("write_expires", "keepalive_expires"):
        if getattr(sock, name) - sock.jiffies > FARTHEST:
            raise ForeignError(f"tcptrace.sample.sock.{name} is too far away")


def shown(own: Fields, ends: SockState, ns: int) -> Sample:
    """A sample that shows the queues, windows and timer that a line without one tells of."""
    queues, timer, connection = own.part("queues"), own.part("timer"), own.part("connection")
    u32 = (1 << 32) - 1
    name = timer.choice("name", get_args(findings.TimerName))
    expires = round(min(timer.maybe_number("expires_s") or 0.0, float(u32)) * SHOWN_HZ)
    age = min(connection.maybe_number("age_s") or 0.0, float(u32))
    recv_q, send_q = queues.integer("recv_q", u32 >> 1), queues.integer("send_q", u32 >> 1)
    sock = ends._replace(
        state=TcpState[connection.choice("state", _STATES)],
        established_ns=max(0, ns - round(age * 1e9)) if age else 0,
        rcv_nxt=recv_q,
        rcv_wup=recv_q,
        rcv_wnd=queues.integer("rcv_wnd", u32 >> 1),
        write_seq=send_q,
        snd_nxt=send_q,
        snd_wnd=queues.integer("snd_wnd", u32),
        rcvbuf=queues.integer("rcvbuf", u32),
        pending=_PENDING.get(name, Pending.NONE),
        write_expires=expires,
        keepalive_expires=max(1, expires) if name == "keepalive" else 0,
        probes_out=timer.integer("probes_out", 0xFF),
        backoff=timer.integer("backoff", 0xFF),
        retransmits=timer.integer("retransmits", 0xFF),
    )
    return Sample(ns, SHOWN_HZ, sock, ns)
