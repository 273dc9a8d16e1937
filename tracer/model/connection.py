"""One connection as it changes: what samples and events said, and since when. The judgement is made elsewhere, from this."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple, TypeAlias

from tracer.events.records import Actor, OpenedBy, Reset, SockState, TcpState, Thread
from tracer.model import timers
from tracer.model.findings import Endpoint, Phase, Recorded, ResetView, Verdict
from tracer.model.sample import Closure, Sample

Tuple4: TypeAlias = tuple[bytes, int, bytes, int]
"""Local address and port, peer's address and port."""

MARK_NS: Final = 500_000_000
"""Rates are measured over at least this long."""

ENDS: Final = frozenset({Phase.RESET, Phase.TIMED_OUT, Phase.CLOSED})
_SENDING: Final = frozenset(
    {TcpState.ESTABLISHED, TcpState.CLOSE_WAIT, TcpState.FIN_WAIT1, TcpState.CLOSING, TcpState.LAST_ACK}
)
_RECEIVING: Final = frozenset({TcpState.ESTABLISHED, TcpState.FIN_WAIT1, TcpState.FIN_WAIT2})
_OPENED_BY: Final[tuple[OpenedBy, ...]] = ("unknown", "local", "peer")


class _Mark(NamedTuple):
    ns: int
    copied_seq: int
    rcv_nxt: int
    snd_una: int


class Changes(NamedTuple):
    """What a sample showed to have changed: windows that closed or opened since the one before."""

    local: bool | None = None
    peer: bool | None = None


@lru_cache(4096)  # asked for with every record, and a third of what one costs
def address(raw: bytes) -> IPv4Address | IPv6Address:
    """16 bytes as an address; v4-mapped ones are IPv4."""
    ip = IPv6Address(raw)
    return ip.ipv4_mapped or ip


@lru_cache(4096)
def _endpoint(raw: bytes, port: int) -> Endpoint:
    return Endpoint(str(address(raw)), port)


