"""The way of a record from the ring buffer's bytes to a line in a file, in process and on one core; and what it keeps."""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import orjson

from tests.bench.figures import Figure
from tests.bench.progress import Progress
from tests.builders import HZ, NETNS, START, jiffies, peer_closed, sock
from tracer.events.records import Calibrated, Holder, OwnersScanned, Process, SockState, TcpState
from tracer.events.wire import ACTOR, DETAIL, HEADER, KIND_NAMES, SOCK_STATE, decode
from tracer.export.ecs import Documents
from tracer.export.sinks.fanout import Fanout
from tracer.export.sinks.file import File, Rotation
from tracer.export.sinks.sink import Sink
from tracer.model.tracker import Tracker

CONNECTIONS = 1000
REASONS = {1: "NO_SOCKET", 2: "TCP_ABORT_ON_CLOSE"}
MICROSECOND = 1_000
CHUNK = 1000
"""Records that the ring buffer gives at a time, in a storm."""


def measure(rounds: int, millions: float, progress: Progress) -> Iterator[Figure]:
    """Each stream of records for its speed; the storm for so many millions of records for its memory."""
    number = 60_000
    pin = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(pin)})
    try:
        progress.say("lines")
        yield Figure("a line made of a notice", "µs", [_line_us(number) for _ in range(rounds)], 15)
        for name, records in (
            ("reads of a closed window: a line at the first", _reads),
            ("probes: a line each", _probes),
            ("connections that are reset: 3 lines to 4 records", _resets),
        ):
            progress.say(name)
            runs = [_Pipeline().run(records(), number) for _ in range(rounds)]
            each = [1e6 * seconds / number for seconds, _ in runs]
            yield Figure(f"{name}: a record, from bytes to the file", "µs", each, 1e6 / 60_000)
            yield Figure("  of these lost", "lines", [float(lost) for _, lost in runs], 0)
        progress.say("memory")
        yield Figure(f"memory, end of {millions:g} million records against the first tenth", "MB", list(_memory(millions)), 4)
    finally:
        os.sched_setaffinity(0, pin)


class _Pipeline:
    """Decoder, model, documents and a file, as `tcptrace record` has them."""

    def __init__(self) -> None:
        self.tracker = Tracker()
        self._directory = tempfile.TemporaryDirectory(prefix="tcptrace-bench-")
        path = Path(self._directory.name) / "events.ndjson"
        self._sink = Sink(File(str(path), Rotation(size=64 << 20, keep=1)), 64 << 20, print)
        self._fanout = Fanout(Documents("bench", 0, samples=True), [self._sink], print)
        self._sink.start()
        for record in _introduction():
            self.tracker.feed(record)

    def run(self, records: Iterator[bytes], number: int) -> tuple[float, int]:
        """So many records, all written: CPU seconds of all threads, and lines lost."""
        data = list(islice(records, number))
        before = time.process_time()
        self.feed(data)
        lost = self.close()
        return time.process_time() - before, lost

    def feed(self, data: Sequence[bytes]) -> None:
        """As session.watch does, but for the waiting."""
        tracker, fanout = self.tracker, self._fanout
        for at in range(0, len(data), CHUNK):
            for one in data[at : at + CHUNK]:
                fanout.take(tracker.feed(decode(one, REASONS)))
            while self._sink.behind:
                time.sleep(0.001)  # so many a second come from no kernel: a disk is waited for

    def close(self) -> int:
        """Writes what waits; how many lines were lost."""
        self._fanout.close(30)
        self._directory.cleanup()
        return self._sink.lost


def _introduction() -> Iterator[Calibrated | Holder | OwnersScanned | Process]:
    yield Calibrated(START, jiffies(START), HZ)
    for number in range(CONNECTIONS):
        yield Holder(START, _sk(number), 1, 4242, number, NETNS, "bench")
    yield OwnersScanned(START, START)
    yield Process(START, 4242, "bench", "/usr/bin/bench", "bench --connections 1000", None)


def _sk(number: int) -> int:
    return 0xFFFF888000000000 + number * 64


def _peer(number: int) -> tuple[str, int]:
    return f"10.1.{number >> 8 & 255}.{number & 255}", 1024 + number % 60_000


def _record(kind: str, ns: int, state: SockState, first: int = 0, second: int = 0) -> bytes:
    body = ACTOR.pack(4242, 4243, b"bench") + SOCK_STATE.pack(*state) + DETAIL.pack(first, second)
    return HEADER.pack(KIND_NAMES.index(kind), HEADER.size + len(body), ns) + body


def _stalled() -> list[SockState]:
    return [peer_closed(START, sk=_sk(number), peer=_peer(number)) for number in range(CONNECTIONS)]


def _reads() -> Iterator[bytes]:
    """Readers that take a little at a time out of full queues."""
    states = [
        sock(START, sk=_sk(number), peer=_peer(number), rcv_nxt=400_000, rcv_wup=400_000, rcv_wnd=0)
        for number in range(CONNECTIONS)
    ]
    turn = 0
    while True:
        for state in states:
            turn += 1
            yield _record("read", START + turn * MICROSECOND, state._replace(copied_seq=1000 + turn // 1000, reader_tgid=4242))


def _probes() -> Iterator[bytes]:
    """Zero-window probes to peers that do not read."""
    states, turn = _stalled(), 0
    while True:
        for state in states:
            turn += 1
            yield _record("timer", START + turn * MICROSECOND, state, 2, turn // CONNECTIONS + 1)


def _resets() -> Iterator[bytes]:
    """Connections that are closed with unread data, each a new one."""
    turn = 0
    while True:
        turn += 4
        ns = START + turn * MICROSECOND
        state = sock(START, sk=_sk(turn), peer=_peer(turn // 4), rcv_nxt=2000)
        closed = state._replace(state=TcpState.CLOSE, shutdown=3)
        yield _record("window", ns, state, 2, 0)
        yield _record("reset-sent", ns + MICROSECOND, closed, 2, 1 | 4)
        yield _record("state", ns + 2 * MICROSECOND, state, TcpState.ESTABLISHED, TcpState.CLOSE)
        yield _record("destroyed", ns + 3 * MICROSECOND, closed)


def _line_us(number: int) -> float:
    tracker, documents = Tracker(), Documents("bench", 0, samples=True)
    for record in _introduction():
        tracker.feed(record)
    notices = [one for data in islice(_probes(), 2 * CONNECTIONS) for one in tracker.feed(decode(data, REASONS))]
    before = time.process_time()
    for at in range(number):
        orjson.dumps(documents.notice(notices[at % len(notices)]), option=orjson.OPT_APPEND_NEWLINE)
    return 1e6 * (time.process_time() - before) / number


def _memory(millions: float) -> Iterator[float]:
    number = round(millions * 1e6)
    pipeline, records = _Pipeline(), _resets()
    sizes = []
    for _ in range(10):
        for _ in range(-(-number // 10 // CHUNK)):
            pipeline.feed(list(islice(records, CHUNK)))
        sizes.append(_resident_mb())
    yield sizes[-1] - sizes[0]
    pipeline.close()


def _resident_mb() -> float:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    assert found is not None
    return int(found[1]) / 1000
