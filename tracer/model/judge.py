"""From a connection's state to its verdict and its view at a given time: phase, slow reader, forecast, words."""

from __future__ import annotations

from typing import Final

from tracer.events.records import Pending, SockState, TcpState
from tracer.model import deadlines, phases, timers, words
from tracer.model.blame import Blame, reading_blocked, writing_blocked
from tracer.model.connection import Connection, address
from tracer.model.findings import (
    ConnectionView,
    Forecast,
    Habit,
    Owner,
    Phase,
    Queues,
    SlowReader,
    TimerName,
    TimerView,
    Totals,
    Verdict,
)
from tracer.model.owners import Owners
from tracer.model.patience import Patience

_STATES: Final = {state.value: state.name for state in TcpState}
_NO_FORECAST: Final = Forecast("none")
_CONDITIONAL: Final = Forecast("reset", "close-with-unread-data", None, "conditional")
_MOVED_NS: Final = 1_000_000_000
SEARCH_NS: Final = 1_500_000_000
"""An alert waits for so long until holders were looked for: one that names the reader is worth two."""
_RETRANSMIT: Final = frozenset({Pending.RETRANS, Pending.LOSS_PROBE, Pending.REO_TIMEOUT})


class Judge:
    """Judges connections by what is known of their owners and of each other."""

    def __init__(self, owners: Owners, blame: Blame, patience: Patience) -> None:
        self._owners = owners
        self._blame = blame
        self._patience = patience

    def verdict(self, connection: Connection, now: int, owner: Owner | None = None) -> Verdict:
        """The verdict at `now`; the one of the same moment is not made twice. `owner`, where the caller has it already."""
        cached, recorded = connection.verdict, connection.recorded
        if recorded is not None and recorded.is_final:
            return recorded.verdict
        if cached is not None and connection.judged == (now, connection.ns, connection.end):
            return cached
        phase = phases.phase(connection)
        if phase is not connection.phase:
            connection.phase = phase
            # a stall is only called one after a while, but then it began when the window closed
            closed = connection.closed_since if phase is Phase.STALLED else None
            connection.phase_ns = closed.ns if closed else now
        owner = owner or self._owners.of(connection, now)
        if recorded is not None:
            reader = recorded.verdict.slow_reader
        elif connection.end is not None and cached is not None:
            reader = cached.slow_reader  # who it was, not who it is now that nothing is left to read
        else:
            reader = self._blame.slow_reader(connection, now)
        forecast = self._forecast(connection, phase, now)
        closure = connection.closed_since
        verdict = Verdict(
            phase,
            connection.phase_ns,
            max(0, now - closure.ns) / 1e9 if closure else None,
            words.summary(connection, phase, owner, reader, forecast, now),
            words.evidence(connection, owner, reader, now) if connection.end is None else (),
            reader,
            forecast,
        )
        connection.verdict, connection.judged = verdict, (now, connection.ns, connection.end)
        return verdict

    def is_news(self, connection: Connection, verdict: Verdict) -> bool:
        """Whether the verdict differs materially from the one that was last announced."""
        before = connection.announced
        if before is None:
            return verdict.phase is not Phase.OK
        if before.phase is not verdict.phase or _who(before.slow_reader) != _who(verdict.slow_reader):
            return True
        old, new = before.forecast, verdict.forecast
        if (old.outcome, old.by, old.basis) != (new.outcome, new.by, new.basis):
            return True
        if old.at_ns is None or new.at_ns is None:
            return old.at_ns is not new.at_ns
        left = new.at_ns - connection.ns
        return abs(new.at_ns - old.at_ns) > max(_MOVED_NS, left // 10)

    def is_settled(self, connection: Connection, ns: int) -> bool:
        """Whether all that can be found out of a stall has been, or has been waited for."""
        if connection.phase not in (Phase.STALLED, Phase.BACKLOGGED):
            return True
        return connection.recorded is not None or self._blame.is_known(connection) or ns - connection.phase_ns >= SEARCH_NS

    def is_sought(self, connection: Connection) -> bool:
        """Whether the reader of a stall can be named once all descriptors have been looked at, which has yet to come."""
        if connection.recorded is not None or connection.phase not in (Phase.STALLED, Phase.BACKLOGGED):
            return False
        return not self._blame.is_known(connection)

    def pids(self, connection: Connection) -> set[int]:
        """The processes at both ends, as far as they are known."""
        found: set[int] = set()
        for end in (connection, connection.other):
            if end is None:
                continue
            found.update(end.holders or ())
            if end.sock.reader_tgid:
                found.add(end.sock.reader_tgid)
            if end.actor is not None:
                found.add(end.actor.tgid)
        return found

    def view(self, connection: Connection, now: int) -> ConnectionView:
        """All that is said of a connection at `now`."""
        sock = connection.sock
        ip = address(sock.local_addr)
        other = connection.other
        owner = self._owners.of(connection, now)
        return ConnectionView(
            id=connection.id,
            state=_STATES[sock.state],
            netns=sock.netns,
            network_type="ipv4" if ip.version == 4 else "ipv6",
            local=connection.local,
            peer=connection.peer,
            opened_by=connection.opened_by,
            age_s=max(0, now - sock.established_ns) / 1e9 if sock.established_ns else None,
            queues=Queues(sock.recv_q, sock.send_q, sock.receive_window, sock.snd_wnd, sock.rcvbuf),
            timer=_timer(sock, connection.ns, now, connection.hz),
            owner=owner,
            peer_owner=self._owners.of(other, now) if other is not None else None,
            verdict=self.verdict(connection, now, owner),
            totals=Totals(connection.closures, connection.probes, connection.longest_stall_ns / 1e9),
            reset=connection.reset,
            sample=None if connection.recorded and connection.recorded.is_final else connection.sample(),
        )

    def _forecast(self, connection: Connection, phase: Phase, now: int) -> Forecast:
        if connection.end is not None:
            return _NO_FORECAST
        clocks = [deadlines.forecast(connection.sock, connection.ns, connection.hz), self._learned(connection, now)]
        running = [one for one in clocks if one is not None]
        if running:
            return min(running, key=lambda one: one.at_ns or 0)
        if phase is Phase.OK:
            return _NO_FORECAST
        if reading_blocked(connection) and connection.sock.unread:
            return _CONDITIONAL
        return _CONDITIONAL if _other_resets(connection) else _NO_FORECAST

    def _learned(self, connection: Connection, now: int) -> Forecast | None:
        """When the end that waits for the slow reader will have enough, by what its program has done before."""
        if connection.recorded is not None:
            learned = connection.recorded.verdict.forecast
            return _unless_borne(learned, learned.habit, now) if learned.habit is not None else None
        waiting = connection if connection.peer_closed is not None else connection.other
        if waiting is None or waiting.given_up or waiting.peer_closed is None or not writing_blocked(waiting):
            return None
        program, port = self._owners.of(waiting, now).name, waiting.service_port
        habit = self._patience.habit(program, port) if program and port else None
        if habit is None:
            return None
        at = waiting.peer_closed.ns + habit.patience_ns
        return _unless_borne(Forecast(habit.outcome, "application", at, "learned", habit), habit, now)


def _other_resets(connection: Connection) -> bool:
    """Whether the other end, which lets data wait, would send a RST if it closed now."""
    if connection.recorded is not None:
        return connection.recorded.verdict.forecast.basis == "conditional"
    return connection.other is not None and bool(connection.other.sock.unread) and writing_blocked(connection)


def _unless_borne(learned: Forecast, habit: Habit, now: int) -> Forecast | None:
    """The forecast, unless the program has borne with this one for longer."""
    return learned if now <= (learned.at_ns or 0) + max(habit.spread_ns, _MOVED_NS) else None


def _timer(sock: SockState, ns: int, now: int, hz: int) -> TimerView:
    """The timer that idiag_timer would name: the write timer's purpose before a keepalive that is armed as well."""
    name: TimerName = "none"
    expires = 0
    if sock.pending in _RETRANSMIT:
        name, expires = "retransmit", sock.write_expires
    elif sock.pending == Pending.PROBE0:
        name, expires = "persist", sock.write_expires
    elif sock.keepalive_expires:
        name, expires = "keepalive", sock.keepalive_expires
    left = max(0, timers.timer_ns(sock, expires, ns, hz) - now) / 1e9 if name != "none" else None
    return TimerView(name, left, sock.probes_out, sock.backoff, sock.retransmits)


def _who(reader: SlowReader) -> tuple[object, ...]:
    return reader.side, reader.ip, reader.port, reader.pid, reader.thread_id