@dataclass(slots=True, eq=False)
class Connection:
    """A connection's state. Times are CLOCK_MONOTONIC ns; None: not so, or not known."""

    id: str
    sock: SockState
    ns: int
    hz: int
    first_ns: int = 0
    """When it was first met."""
    in_stream: bool = False
    phase: Phase = Phase.OK
    phase_ns: int = 0
    verdict: Verdict | None = None
    judged: tuple[int, int, Phase | None] | None = None
    announced: Verdict | None = None
    local_closed: Closure | None = None
    peer_closed: Closure | None = None
    unread_since: int | None = None
    """Since when data waits and nothing was read."""
    unread_exact: bool = True
    """Else it waits for at least that long: it did when we came."""
    unacked_since: int | None = None
    """Since when data waits to be acknowledged and nothing was."""
    read_rate: float | None = None
    arrival_rate: float | None = None
    ack_rate: float | None = None
    holders: tuple[int, ...] | None = None
    other: Connection | None = None
    """The other end, if that is on this host and proven to be."""
    recorded_other: str | None = None
    """Its id in a recording, which may tell of it only later."""
    reset: ResetView | None = None
    """How it was reset, or without a RST given up."""
    ended_ns: int | None = None
    end: Phase | None = None
    received: Reset | None = None
    """A RST whose cause is not settled yet: the other end's record may be on its way."""
    actor: Actor | None = None
    """The process that ended it."""
    given_up: bool = False
    """Its application has closed it; it lives on in the kernel."""
    recorded: Recorded | None = None
    """What a recording says of it that it cannot be asked any more."""
    missed_scans: int = 0
    closure_probes: int = 0
    """Zero-window probes sent since the peer's window closed."""
    closures: int = 0
    probes: int = 0
    longest_stall_ns: int = 0
    _mark: _Mark = field(default=_Mark(0, 0, 0, 0))
    _waiting_reader: Thread | None = None
    _opened: OpenedBy = "unknown"

    def __post_init__(self) -> None:
        self.first_ns = self.phase_ns = self.ns
        self._mark = _Mark(self.ns, self.sock.copied_seq, self.sock.rcv_nxt, self.sock.snd_una)

    @property
    def tuple4(self) -> Tuple4:
        """Its ends."""
        sock = self.sock
        return sock.local_addr, sock.local_port, sock.peer_addr, sock.peer_port

    @property
    def mirrored(self) -> Tuple4:
        """Its ends as the other side names them."""
        sock = self.sock
        return sock.peer_addr, sock.peer_port, sock.local_addr, sock.local_port

    @property
    def local(self) -> Endpoint:
        """The end of this connection on this host."""
        return _endpoint(self.sock.local_addr, self.sock.local_port)

    @property
    def peer(self) -> Endpoint:
        """The other end."""
        return _endpoint(self.sock.peer_addr, self.sock.peer_port)

    @property
    def opened_by(self) -> OpenedBy:
        """Who opened it; a listener on the local port says so where the opening was not seen."""
        seen = self.sock.opened_by
        return _OPENED_BY[seen] if seen in (1, 2) else self._opened

    @property
    def service_port(self) -> int | None:
        """The port that is listened on; None if it is not known at which end that is."""
        return {"local": self.sock.peer_port, "peer": self.sock.local_port}.get(self.opened_by)

    def opened_toward_listener(self, by: OpenedBy) -> None:
        """A scan found a listener on one end's port."""
        self._opened = by

    @property
    def closed_since(self) -> Closure | None:
        """The longer of the two closures."""
        both = [one for one in (self.local_closed, self.peer_closed) if one is not None]
        return min(both, key=lambda one: one.ns, default=None)

    def first_sample(self, quiet: str = "") -> Changes:
        """What the very first sample says of how long things have been so. An event told of the side named in `quiet`."""
        sock, ns = self.sock, self.ns
        if sock.unread:
            # whatever arrived last is still there
            self.unread_exact = bool(sock.read_ns)
            self.unread_since = max(sock.read_ns, timers.last_data_ns(sock, ns, self.hz))
        if sock.send_q:
            self.unacked_since = ns
        local = peer = None
        if quiet != "local" and self._local_is_closed(sock):
            # no data is accepted any more, so the last that was closed it
            self.local_closed = Closure(timers.last_data_ns(sock, ns, self.hz), False)
            local = True
        if quiet != "peer" and self._peer_is_closed(sock):
            first_probe = timers.first_probe_ns(sock, ns, self.hz)
            self.peer_closed = Closure(ns if first_probe is None else first_probe, False)
            peer = True
        self.closures = int(bool(local)) + int(bool(peer))
        return Changes(local, peer)

    def update(self, sock: SockState, ns: int, quiet: str = "") -> Changes:
        """Takes in a newer sample; one older than what is known changes nothing."""
        if ns < self.ns:
            return Changes()
        before, self.sock, self.ns = self.sock, sock, ns
        self.judged = None
        self._note_progress(before, sock, ns)
        local, peer = self._local_is_closed(sock), self._peer_is_closed(sock)
        changes = Changes(
            local if quiet != "local" and local != (self.local_closed is not None) else None,
            peer if quiet != "peer" and peer != (self.peer_closed is not None) else None,
        )
        if changes.local is not None:
            self.set_local(Closure(ns, False) if local else None, ns)
        if changes.peer is not None:
            self.set_peer(Closure(ns, False) if peer else None, ns)
        return changes

    def set_local(self, closure: Closure | None, ns: int) -> None:
        """Our receive window closed, or (None) opened."""
        self._note_stall(self.local_closed, ns)
        self.closures += closure is not None and closure is not self.local_closed
        self.local_closed = closure
        self.judged = None

    def set_peer(self, closure: Closure | None, ns: int) -> None:
        """The peer's receive window closed, or (None) opened."""
        self._note_stall(self.peer_closed, ns)
        if closure is not self.peer_closed:
            self.closures += closure is not None
            self.closure_probes = 0
        self.peer_closed = closure
        self.judged = None

    def sample(self) -> Sample:
        """All that it is judged from."""
        return Sample(
            self.ns,
            self.hz,
            self.sock,
            self.phase_ns,
            self.local_closed,
            self.peer_closed,
            self.unread_since,
            self.unacked_since,
            self.read_rate,
            self.arrival_rate,
            self.ack_rate,
            self.closure_probes,
            self.closures,
            self.probes,
            self.longest_stall_ns,
            self.unread_exact,
            self.other.id if self.other is not None else self.recorded_other,
        )

    def restore(self, sample: Sample, recorded: Recorded) -> None:
        """Makes it what it was when the sample was taken."""
        self.ns, self.hz, self.sock = sample.ns, sample.hz, sample.sock
        self.phase, self.phase_ns = recorded.verdict.phase, sample.since_ns
        self.local_closed, self.peer_closed = sample.local_closed, sample.peer_closed
        self.unread_since, self.unacked_since = sample.unread_since, sample.unacked_since
        self.read_rate, self.arrival_rate, self.ack_rate = sample.read_rate, sample.arrival_rate, sample.ack_rate
        self.closure_probes, self.closures, self.probes = sample.closure_probes, sample.closures, sample.probes
        self.longest_stall_ns, self.unread_exact = sample.longest_stall_ns, sample.unread_exact
        self.holders = recorded.owner.holders
        self.recorded, self.recorded_other = recorded, sample.other
        self.reset = recorded.reset
        self.end = recorded.verdict.phase if recorded.verdict.phase in ENDS else None
        self.judged = None
        self._opened = recorded.opened_by

    def cpu_share(self, reader: Thread | None) -> float | None:
        """Of one CPU, what the thread has used since it lets data wait; None until that can be told."""
        since = self.unread_since if self.local_closed is None else self.local_closed.ns
        if reader is None or reader.cpu_ns is None or since is None or reader.ns < since:
            self._waiting_reader = None
            return None
        first = self._waiting_reader
        if first is None or first.cpu_ns is None or first.tid != reader.tid:
            self._waiting_reader = reader
            return None
        waited = reader.ns - first.ns
        return (reader.cpu_ns - first.cpu_ns) / waited if waited >= MARK_NS else None

    def finish(self, ns: int) -> None:
        """The connection ended: what was closed stays closed no longer."""
        self._note_stall(self.local_closed, ns)
        self._note_stall(self.peer_closed, ns)

    def _note_stall(self, closure: Closure | None, ns: int) -> None:
        if closure is not None:
            self.longest_stall_ns = max(self.longest_stall_ns, ns - closure.ns)

    def _note_progress(self, before: SockState, sock: SockState, ns: int) -> None:
        if not sock.unread:
            self.unread_since, self.unread_exact = None, True
        elif self.unread_since is None or sock.copied_seq != before.copied_seq:
            self.unread_since = max(sock.read_ns, timers.last_data_ns(sock, ns, self.hz))
        if not sock.send_q:
            self.unacked_since = None
        elif self.unacked_since is None or sock.snd_una != before.snd_una:
            self.unacked_since = ns
        if ns - self._mark.ns >= MARK_NS:
            seconds = (ns - self._mark.ns) / 1e9
            self.read_rate = (sock.copied_seq - self._mark.copied_seq & 0xFFFFFFFF) / seconds
            self.arrival_rate = (sock.rcv_nxt - self._mark.rcv_nxt & 0xFFFFFFFF) / seconds
            self.ack_rate = (sock.snd_una - self._mark.snd_una & 0xFFFFFFFF) / seconds
            self._mark = _Mark(ns, sock.copied_seq, sock.rcv_nxt, sock.snd_una)

    @staticmethod
    def _local_is_closed(sock: SockState) -> bool:
        return sock.state in _RECEIVING and not sock.receive_window and not sock.shutdown & 1

    @staticmethod
    def _peer_is_closed(sock: SockState) -> bool:
        return sock.state in _SENDING and not sock.snd_wnd
