"""From the closing of a window to the screen and to the event stream."""

from __future__ import annotations

import datetime as dt
import os
import pty
import select
import subprocess
import time
from collections.abc import Iterator

from tests.bench.figures import Figure
from tests.bench.progress import Progress
from tests.lab import hosts, witness
from tests.lab.actor import Actor, actor
from tests.lab.hosts import Host
from tests.lab.trace import ROOT, tcptrace, watching

PORT = 7643
STALLS = 15
"""For a quantile there must be many."""


def measure(rounds: int, progress: Progress) -> Iterator[Figure]:
    """Makes readers stop, one connection after the other."""
    with hosts.pair() as (here, there), actor(here, "lab-client") as client, actor(there, "lab-server") as server:
        progress.say("the stream")
        stream = list(_stream(client, server, there, rounds * STALLS))
        yield Figure("stall to its JSON line", "ms", stream, 50.0, share=0.99)
        progress.say("the table")
        yield Figure("stall to the table, interval 1 s", "s", list(_screen(client, server, there, rounds)), 1.0)


def _stream(client: Actor, server: Actor, there: Host, rounds: int) -> Iterator[float]:
    """Against the time of the kernel event that the line carries."""
    with watching("--port", str(PORT)) as trace:
        offset = time.time() - time.monotonic()
        for number in range(rounds):
            port = _stall(client, server, there, f"j{number}")
            closed = trace.wait("window-closed", port)
            happened = dt.datetime.fromisoformat(closed["@timestamp"].replace("Z", "+00:00")).timestamp()
            yield (closed["arrived"] + offset - happened) * 1000
            server.do(f"j{number}.close()")
            client.do(f"j{number}.close()")


def _screen(client: Actor, server: Actor, there: Host, rounds: int) -> Iterator[float]:
    """Against the moment at which the kernel counted that it advertised a closed window."""
    for number in range(rounds):
        terminal, child_end = pty.openpty()
        child = subprocess.Popen(
            tcptrace("watch", "--port", str(PORT)),
            cwd=ROOT,
            stdin=child_end,
            stdout=child_end,
            stderr=child_end,
            env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"},
        )
        os.close(child_end)
        try:
            _until(terminal, b"nothing heads toward")
            time.sleep(0.3 * (number % 4))  # at any moment of an interval
            before = witness.counters(server)
            job = client.begin(_STALL_CODE.format(there=there.ip, port=PORT, name=f"t{number}"), thread="writer")
            _accept(server, f"t{number}")
            while not witness.risen(before, witness.counters(server), "TcpExtTCPToZeroWindowAdv"):
                time.sleep(0.001)
            closed = time.monotonic()
            _until(terminal, b"lab-server")
            yield time.monotonic() - closed
            client.finish(job)
        finally:
            child.terminate()
            child.wait()
            os.close(terminal)
        server.do(f"t{number}.close()")
        client.do(f"t{number}.close()")


_STALL_CODE = """
time.sleep(0.2)
{name} = socket.socket()
{name}.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32768)
{name}.connect(({there!r}, {port}))
{name}.send(b'hello')
time.sleep(0.1)
{name}.setblocking(False)
for _ in range(20):
    try: {name}.send(bytes(65536))
    except BlockingIOError: time.sleep(0.01)
answer = {name}.getsockname()[1]
"""


def _stall(client: Actor, server: Actor, there: Host, name: str) -> int:
    job = client.begin(_STALL_CODE.format(there=there.ip, port=PORT, name=name), thread="writer")
    _accept(server, name)
    port = client.finish(job)
    assert isinstance(port, int)
    return port


def _accept(server: Actor, name: str) -> None:
    server.do(
        "l = socket.socket(); l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1);"
        f"l.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768); l.bind(('', {PORT})); l.listen()"
    )
    server.do(f"{name}, _ = l.accept(); l.close(); {name}.recv(5)", thread="slow-reader")


def _until(terminal: int, wanted: bytes, seconds: float = 15.0) -> None:
    seen, deadline = b"", time.monotonic() + seconds
    while wanted not in seen:
        if not select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise AssertionError(f"{wanted!r} did not appear")
        seen += os.read(terminal, 65536)
