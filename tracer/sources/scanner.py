"""One look at all sockets, their holders and what /proc says of those: records, those of the holders first."""

from __future__ import annotations

import gc
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from tracer.events.records import (
    Holder,
    Losses,
    OwnersScanned,
    ProcessGone,
    Record,
    ScanEnded,
    ScanStarted,
    Socket,
    SockState,
    ThreadGone,
)
from tracer.events.wire import decode_all
from tracer.kernel import iterators, namespaces, procfs
from tracer.kernel.programs import Programs

OWNERS_EVERY_NS: Final = 5_000_000_000
"""Descriptors are passed on and closed without an event, so holders grow old."""
THREADS_AT_MOST: Final = 1000
_NOBODY: Final[frozenset[int]] = frozenset()


class Scanner:
    """Scans on request, in the calling thread, which enters each network namespace of the host in turn."""

    def __init__(self, programs: Programs, reasons: Mapping[int, str]) -> None:
        self._programs = programs
        self._reasons = reasons
        self._sockets = iterators.Iterator(programs.bpf, "tcp")
        self._owners = iterators.Iterator(programs.bpf, "task_file")
        self._processes = procfs.Processes()
        self._holders: dict[int, frozenset[int]] = {}
        self._owners_ns = 0
        self.walked_s = 0.0
        """CPU time that the last scan took to walk over all sockets, of interest or not."""
        self._named: set[int] = set()

    def close(self) -> None:
        """Gives the iterators back."""
        self._sockets.close()
        self._owners.close()

    def scan(self) -> list[Record]:
        """Everything of interest on this host, now."""
        # nothing of a scan is garbage yet, and with many sockets looking for some takes a fifth of the time
        with _no_garbage():
            return self._scan()

    def _scan(self) -> list[Record]:
        sockets: list[Record] = []
        records: list[Record] = []
        socks = self._scan_sockets(sockets)
        self._scan_owners(records, socks)
        records += self._scan_processes(socks)
        records += sockets  # after what is known of their holders, so that the first that is said of them has a name in it
        ring_buffer, tables = self._programs.losses()
        records.append(Losses(time.monotonic_ns(), ring_buffer, tables))
        return records

    def forget_owners(self) -> None:
        """The next scan looks for the holders of descriptors, however lately that was done."""
        self._owners_ns = 0

    def _scan_sockets(self, records: list[Record]) -> list[SockState]:
        started = time.monotonic_ns()
        found = namespaces.discover()
        seen = frozenset(found)
        records.append(ScanStarted(started, seen))
        socks = []
        scanned = set()
        self.walked_s = 0.0
        for inode, namespace in found.items():
            began = time.thread_time()
            try:
                with namespaces.entered(namespace):
                    data = self._sockets.read()
            except OSError:
                continue  # it ended meanwhile, or we may not enter it: then it was not scanned
            self.walked_s += time.thread_time() - began
            scanned.add(inode)
            for record in decode_all(data, self._reasons):
                records.append(record)
                if isinstance(record, Socket):
                    socks.append(record.sock)
        established = self._programs.take_scanned()
        records.append(ScanEnded(time.monotonic_ns(), started, frozenset(scanned), established))
        return socks

    def _scan_owners(self, records: list[Record], socks: Collection[SockState]) -> None:
        now = time.monotonic_ns()
        if not socks and not self._holders:
            return  # nobody to look for, and nobody was
        if now - self._owners_ns < OWNERS_EVERY_NS and all(sock.sk in self._holders for sock in socks):
            return
        self._owners_ns = now
        self._holders = holders = dict.fromkeys((sock.sk for sock in socks), _NOBODY)
        alone: dict[int, frozenset[int]] = {}  # most sockets have one holder, who has many: they share a set
        for record in decode_all(self._owners.read(), self._reasons):
            records.append(record)
            if isinstance(record, Holder):
                one = alone.get(record.tgid) or alone.setdefault(record.tgid, frozenset((record.tgid,)))
                others = holders.get(record.sk)
                holders[record.sk] = others | one if others else one
        records.append(OwnersScanned(time.monotonic_ns(), now))

    def _scan_processes(self, socks: Iterable[SockState]) -> Iterator[Record]:
        now = time.monotonic_ns()
        pids: set[int] = set()
        threads: dict[tuple[int, int], None] = {}
        holders = self._holders
        for found in dict.fromkeys(
            (holders.get(sock.sk, _NOBODY), sock.reader_tgid, sock.reader_tid, sock.creator_tgid) for sock in socks
        ):
            held_by, reader, thread, creator = found
            pids |= held_by | ({reader, creator} - {0})
            # the thread that read last; without one the main thread of the holder, which may be its only one
            if reader and (reader in held_by or not held_by):
                threads[reader, thread] = None
            elif len(held_by) == 1:
                threads |= dict.fromkeys((pid, pid) for pid in held_by)
        for pid in pids:
            process = self._processes.get(pid, now)
            yield process if process is not None else ProcessGone(now, pid)
        for pid in self._named - pids:
            self._processes.forget(pid)
        self._named = pids
        for pid, tid in list(threads)[:THREADS_AT_MOST]:
            task = procfs.thread(pid, tid, now)
            yield task if task is not None else ThreadGone(now, pid, tid)


@contextmanager
def _no_garbage() -> Iterator[None]:
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
