"""What the model says: frozen values that views and exports draw, with the words of EVENTS.md.

None is unknown, never a guess. Durations are seconds, sizes bytes, times CLOCK_MONOTONIC nanoseconds.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from tracer.events.records import Mechanism, OpenedBy, Side
from tracer.model.sample import Sample

TimerName: TypeAlias = Literal["none", "retransmit", "persist", "keepalive", "time-wait"]
OwnerMatch: TypeAlias = Literal["reader", "fd", "shared", "creator", "none"]
Outcome: TypeAlias = Literal["reset", "timeout", "none"]
Basis: TypeAlias = Literal["kernel-timer", "learned", "conditional", "none"]
By: TypeAlias = Literal[
    "keepalive",
    "user-timeout",
    "persist",
    "retransmission",
    "orphan",
    "application",
    "close-with-unread-data",
]
Cause: TypeAlias = Literal[
    "keepalive-timeout",
    "user-timeout",
    "probe-timeout",
    "retransmission-timeout",
    "close-with-unread-data",
    "linger-zero",
    "data-after-close",
    "no-socket",
    "listener-closed",
    "out-of-memory",
    "orphan",
    "administrative",
    "disconnect",
    "time-wait",
    "invalid-segment",
    "peer",
    "unknown",
]


Action: TypeAlias = Literal[
    "connection-seen",
    "window-closed",
    "window-opened",
    "probe-sent",
    "probe-received",
    "retransmitted",
    "verdict-changed",
    "reset-sent",
    "reset-received",
    "connection-closed",
    "events-lost",
]


class Phase(str, enum.Enum):
    """How far along the way to a reset a connection is; `severity` orders them, worst highest."""

    OK = "ok"
    BACKLOGGED = "backlogged"
    STALLED = "stalled"
    UNANSWERED = "unanswered"
    RESET = "reset"
    TIMED_OUT = "timed-out"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address and a port. IPv4 is written as such also where the socket is an IPv6 one."""

    ip: str
    port: int


@dataclass(frozen=True, slots=True)
class Queues:
    """`rcv_wnd` is what the peer may still send us, `snd_wnd` the window that it last advertised."""

    recv_q: int
    send_q: int
    rcv_wnd: int
    snd_wnd: int
    rcvbuf: int


@dataclass(frozen=True, slots=True)
class TimerView:
    """The timer that ss and netstat would print, and the counters behind it."""

    name: TimerName
    expires_s: float | None
    probes_out: int
    backoff: int
    retransmits: int


@dataclass(frozen=True, slots=True)
class Owner:
    """Who holds an end of a connection on this host, and how well that is known.

    `match`: `reader` its last reader thread was seen; `fd` exactly one process holds it; `shared` several do (`holders`),
    and none of them or more than one was seen reading; `creator` only connect() was seen; `none`.
    `threads` were seen reading (at most 4 are told apart); the one named is the last. Rates are bytes a second.
    `cpu_share` is that thread's since data waits: 1.0 is all of one CPU.
    """

    match: OwnerMatch = "none"
    pid: int | None = None
    name: str | None = None
    executable: str | None = None
    command_line: str | None = None
    container: str | None = None
    thread_id: int | None = None
    thread_name: str | None = None
    holders: tuple[int, ...] = ()
    last_read_s: float | None = None
    thread_state: str | None = None
    wait_channel: str | None = None
    threads: int = 0
    read_rate: float | None = None
    arrival_rate: float | None = None
    cpu_share: float | None = None


@dataclass(frozen=True, slots=True)
class SlowReader:
    """Whose receive window is closed. `ip` and `port` are that end's; the process is None unless it is proven.

    `doubt` says why it is not, where the process that holds that end may be a victim itself.
    """

    side: Literal["local", "peer", "none", "unknown"]
    ip: str | None = None
    port: int | None = None
    pid: int | None = None
    name: str | None = None
    thread_id: int | None = None
    thread_name: str | None = None
    chain: tuple[str, ...] = ()
    doubt: str | None = None


@dataclass(frozen=True, slots=True)
class Habit:
    """A program gave up on stalled peers after `patience_ns` (the median), give or take `spread_ns`, `sightings` times."""

    program: str
    patience_ns: int
    spread_ns: int
    sightings: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Forecast:
    """What happens if nothing changes. `at_ns` is None where no clock runs: then it waits for an application.

    `habit` is what a learned one was learned from.
    """

    outcome: Outcome
    by: By | None = None
    at_ns: int | None = None
    basis: Basis = "none"
    habit: Habit | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judgement of one connection at one moment. `stalled_s` is None while no window is closed."""

    phase: Phase
    since_ns: int
    stalled_s: float | None
    summary: str
    evidence: tuple[str, ...]
    slow_reader: SlowReader
    forecast: Forecast


@dataclass(frozen=True, slots=True)
class ResetView:
    """A reset, and what is known of why. `reason` is the kernel's own name for it.

    `direction` is None for an end without a RST: a timer gave up.
    """

    direction: Literal["sent", "received"] | None
    cause: Cause
    reason: str | None
    reason_source: Literal["kernel", "inferred"]
    unread_bytes: int | None
    unsent_bytes: int | None


@dataclass(frozen=True, slots=True)
class Totals:
    """What a connection went through while it was watched."""

    closures: int = 0
    probes: int = 0
    longest_stall_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a recording says of a connection that its sample alone does not: who holds it, and what came of others.

    The slow reader may be found through connections that are not recorded, a habit was learned before, and a RST's cause is the
    kernel's: these are taken as they were found. `is_final`: there is no sample, and the whole verdict is taken so.
    """

    verdict: Verdict
    owner: Owner
    opened_by: OpenedBy = "unknown"
    reset: ResetView | None = None
    is_final: bool = False


@dataclass(frozen=True, slots=True)
class ConnectionView:
    """One connection as the model sees it now. `owner` holds the local end, `peer_owner` the other if it is here too."""

    id: str
    state: str
    netns: int
    network_type: Literal["ipv4", "ipv6"]
    local: Endpoint
    peer: Endpoint
    opened_by: OpenedBy
    age_s: float | None
    queues: Queues
    timer: TimerView
    owner: Owner
    peer_owner: Owner | None
    verdict: Verdict
    totals: Totals
    reset: ResetView | None = None
    sample: Sample | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that happened, for the event stream. `action` is EVENTS.md's event.action.

    `connection` is None only for a RST that belongs to no socket; `local` and `peer` are then all that is known.
    """

    action: Action
    ns: int
    connection: ConnectionView | None = None
    local: Endpoint | None = None
    peer: Endpoint | None = None
    netns: int | None = None
    window_side: Side | None = None
    probe_kind: Mechanism | None = None
    probe_number: int | None = None
    reset: ResetView | None = None
    lost: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Screen:
    """All that a table shows: connections worst first, how many there are of each phase, resets of the last minute."""

    ns: int
    connections: tuple[ConnectionView, ...]
    by_phase: Mapping[Phase, int]
    resets: tuple[Notice, ...]
    events: int
    ring_buffer_lost: int
    table_full: int
    scan_s: float | None = None
    """How long the last look at all sockets took."""
