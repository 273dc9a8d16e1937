"""The model: records in, notices and screens out. It holds what is known of every connection, and never asks the time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

from tracer.events import records as rec
from tracer.events.records import SockState, TcpState
from tracer.model import phases, timers
from tracer.model.blame import SETTLED_NS, Blame, blocked_since
from tracer.model.connection import Changes, Connection
from tracer.model.endings import Endings
from tracer.model.findings import Notice, Phase, Screen
from tracer.model.judge import Judge
from tracer.model.notices import Notices
from tracer.model.owners import Owners
from tracer.model.patience import Patience
from tracer.model.registry import Registry
from tracer.model.resets import Resets
from tracer.model.restoring import EVENTLESS, Restored, RestoredReset, Restoring
from tracer.model.sample import Closure
from tracer.model.selection import Selection

_DEFAULT_HZ: Final = 250


class Tracker:
    """Takes records in the order in which they come; those that are older than what is known change nothing."""

    def __init__(self, selection: Selection = Selection()) -> None:
        self._selection = selection
        self._hz = _DEFAULT_HZ
        self._connections = Registry()
        self._owners = Owners()
        self._resets = Resets()
        patience = Patience()
        self._blame = Blame(self._connections.by_sk, self._owners)
        self._judge = Judge(self._owners, self._blame, patience)
        self._notices = Notices(selection, self._judge, self._resets)
        self._endings = Endings(self._connections, self._owners, self._resets, patience, self._notices)
        self._restoring = Restoring(self._connections, self._endings, self._notices)
        self._stirred: dict[Connection, None] = {}
        """Those of which something new is known since they were judged; a scan stirs each that is not well."""
        self._established = 0
        self._events = 0
        self._scan_s: float | None = None
        self._losses = rec.Losses(0, {}, {})
        self._handlers: Mapping[type, Callable[[Any], list[Notice]]] = {
            rec.Socket: self._on_sample,
            rec.Inspected: self._on_sample,
            rec.Read: self._on_event_sample,
            rec.Window: self._on_window,
            rec.Timer: self._on_timer,
            rec.Probe: self._on_probe,
            rec.Retransmit: self._on_retransmit,
            rec.State: self._on_state,
            rec.Reset: self._on_reset,
            rec.Destroyed: self._on_destroyed,
            rec.ScanEnded: self._on_scan_ended,
            rec.OwnersScanned: self._on_owners_scanned,
            rec.Losses: self._on_losses,
            Restored: self._on_restored,
            RestoredReset: self._on_restored,
        }
        self._facts: Mapping[type, Callable[[Any], None]] = {
            rec.Listener: lambda record: self._connections.listener(record.netns, record.port),
            rec.Holder: self._owners.holder,
            rec.Calibrated: self._calibrate,
            rec.Process: self._owners.process,
            rec.ProcessGone: lambda record: self._owners.gone(record.pid),
            rec.Thread: self._owners.thread,
            rec.ThreadGone: lambda record: self._owners.thread_gone(record.pid, record.tid),
        }
        """What is only remembered: nothing comes of it at once."""

    def feed(self, record: rec.Record | Restored | RestoredReset) -> list[Notice]:
        """One record in; what happened out, oldest first."""
        self._blame.changed()
        handler = self._handlers.get(type(record))
        if handler is not None:
            return handler(record)
        fact = self._facts.get(type(record))
        if fact is not None:
            fact(record)
        return []

    def tick(self, ns: int) -> list[Notice]:
        """What time alone changed by `ns`: phases, forecasts, ends that were waited for."""
        notices = self._endings.tick(ns)
        self._blame.changed()
        stirred, self._stirred = self._stirred, {}
        for connection in stirred:
            if connection.end is not None or self._connections.by_sk.get(connection.sock.sk) is not connection:
                continue
            notices += self._notices.verdict(connection, ns)
            if not self._judge.is_settled(connection, ns) or self._judge.is_sought(connection):
                self._stirred[connection] = None
        return notices

    @property
    def stirs(self) -> bool:
        """Whether time alone may change something soon: a tick is wanted every tenth of a second."""
        return bool(self._stirred)

    def seeks_owners(self, ns: int) -> bool:
        """Whether a stall has settled whose reader cannot be named before the next look at all descriptors."""
        return any(
            one.end is None and self._judge.is_sought(one) and blocked_since(one) + SETTLED_NS <= ns for one in self._stirred
        )

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
        return self._endings.due_ns()

    def screen(self, ns: int, *, everything: bool = False) -> Screen:
        """All that a table shows at `ns`, worst first; `everything`: healthy connections too."""
        shown, count = [], Counter[Phase]()
        for connection in self._connections:
            if connection.end is not None or not self._notices.wanted(connection):
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
        if self._endings.is_over(record.sock.sk, record.ns):
            return []  # a scan that met the socket before its end, told after it
        connection, changes = self._sample(record.ns, record.sock)
        if connection.end is not None:
            return []
        notices = self._notices.windows(connection, record.ns, changes)
        if self._selection.everything and not connection.in_stream:
            notices = self._notices.enter(connection, record.ns) + notices
        return notices

    def _on_event_sample(self, record: rec.Read) -> list[Notice]:
        self._events += 1
        connection, changes = self._sample(record.ns, record.sock)
        return self._notices.windows(connection, record.ns, changes)

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
        return self._notices.of(connection, "window-closed" if closed else "window-opened", record.ns, window_side=record.side)

    def _on_timer(self, record: rec.Timer) -> list[Notice]:
        self._events += 1
        sock = record.sock if record.mechanism == "zero-window" else timers.keepalive_timer_firing(record.sock)
        connection, changes = self._sample(record.ns, sock)
        connection.probes += 1
        number = record.number
        if record.mechanism == "zero-window":
            # each answer starts the kernel's own count anew; people want to know how many there were
            connection.closure_probes = number = max(connection.closure_probes + 1, number)
        return self._notices.windows(connection, record.ns, changes) + self._notices.of(
            connection, "probe-sent", record.ns, probe_kind=record.mechanism, probe_number=number
        )

    def _on_probe(self, record: rec.Probe) -> list[Notice]:
        self._events += 1
        connection, changes = self._sample(record.ns, record.sock)
        return self._notices.windows(connection, record.ns, changes) + self._notices.of(
            connection, "probe-received", record.ns, probe_kind=record.mechanism
        )

    def _on_retransmit(self, record: rec.Retransmit) -> list[Notice]:
        self._events += 1
        connection, changes = self._sample(record.ns, timers.retransmit_timer_rearmed(record.sock, record.ns, self._hz))
        return self._notices.windows(connection, record.ns, changes) + self._notices.of(connection, "retransmitted", record.ns)

    def _on_state(self, record: rec.State) -> list[Notice]:
        self._events += 1
        if record.new == TcpState.CLOSE:
            self._endings.closed(self._connection(record.ns, record.sock)[0], record)
            return []
        connection, changes = self._sample(record.ns, record.sock)
        self._endings.given_up(connection, record)
        if connection.other is not None:
            self._stirred[connection.other] = None
        return self._notices.windows(connection, record.ns, changes)

    def _on_reset(self, record: rec.Reset) -> list[Notice]:
        self._events += 1
        if not record.has_socket:
            return self._endings.reset_without_socket(record)
        connection = self._endings.cut_off(record) or self._connection(record.ns, record.sock)[0]
        tell = self._endings.reset_received if record.direction == "received" else self._endings.reset_sent
        return tell(connection, record)

    def _on_destroyed(self, record: rec.Destroyed) -> list[Notice]:
        self._events += 1
        if record.sock.sk in self._connections.by_sk:
            self._stirred.pop(self._connections.by_sk[record.sock.sk], None)
        return self._endings.destroyed(record)

    def _calibrate(self, record: rec.Calibrated) -> None:
        self._hz = record.hz

    def _on_owners_scanned(self, record: rec.OwnersScanned) -> list[Notice]:
        self._owners.scanned(record.started_ns)
        for connection in self._connections:
            holders = self._owners.holders(connection.sock.sk)
            if holders is not None or (connection.first_ns < record.started_ns and connection.sock.of_interest):
                connection.holders = holders or ()
            if connection.phase is not Phase.OK:
                self._stirred[connection] = None
        return []

    def _on_losses(self, record: rec.Losses) -> list[Notice]:
        before, self._losses = self._losses, record
        if record[1:] == before[1:]:
            return []
        lost = {"ring_buffer": record.ring_buffer, "table_full": record.table_full}
        lost |= {"sinks": record.sinks} if record.sinks else {}
        return [Notice("events-lost", record.ns, lost=lost)]

    def _on_restored(self, record: Restored | RestoredReset) -> list[Notice]:
        self._events += record.action not in EVENTLESS
        return self._restoring.restore(record)

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
            if phases.phase(connection) is not Phase.OK:
                connection.end = Phase.CLOSED  # its end was not seen
                notices += self._endings.finish(connection, record.ns)
            elif not connection.in_stream:
                self._endings.forget(connection)
        self._connections.forget_listeners()
        return notices

    # --- connections -------------------------------------------------------------------------------------------------

    def _connection(self, ns: int, sock: SockState) -> tuple[Connection, bool]:
        """The connection that the socket is, and whether it is new."""
        connection, new = self._connections.get(ns, sock, self._hz)
        if new and ns <= self._owners.scanned_ns:
            # met by the scan that then looked for holders. Of one that is younger nothing is known: it may have the address
            # of one that is gone
            connection.holders = self._owners.holders(sock.sk) or ()
        return connection, new

    def _sample(self, ns: int, sock: SockState, quiet: str = "") -> tuple[Connection, Changes]:
        """Takes a sample in. The side named in `quiet` is the caller's to change."""
        connection, new = self._connection(ns, sock)
        self._connections.link(connection)
        self._stirred[connection] = None
        return connection, connection.first_sample(quiet) if new else connection.update(sock, ns, quiet)
