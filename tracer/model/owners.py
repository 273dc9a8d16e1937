"""Who holds an end: the reader that was seen, the processes that hold the descriptor, whoever called connect().

Three facts, kept apart: only proof makes an owner.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from tracer.events.records import Holder, Process, SockFlag, Thread
from tracer.model.connection import Connection
from tracer.model.findings import Owner, OwnerMatch

THREADS_AT_MOST: Final = 10_000


class Owners:
    """What is known of processes and threads."""

    def __init__(self) -> None:
        self._processes: dict[int, Process] = {}
        self._comms: dict[int, str] = {}
        self._threads: dict[tuple[int, int], Thread] = {}
        self._gone: dict[tuple[int, int], None] = {}
        self._scanning: dict[int, set[int]] = {}
        self._scanning_descriptors: dict[tuple[int, int], int] = {}
        self._holders: dict[int, tuple[int, ...]] = {}
        self.by_pid: dict[int, set[int]] = {}
        self.by_descriptor: dict[tuple[int, int], int] = {}
        """Sockets by process and file descriptor."""
        self.scanned_ns = 0
        """When the last look at all descriptors began."""

    def process(self, process: Process) -> None:
        """A process, from /proc."""
        self._processes[process.pid] = process

    def gone(self, pid: int) -> None:
        """A process ended."""
        self._processes.pop(pid, None)
        self._comms.pop(pid, None)
        for key in [key for key in self._threads if key[0] == pid]:
            del self._threads[key]

    def thread_gone(self, pid: int, tid: int) -> None:
        """A thread ended; its process may live on."""
        self._threads.pop((pid, tid), None)
        self._gone[pid, tid] = None
        if len(self._gone) > THREADS_AT_MOST:
            del self._gone[next(iter(self._gone))]

    def thread(self, thread: Thread) -> None:
        """A thread, from /proc."""
        self._gone.pop((thread.pid, thread.tid), None)
        if len(self._threads) >= THREADS_AT_MOST:
            self._threads.pop(next(iter(self._threads)))
        self._threads[thread.pid, thread.tid] = thread

    def holder(self, holder: Holder) -> None:
        """A scan of the owners found a holder."""
        self._scanning.setdefault(holder.sk, set()).add(holder.tgid)
        self._scanning_descriptors[holder.tgid, holder.fd] = holder.sk
        self._comms[holder.tgid] = holder.comm

    def scanned(self, started_ns: int) -> None:
        """The scan that began at `started_ns` is complete: holders that did not appear hold no more."""
        self.scanned_ns = started_ns
        self.by_descriptor, self._scanning_descriptors = self._scanning_descriptors, {}
        self._holders = {sk: tuple(sorted(pids)) for sk, pids in self._scanning.items()}
        self.by_pid = {}
        for sk, pids in self._holders.items():
            for pid in pids:
                self.by_pid.setdefault(pid, set()).add(sk)
        self._scanning = {}
        alive = self.by_pid.keys() | self._processes.keys()
        self._comms = {pid: comm for pid, comm in self._comms.items() if pid in alive}

    def holders(self, sk: int) -> tuple[int, ...] | None:
        """The processes that hold the socket; None: it was not scanned yet."""
        return self._holders.get(sk)

    def name(self, pid: int) -> str | None:
        """A process's name."""
        process = self._processes.get(pid)
        return process.name if process else self._comms.get(pid)

    def of(self, connection: Connection, now: int) -> Owner:
        """The owner of a connection's local end, with how well it is known."""
        sock, recorded = connection.sock, connection.recorded
        last_read_s = max(0, now - sock.read_ns) / 1e9 if sock.read_ns else None
        if recorded is not None:
            return recorded.owner if recorded.is_final else replace(recorded.owner, last_read_s=last_read_s)
        return self._found(connection, last_read_s)

    def _found(self, connection: Connection, last_read_s: float | None) -> Owner:
        sock = connection.sock
        holders = connection.holders or ()
        several = bool(sock.flags & SockFlag.SEVERAL) and len(holders) > 1
        if sock.reader_tgid and not several and (connection.holders is None or sock.reader_tgid in holders):
            return self._reader(connection, holders, last_read_s)
        if len(holders) == 1:
            return self._holder(holders[0], last_read_s)
        if holders:
            return Owner("shared", holders=holders, last_read_s=last_read_s, threads=sock.readers)
        if connection.actor is not None:
            # it held the socket's lock when the connection ended: it had the descriptor
            return self._owner("fd", connection.actor.tgid, holders, last_read_s, connection.actor.tid)
        if connection.holders is None and sock.creator_tgid:
            return self._owner("creator", sock.creator_tgid, holders, last_read_s)
        return Owner(last_read_s=last_read_s)

    def reader_thread(self, connection: Connection, owner: Owner) -> Thread | None:
        """What the thread does that reads, or would if it is the only one there is; None if that was not looked at since."""
        thread = self._threads.get((owner.pid or 0, owner.thread_id or 0))
        return thread if thread is not None and thread.ns >= self.scanned_ns else None

    def _holder(self, pid: int, last_read_s: float | None) -> Owner:
        """The only process that holds a socket that nobody was seen to read; if it has but one thread, that is the reader."""
        thread = self._threads.get((pid, pid))
        if thread is None or thread.siblings != 1:
            return self._owner("fd", pid, (pid,), last_read_s)
        return self._owner("fd", pid, (pid,), last_read_s, pid, thread)

    def _reader(self, connection: Connection, holders: tuple[int, ...], last_read_s: float | None) -> Owner:
        sock = connection.sock
        thread = self._threads.get((sock.reader_tgid, sock.reader_tid))
        tid = None if (sock.reader_tgid, sock.reader_tid) in self._gone else sock.reader_tid
        known = self._owner("reader", sock.reader_tgid, holders, last_read_s, tid, thread)
        return replace(
            known,
            threads=sock.readers,
            read_rate=connection.read_rate,
            arrival_rate=connection.arrival_rate,
            cpu_share=connection.cpu_share(thread),
        )

    def _owner(
        self,
        match: OwnerMatch,
        pid: int,
        holders: tuple[int, ...],
        last_read_s: float | None,
        tid: int | None = None,
        thread: Thread | None = None,
    ) -> Owner:
        process = self._processes.get(pid)
        return Owner(
            match=match,
            pid=pid,
            name=self.name(pid),
            executable=process.executable if process else None,
            command_line=process.command_line if process else None,
            container=process.container if process else None,
            thread_id=tid,
            thread_name=thread.name if thread else None,
            holders=holders,
            last_read_s=last_read_s,
            thread_state=thread.state if thread else None,
            wait_channel=thread.wait_channel if thread else None,
        )
