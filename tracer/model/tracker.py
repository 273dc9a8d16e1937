"""The model: records in, notices and screens out. It holds what is known of every connection, and never asks the time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

from tracer.events import records as rec
from tracer.events.records import SockState, TcpState
from tracer.model import causes, deadlines, phases
from tracer.model.blame import Blame
from tracer.model.connection import Changes, Closure, Connection, address
from tracer.model.findings import Action, Endpoint, Notice, Phase, Screen
from tracer.model.judge import Judge
from tracer.model.owners import Owners
from tracer.model.registry import Registry
from tracer.model.resets import Resets
from tracer.model.selection import Selection

HOLD_NS: Final = 50_000_000
"""How long a received RST waits for the record of the other end, which on loopback comes after it."""
DESTROYED_AT_MOST: Final = 4096
_DEFAULT_HZ: Final = 250


class Tracker:
    """Takes records in the order in which they come; those that are older than what is known change nothing."""

    def __init__(self, selection: Selection = Selection()) -> None:
        self._selection = selection
        self._hz = _DEFAULT_HZ
        self._connections = Registry()
        self._ending: list[Connection] = []
        self._owners = Owners()
        self._judge = Judge(self._owners, Blame(self._connections.by_sk, self._owners))
        self._destroyed: dict[int, int] = {}
        self._resets = Resets()
        self._established = 0
        self._events = 0
        self._scan_s: float | None = None
        self._losses = rec.Losses(0, {}, {})
        self._handlers: Mapping[type, Callable[[Any], list[Notice]]] = {
            rec.Socket: self._on_sample,
            rec.Inspected: self._on_sample,
            rec.Read: self._on_event_sample,
            rec.Listener: self._on_listener,
            rec.Holder: self._on_holder,
            rec.Calibrated: self._on_calibrated,
            rec.Window: self._on_window,
            rec.Timer: self._on_timer,
            rec.Probe: self._on_probe,
            rec.Retransmit: self._on_retransmit,
            rec.State: self._on_state,
            rec.Reset: self._on_reset,
            rec.Destroyed: self._on_destroyed,
            rec.ScanEnded: self._on_scan_ended,
            rec.OwnersScanned: self._on_owners_scanned,
            rec.Process: self._on_process,
            rec.ProcessGone: self._on_process_gone,
            rec.Thread: self._on_thread,
            rec.Losses: self._on_losses,
        }

    def feed(self, record: rec.Record) -> list[Notice]:
        """One record in; what happened out, oldest first."""
        handler = self._handlers.get(type(record))
        return handler(record) if handler else []

    def tick(self, ns: int) -> list[Notice]:
        """What time alone changed by `ns`: phases, forecasts, ends that were waited for."""
        notices: list[Notice] = []
        for connection in dict.fromkeys([*self._ending, *self._connections]):
            if connection.received is not None and ns - connection.received.ns >= HOLD_NS:
                notices += self._settle(connection)
            if connection.ended_ns is not None and ns - connection.ended_ns >= HOLD_NS:
                notices += self._finish(connection, ns)
            elif connection.end is None:
                notices += self._judge_again(connection, ns)
        return notices

    @property
    def events(self) -> int:
        """How many events were taken in."""
        return self._events

    @property
    def lost(self) -> int:
        """How many could not be recorded."""
        return sum(self._losses.ring_buffer.values())

    def due_ns(self) -> int | None:
        """When the next tick is wanted soon, because an end waits to be settled."""
        waiting = [one.received.ns for one in self._connections if one.received is not None]
        waiting += [one.ended_ns for one in self._ending if one.ended_ns is not None]
        return min(waiting) + HOLD_NS if waiting else None

    def screen(self, ns: int, *, everything: bool = False) -> Screen:
        """All that a table shows at `ns`, worst first; `everything`: healthy connections too."""
        shown, count = [], Counter[Phase]()
        for connection in self._connections:
            if connection.end is not None or not self._wanted(connection):
                continue
            verdict = self._judge.verdict(connection, ns)
            count[verdict.phase] += 1
            if everything or verdict.phase is not Phase.OK:
                shown.append((phases.SEVERITY[verdict.phase], verdict.stalled_s or 0.0, connection))
        shown.sort(key=lambda one: (-one[0], -one[1], one[2].id))
        worse = sum(number for phase, number in count.items() if phase is not Phase.OK)
        count[Phase.OK] = max(count[Phase.OK], self._established - worse)
        return Screen(
            ns,
            tuple(self._judge.view(connection, ns) for _, _, connection in shown),
            dict(count),
            self._resets.shown(ns),
            self._events,
            sum(self._losses.ring_buffer.values()),
            sum(self._losses.table_full.values()),
            self._scan_s,
        )

    # --- records -----------------------------------------------------------------------------------------------------

    def _on_sample(self, record: rec.Socket | rec.Inspected) -> list[Notice]:
        if record.ns <= self._destroyed.get(record.sock.sk, -1):
            return []  # a scan that met the socket before its end, told after it
        connection, changes = self._sample(record.ns, record.sock)
        if connection.end is not None:
            return []
        notices = self._window_notices(connection, record.ns, changes)
        if self._selection.everything and not connection.in_stream:
            notices = self._enter(connection, record.ns) + notices
        return notices

    def _on_event_sample(self, record: rec.Read) -> list[Notice]:
        self._events += 1
        connection, changes = self._sample(record.ns, record.sock)
        return self._window_notices(connection, record.ns, changes)

    def _on_window(self, record: rec.Window) -> list[Notice]:
        self._events += 1
        sock = record.sock
        if record.side == "peer":
            # the record is made before the segment changes the socket
            connection, _ = self._sample(record.ns, sock._replace(snd_wnd=record.window), quiet="peer")
            was = connection.peer_closed
            connection.set_peer(None if record.window else was or Closure(record.ns, True), record.ns)
        else:
            connection, _ = self._sample(record.ns, sock, quiet="local")
            was = connection.local_closed
            connection.set_local(None if record.window else was or Closure(record.ns, True), record.ns)
        closed = not record.window
        if closed == (was is not None):
            return []
        return self._notice(connection, "window-closed" if closed else "window-opened", record.ns, window_side=record.side)

    def _on_timer(self, record: rec.Timer) -> list[Notice]:
        self._events += 1
        connection, changes = self._sample(record.ns, record.sock)
        connection.probes += 1
        number = record.number
        if record.mechanism == "zero-window":
            # each answer starts the kernel's own count anew; people want to know how many there were
            connection.closure_probes = number = max(connection.closure_probes + 1, number)
        return self._window_notices(connection, record.ns, changes) + self._notice(
            connection, "probe-sent", record.ns, probe_kind=record.mechanism, probe_number=number
        )

    def _on_probe(self, record: rec.Probe) -> list[Notice]:
        self._events += 1
        connection, changes = self._sample(record.ns, record.sock)
        return self._window_notices(connection, record.ns, changes) + self._notice(
            connection, "probe-received", record.ns, probe_kind=record.mechanism
        )

    def _on_retransmit(self, record: rec.Retransmit) -> list[Notice]:
        self._events += 1
        connection, changes = self._sample(record.ns, deadlines.retransmit_timer_rearmed(record.sock, record.ns, self._hz))
        return self._window_notices(connection, record.ns, changes) + self._notice(connection, "retransmitted", record.ns)

    def _on_state(self, record: rec.State) -> list[Notice]:
        self._events += 1
        if record.new != TcpState.CLOSE:
            return []
        connection, _ = self._connection(record.ns, record.sock)
        if connection.end is None:
            if not causes.is_aborted(record):
                connection.actor = connection.actor or record.actor
            connection.reset = causes.of_silent_end(record)
            connection.end = Phase.TIMED_OUT if connection.reset else Phase.CLOSED
        connection.ended_ns = connection.ended_ns or record.ns
        if connection not in self._ending:
            self._ending.append(connection)
        return []

    def _on_reset(self, record: rec.Reset) -> list[Notice]:
        self._events += 1
        if not record.has_socket:
            return self._reset_without_socket(record)
        connection, _ = self._connection(record.ns, record.sock)
        if record.direction == "received":
            if connection.reset is None:
                connection.received = record
                connection.end = Phase.RESET
                known = self._resets.senders_view(connection.mirrored, record.ns)
                if known and not causes.is_own_data_after_close(record):
                    return self._settle(connection)
            return []
        # data that came after close() is no RST received, though the kernel reports it as one
        connection.received = None
        connection.end = Phase.RESET
        connection.ended_ns = record.ns
        connection.reset = causes.of_reset_sent(record)
        if connection.reset.cause != "administrative":
            connection.actor = connection.actor or record.actor
        self._resets.sent(connection.tuple4, record.ns, connection.reset)
        notices = self._reset_notice(connection, "reset-sent", record.ns)
        for other in self._connections.opposite(connection):
            if other.received is not None and not causes.is_own_data_after_close(other.received):
                notices += self._settle(other)
        return notices

    def _on_destroyed(self, record: rec.Destroyed) -> list[Notice]:
        self._events += 1
        self._note_destroyed(record.sock.sk, record.ns)
        connection = self._connections.release(record.sock.sk)
        if connection is None:
            return []
        connection.freed = True
        connection.ended_ns = connection.ended_ns or record.ns
        connection.end = connection.end or Phase.CLOSED
        if connection.received is None:
            return self._finish(connection, record.ns)
        if connection not in self._ending:
            self._ending.append(connection)
        return []

    def _on_listener(self, record: rec.Listener) -> list[Notice]:
        self._connections.listener(record.netns, record.port)
        return []

    def _on_calibrated(self, record: rec.Calibrated) -> list[Notice]:
        self._hz = record.hz
        return []

    def _on_holder(self, record: rec.Holder) -> list[Notice]:
        self._owners.holder(record)
        return []

    def _on_owners_scanned(self, record: rec.OwnersScanned) -> list[Notice]:
        self._owners.scanned()
        for connection in self._connections:
            holders = self._owners.holders(connection.sock.sk)
            if holders is not None or connection.ns < record.started_ns:
                connection.holders = holders or ()
        return []

    def _on_process(self, record: rec.Process) -> list[Notice]:
        self._owners.process(record)
        return []

    def _on_process_gone(self, record: rec.ProcessGone) -> list[Notice]:
        self._owners.gone(record.pid)
        return []

    def _on_thread(self, record: rec.Thread) -> list[Notice]:
        self._owners.thread(record)
        return []

    def _on_losses(self, record: rec.Losses) -> list[Notice]:
        before, self._losses = self._losses, record
        if (record.ring_buffer, record.table_full) == (before.ring_buffer, before.table_full):
            return []
        lost = {"ring_buffer": record.ring_buffer, "table_full": record.table_full}
        return [Notice("events-lost", record.ns, lost=lost)]

    def _on_scan_ended(self, record: rec.ScanEnded) -> list[Notice]:
        self._established = record.established
        self._scan_s = (record.ns - record.started_ns) / 1e9
        notices: list[Notice] = []
        for connection in list(self._connections):
            sock = connection.sock
            if sock.netns not in record.netns or connection.end is not None:
                continue
            if connection.ns >= record.started_ns:
                connection.missed_scans = 0
                connection.opened_toward_listener(self._connections.opened_by(sock))
                continue
            connection.missed_scans += 1
            if connection.missed_scans < 2:
                continue
            if phases.phase(connection, record.ns) is not Phase.OK:
                connection.end = Phase.CLOSED  # its end was not seen
                notices += self._finish(connection, record.ns)
            elif not connection.in_stream:
                self._forget(connection)
        self._connections.forget_listeners()
        return notices

    # --- connections -------------------------------------------------------------------------------------------------

    def _connection(self, ns: int, sock: SockState) -> tuple[Connection, bool]:
        """The connection that the socket is, and whether it is new."""
        # a new one may have the address of one that is gone, so what was known of that address's holders is not about it
        return self._connections.get(ns, sock, self._hz)

    def _sample(self, ns: int, sock: SockState, quiet: str = "") -> tuple[Connection, Changes]:
        """Takes a sample in. The side named in `quiet` is the caller's to change."""
        connection, new = self._connection(ns, sock)
        self._connections.link(connection)
        return connection, connection.first_sample(quiet) if new else connection.update(sock, ns, quiet)

    def _forget(self, connection: Connection) -> None:
        self._connections.forget(connection)
        if connection in self._ending:
            self._ending.remove(connection)

    # --- notices -----------------------------------------------------------------------------------------------------

    def _wanted(self, connection: Connection) -> bool:
        selection = self._selection
        if not selection.wants_peer(address(connection.sock.peer_addr)):
            return False
        if not selection.pids:
            return True
        pids = self._judge.pids(connection)
        return selection.wants_owners(pids)

    def _enter(self, connection: Connection, ns: int) -> list[Notice]:
        if connection.in_stream or not self._wanted(connection):
            return []
        connection.in_stream = True
        return [Notice("connection-seen", ns, self._judge.view(connection, ns))]

    def _notice(self, connection: Connection, action: Action, ns: int, **details: Any) -> list[Notice]:
        """The notice, after the one that introduces the connection; nothing for one that was not asked for."""
        entered = self._enter(connection, ns)
        if not connection.in_stream:
            return []
        return [*entered, Notice(action, ns, self._judge.view(connection, ns), **details)]

    def _window_notices(self, connection: Connection, ns: int, changes: Changes) -> list[Notice]:
        notices: list[Notice] = []
        for side, closed in (("local", changes.local), ("peer", changes.peer)):
            if closed is not None:
                notices += self._notice(connection, "window-closed" if closed else "window-opened", ns, window_side=side)
        return notices

    def _judge_again(self, connection: Connection, ns: int) -> list[Notice]:
        verdict = self._judge.verdict(connection, ns)
        if not self._judge.is_news(connection, verdict):
            return []
        if verdict.phase is Phase.OK and not connection.in_stream:
            return []
        notices = self._notice(connection, "verdict-changed", ns)
        if notices:
            connection.announced = verdict
        return notices

    def _settle(self, connection: Connection) -> list[Notice]:
        """A received RST gets its cause: the sender's, if that is here and was seen."""
        record, connection.received = connection.received, None
        if record is None:
            return []
        connection.reset = causes.of_reset_received(record, self._resets.senders_view(connection.mirrored, record.ns))
        connection.end = Phase.RESET
        connection.ended_ns = connection.ended_ns or record.ns
        return self._reset_notice(connection, "reset-received", record.ns)

    def _reset_notice(self, connection: Connection, action: Action, ns: int) -> list[Notice]:
        notices = self._notice(connection, action, ns, reset=connection.reset)
        for notice in notices:
            if notice.action == action:
                self._resets.show(notice)
        return notices

    def _reset_without_socket(self, record: rec.Reset) -> list[Notice]:
        sock = record.sock
        if self._selection.pids or not self._selection.wants_peer(address(sock.peer_addr)):
            return []
        notice = Notice(
            "reset-sent",
            record.ns,
            local=Endpoint(str(address(sock.local_addr)), sock.local_port),
            peer=Endpoint(str(address(sock.peer_addr)), sock.peer_port),
            netns=sock.netns or None,
            reset=causes.of_reset_sent(record),
        )
        ends = (sock.local_addr, sock.local_port, sock.peer_addr, sock.peer_port)
        self._resets.sent(ends, record.ns, causes.of_reset_sent(record))
        self._resets.show(notice)
        return [notice]

    def _note_destroyed(self, sk: int, ns: int) -> None:
        """Bounded: the oldest makes room."""
        self._destroyed.pop(sk, None)
        self._destroyed[sk] = ns
        if len(self._destroyed) > DESTROYED_AT_MOST:
            del self._destroyed[next(iter(self._destroyed))]

    def _finish(self, connection: Connection, ns: int) -> list[Notice]:
        notices = self._settle(connection) if connection.received is not None else []
        connection.finish(connection.ended_ns or ns)
        ended_ns = connection.ended_ns or ns
        if connection.end is Phase.TIMED_OUT:
            notices += self._reset_notice(connection, "connection-closed", ended_ns)
        elif connection.in_stream:
            notices += self._notice(connection, "connection-closed", ended_ns)
        self._forget(connection)
        return notices
