"""How cost grows with connections and with suspects: the scan beside ss and netstat, CPU and memory of the live table."""

from __future__ import annotations

import os
import pty
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from typing import Final

from tests.bench.crowd import Crowd
from tests.bench.figures import Figure
from tests.bench.observers import cpu_s, memory_mb
from tests.bench.progress import Progress
from tests.lab import hosts
from tests.lab.hosts import Host
from tests.lab.trace import ROOT, tcptrace
from tracer.cli.options import Filters
from tracer.cli.tracing import Tracing, attached
from tracer.events.wire import HEADER, KIND_NAMES
from tracer.kernel import namespaces
from tracer.kernel.iterators import Iterator as KernelIterator
from tracer.model.selection import Selection
from tracer.sources.scanner import Scanner

SS: Final = ("ss", "-tnpieomH")
NETSTAT: Final = ("netstat", "-tnop")
SIZES: Final = (1_000, 10_000, 96_000)
STALLED: Final = (100, 1_000)
WATCHED_S: Final = 8.0
SETTLE_S: Final = 4.0


def measure(rounds: int, progress: Progress, most: int = SIZES[-1]) -> Iterator[Figure]:
    """Grows a crowd of idle connections, then lets some of them stall."""
    with ExitStack() as stack:
        host = stack.enter_context(hosts.alone())
        crowd = Crowd(host, stack, progress)
        for size in [size for size in SIZES if size < most] + [most]:
            crowd.grow(size)
            yield from _scans(host, crowd.sockets, rounds, progress, last=size == most)
            yield from _watched(f"{crowd.sockets:,} idle connections", host, progress, 5.0 if size == most else None)
        before = 0
        for stalled in STALLED:
            crowd.stall(stalled - before)
            before = stalled
            yield from _suspects(host, crowd.sockets, stalled, progress, last=stalled == STALLED[-1])


def _scans(host: Host, sockets: int, rounds: int, progress: Progress, *, last: bool) -> Iterator[Figure]:
    with attached(Filters((), Selection())) as tracing:
        scanner = Scanner(tracing.programs, tracing.layout.reasons)
        ours: list[float] = []
        peers: dict[str, list[float]] = {"ss -tnpieom": [], "netstat -tnop": []}
        for number in range(rounds):
            progress.say(f"{sockets:,} sockets, round {number + 1} of {rounds}")
            ours.append(_scan(scanner))
            peers["ss -tnpieom"].append(_run(host, SS))
            if number < 2:
                peers["netstat -tnop"].append(_run(host, NETSTAT))
        copied = _copied(tracing, host)
        scanner.close()
    beats = {"ss -tnpieom": 10.0} if last else {}
    yield Figure(f"{sockets:,} sockets scanned with owners, all healthy", "s", ours, peers=peers, beats=beats)
    yield Figure(f"{sockets:,} sockets: bytes copied of healthy ones", "B", [float(copied)], 0.0)
    if last:
        with attached(Filters((), Selection(everything=True))) as tracing:
            scanner = Scanner(tracing.programs, tracing.layout.reasons)
            whole = [_scan(scanner) for _ in range(max(2, rounds // 2))]
            scanner.close()
        name = f"{sockets:,} sockets scanned with owners, every one decoded (--all)"
        yield Figure(name, "s", whole, peers={"ss -tnpieom": peers["ss -tnpieom"]}, beats={"ss -tnpieom": 10.0})


def _watched(name: str, host: Host, progress: Progress, most: float | None) -> Iterator[Figure]:
    progress.say(f"watch, {name}")
    shares, memory, _ = _table()
    ss = [100 * _run(host, SS)]
    yield Figure(f"CPU of watch, {name}, interval 1 s", "%", shares, most, peers={"ss -tnpieom each second": ss})
    yield Figure(f"memory of watch, {name}", "MB", [memory])


def _suspects(host: Host, sockets: int, stalled: int, progress: Progress, *, last: bool) -> Iterator[Figure]:
    name = f"{sockets:,} connections, {stalled:,} stalled (both their ends)"
    progress.say(f"watch, {name}")
    with attached(Filters((), Selection())) as tracing:
        scanner = Scanner(tracing.programs, tracing.layout.reasons)
        scans = [_scan(scanner) for _ in range(3)]
        scanner.close()
    yield Figure(f"scan, {name}", "s", scans, peers={"ss -tnpieom": [_run(host, SS)]})
    shares, memory, frames = _table()
    yield Figure(f"CPU of watch, {name}, interval 1 s", "%", shares)
    yield Figure(f"memory of watch, {name}", "MB", [memory], 180.0 if last else None)
    yield Figure("  between two frames of its table", "s", frames)


def _scan(scanner: Scanner) -> float:
    scanner.forget_owners()
    began = time.perf_counter()
    scanner.scan()
    return time.perf_counter() - began


def _copied(tracing: Tracing, host: Host) -> int:
    """What one run of iter/tcp in the host's namespace writes of sockets that do not listen."""
    iterator = KernelIterator(tracing.programs.bpf, "tcp")
    try:
        with namespaces.entered(host.namespace):
            data = iterator.read()
    finally:
        iterator.close()
    copied = at = 0
    while at < len(data):
        kind, size, _ns = HEADER.unpack_from(data, at)
        copied += size if KIND_NAMES[kind] == "socket" else 0
        at += size
    return copied


def _run(host: Host, command: tuple[str, ...]) -> float:
    began = time.perf_counter()
    subprocess.run(
        ["ip", "netns", "exec", host.name, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True
    )
    return time.perf_counter() - began


def _table() -> tuple[list[float], float, list[float]]:
    """The live table on a terminal: CPU shares by second in %, the most memory in MB, seconds between frames."""
    with on_terminal("watch") as (child, frames):
        time.sleep(SETTLE_S)
        shares = []
        used, at, seen = cpu_s(child.pid), time.monotonic(), len(frames)
        for _ in range(int(WATCHED_S) // 2):
            time.sleep(2)
            more, now = cpu_s(child.pid), time.monotonic()
            shares.append(100 * (more - used) / (now - at))
            used, at = more, now
        drawn = frames[seen:]
        gaps = [later - one for one, later in pairwise(drawn)]
        return shares, memory_mb(child.pid, "VmHWM"), gaps or [WATCHED_S]


@contextmanager
def on_terminal(*arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], list[float]]]:
    """tcptrace on a terminal of 200 columns, and when it drew: a frame begins where nothing was written for a while."""
    terminal, child_end = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "200", "LINES": "50"}
    child = subprocess.Popen(
        tcptrace(*arguments), cwd=ROOT, stdin=child_end, stdout=child_end, stderr=child_end, env=environment
    )
    os.close(child_end)
    frames: list[float] = []
    reader = threading.Thread(target=_read, args=(terminal, frames), daemon=True)
    reader.start()
    try:
        yield child, frames
    finally:
        child.terminate()
        child.wait()
        reader.join(5)
        os.close(terminal)


def _read(terminal: int, frames: list[float]) -> None:
    last = 0.0
    while True:
        try:
            if not os.read(terminal, 1 << 16):
                return
        except OSError:
            return  # the other end is closed
        now = time.monotonic()
        if now - last > 0.05:
            frames.append(now)
        last = now
