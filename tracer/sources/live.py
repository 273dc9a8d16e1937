"""The running kernel as a source: events as they come, a scan every interval, a second look where an event asks for one."""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from tracer.events.records import Inspected, KernelRecord, Read, Record, Retransmit, ScanEnded, Window
from tracer.events.wire import decode
from tracer.kernel import procfs
from tracer.kernel.programs import Programs
from tracer.sources.scanner import Scanner

if TYPE_CHECKING:
    from typing_extensions import Self

SECOND_LOOK_NS: Final = 30_000_000
"""A read is one of many while recvmsg() copies; the window that they open shows when the last is done."""

STALL_LOOK_NS: Final = 220_000_000
"""A window that closed and is closed still is no flicker: a look after the time for which one may be (phases.STALL_NS)."""

ANSWER_LOOK_NS: Final = 520_000_000
"""What was sent again before a closed window is unanswered after half a second (deadlines.py), and may be given up soon."""

WALK_SHARE: Final = 0.04
"""Of one CPU, what walking over healthy sockets may take: with very many, or very many namespaces, scans come less often than
asked for. Events come at once all the same."""
PAUSE_AT_MOST: Final = 5
"""Intervals; more would leave what events do not tell untold."""

AT_ONCE: Final = 500
SLICE_NS: Final = 20_000_000
"""So many records, or what can be read in so long, are handed on at a time."""

NAMES_AT_MOST: Final = 10_000


class Live:
    """Records of the running kernel. Use as a context manager: the scanner thread ends with it."""

    def __init__(self, programs: Programs, reasons: Mapping[int, str], interval_s: float) -> None:
        self._programs = programs
        self._reasons = reasons
        self._scans = _Scans(Scanner(programs, reasons), interval_s)
        self._closing: dict[int, Window] = {}
        self._again: dict[tuple[int, int], int] = {}
        self.scanned = False
        """Whether the connections that were there already are among the records by now."""
        self._processes = procfs.Processes()
        self._named: dict[tuple[int, int], None] = {}
        self._waiting: deque[bytes | Record] = deque()
        self._epoll = select.epoll()

    def __enter__(self) -> Self:
        self._epoll.register(self._programs.ring_fd, select.EPOLLIN)
        self._epoll.register(self._scans.ready_fd, select.EPOLLIN)
        self._scans.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._scans.stop()
        self._epoll.close()

    def wait(self, until_ns: int) -> list[Record]:
        """The records that have come, oldest event first; waits for some until `until_ns` (CLOCK_MONOTONIC).

        In a storm some of them, and the rest when asked again: whoever shows them has to get to that as well. Raises what a
        scan raised.
        """
        if self._again:
            until_ns = min(until_ns, *self._again.values())
        self._epoll.poll(0.0 if self._waiting else max(0.0, (until_ns - time.monotonic_ns()) / 1e9))
        self._look_again(time.monotonic_ns())
        if not self._waiting:
            # what a scan saw stands behind the events that it came after
            self._waiting.extend(self._programs.consume())
            self._waiting.extend(self._scans.take())
        records: list[Record] = []
        self._take_some(records)
        if self._closing and not self._waiting:
            self._waiting.extend(self._programs.consume())  # what inspect() just wrote
            self._take_some(records)
        return records

    def hurry(self) -> None:
        """Scans soon: somebody has to be found."""
        self._scans.hurry()

    def _look_again(self, now: int) -> None:
        for look in [look for look, due in self._again.items() if due <= now]:
            del self._again[look]
            self._programs.inspect(look[0])

    def _look_at(self, sk: int, after_ns: int, wait_ns: int) -> None:
        """Asks for a look so long after something; the same wait, asked for again, begins anew."""
        self._again[sk, wait_ns] = after_ns + wait_ns

    def _take_some(self, records: list[Record]) -> None:
        until = time.monotonic_ns() + SLICE_NS
        while self._waiting and len(records) < AT_ONCE and time.monotonic_ns() < until:
            one = self._waiting.popleft()
            if isinstance(one, bytes):
                self._take_event(decode(one, self._reasons), records)
            else:
                records.append(one)
                self.scanned = self.scanned or isinstance(one, ScanEnded)

    def _name(self, pid: int, tid: int, ns: int) -> Iterator[Record]:
        """A process and its thread that an event names before any scan has met them."""
        if not pid or (pid, tid) in self._named:
            return
        if len(self._named) >= NAMES_AT_MOST:
            self._named.clear()
        self._named[pid, tid] = None
        process, thread = self._processes.get(pid, ns), procfs.thread(pid, tid, ns)
        if process is not None:
            yield process
        if thread is not None:
            yield thread

    def _take_event(self, record: KernelRecord, records: list[Record]) -> None:
        sock = getattr(record, "sock", None)
        if sock is not None:
            records += self._name(sock.reader_tgid, sock.reader_tid, record.ns)
            records += self._name(sock.creator_tgid, sock.creator_tid, record.ns)
        match record:
            case Window(side="local"):
                # the kernel side cannot know yet: it saw the last of the window used up, not the answer
                if self._programs.inspect(record.sock.sk):
                    self._closing[record.sock.sk] = record
                return
            case Read():
                self._programs.inspect(record.sock.sk)
                self._look_at(record.sock.sk, record.ns, SECOND_LOOK_NS)
                self._look_at(record.sock.sk, record.ns, STALL_LOOK_NS)
            case Inspected():
                closing = self._closing.pop(record.sock.sk, None)
                if closing is not None:
                    if record.sock.receive_window:
                        return  # answered with a larger window: a busy connection, not a stalled one
                    records.append(closing)
                    self._look_at(record.sock.sk, closing.ns, STALL_LOOK_NS)
            case Retransmit() if not record.sock.snd_wnd:
                self._look_at(record.sock.sk, record.ns, ANSWER_LOOK_NS)
            case Window(window=0):
                self._look_at(record.sock.sk, record.ns, STALL_LOOK_NS)
        records.append(record)


class _Scans:
    """A thread of its own for the scans: they enter namespaces, and the events must not wait for them."""

    def __init__(self, scanner: Scanner, interval_s: float) -> None:
        self._scanner = scanner
        self._interval_s = interval_s
        self._results: list[Record] = []
        self._error: BaseException | None = None
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._asked = threading.Event()
        self.ready_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="scanner", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def hurry(self) -> None:
        """The next scan, with all holders, comes after half of the interval instead of all of it."""
        self._scanner.forget_owners()
        self._asked.set()

    def stop(self) -> None:
        self._stop.set()
        self._asked.set()
        self._thread.join()
        self._scanner.close()
        os.close(self.ready_fd)

    def take(self) -> list[Record]:
        with self._lock:
            results, self._results = self._results, []
            error, self._error = self._error, None
            if results or error:
                os.eventfd_read(self.ready_fd)
        if error:
            raise error
        return results

    def _run(self) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            self._asked.clear()
            try:
                records, error = self._scanner.scan(), None
            except Exception as raised:
                records, error = [], raised
            with self._lock:
                self._results += records
                self._error = error
                os.eventfd_write(self.ready_fd, 1)
            if error:
                return
            # a scan that takes longer than the interval makes the next one late, never two at once
            half = self._interval_s / 2
            pause = max(self._interval_s, min(self._scanner.walked_s / WALK_SHARE, self._interval_s * PAUSE_AT_MOST))
            self._stop.wait(max(0.0, began + half - time.monotonic()))
            self._asked.wait(max(0.0, began + pause - time.monotonic()))
