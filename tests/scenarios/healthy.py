"""Connections that are well: bulk, bursts, pauses, silence, half-closed. Of none of them may there be an alarm."""

from __future__ import annotations

import threading
import time
from queue import SimpleQueue
from typing import Final

from tests.lab.actor import Actor
from tests.lab.hosts import Host
from tests.lab.segments import Segment
from tests.scenarios.scenario import Lab, Truth, now, scenario
from tests.scenarios.steps import connect_to, keepalive, remote

DRAIN: Final = "while s.recv(65536): pass"
SEND_FOR: Final = """
end = time.monotonic() + {seconds}
while time.monotonic() < end:
    s.sendall(bytes({size}))
    time.sleep({pause})
"""


@scenario
def bulk_that_drains(lab: Lab) -> Truth:
    """As fast as both ends can, with buffers that the kernel tunes."""
    _, there, client, server = lab.two()
    port = lab.connect(client, server, there.ip, size=0)
    server.begin(DRAIN, "reader")
    client.do("for _ in range(100): s.sendall(bytes(1 << 20))")
    client.do("time.sleep(0.3)")
    return Truth(port, quiet=True)


@scenario
def bulk_with_small_buffers(lab: Lab) -> Truth:
    """Its window is often used up, and opens again at once."""
    _, there, client, server = lab.two()
    lab.connect(client, server, there.ip, size=4096)
    server.begin(DRAIN, "reader")
    client.do(SEND_FOR.format(seconds=3, size=65536, pause=0.01))
    return Truth(lab.port, quiet=True)


@scenario
def slow_start_on_a_long_path(lab: Lab) -> Truth:
    """Much waits to be sent while the congestion window grows, a round trip of 200 ms at a time: that is nobody's fault."""
    _, client, far = remote(lab)
    line: SimpleQueue[tuple[float, Segment] | None] = SimpleQueue()

    def carry() -> None:
        while item := line.get():
            time.sleep(max(0.0, item[0] - now()))
            far.room = 1 << 20
            far.behave(item[1])

    far.answer = lambda got: line.put((now() + 0.2, got))
    thread = threading.Thread(target=carry, daemon=True)
    thread.start()
    try:
        port = connect_to(lab, client, far)
        client.do("s.sendall(bytes(1 << 20)); time.sleep(0.7)")  # so that nothing is on its way when the line ends
    finally:
        line.put(None)
        thread.join()
    return Truth(port, quiet=True)


@scenario
def a_narrow_path(lab: Lab) -> Truth:
    """8 Mbit/s: the sender's queue is always full, the reader's always empty."""
    here, there, client, server = lab.two()
    _shape(here, "tbf", "rate", "8mbit", "burst", "16kb", "latency", "100ms")
    port = lab.connect(client, server, there.ip, size=0)
    server.begin(DRAIN, "reader")
    client.do("end = time.monotonic() + 4\nwhile time.monotonic() < end: s.sendall(bytes(16384))")
    return Truth(port, quiet=True)


@scenario
def a_path_that_loses_a_little(lab: Lab) -> Truth:
    """One segment of a hundred is lost: fast retransmissions, and no end in sight."""
    _, there, client, server = lab.two()
    port = lab.connect(client, server, there.ip, size=0)
    server.begin(DRAIN, "reader")
    there.drop(f"tcp dport {lab.port} numgen random mod 100 < 1")
    client.do(SEND_FOR.format(seconds=3, size=65536, pause=0.02))
    return Truth(port, quiet=True)


@scenario
def bursts_to_a_busy_reader(lab: Lab) -> Truth:
    """Bursts larger than the window; the reader works 2 ms on each piece, and is done long before the next one."""
    _, there, client, server = lab.two()
    lab.connect(client, server, there.ip)
    server.begin("while s.recv(8192): time.sleep(0.002)", "reader")
    client.do(SEND_FOR.format(seconds=4, size=300_000, pause=0.5))
    client.do("time.sleep(0.3)")
    return Truth(lab.port, quiet=True)


@scenario
def a_reader_that_pauses(lab: Lab) -> Truth:
    """Small messages all the time, and a reader that looks every half second."""
    _, there, client, server = lab.two()
    lab.connect(client, server, there.ip)
    server.begin("while s.recv(65536): time.sleep(0.5)", "reader")
    client.do(SEND_FOR.format(seconds=5, size=100, pause=0.05))
    return Truth(lab.port, quiet=True)


@scenario
def a_reader_that_never_rests(lab: Lab) -> Truth:
    """The sender is always ahead, the window opens and closes, but what waits is read within milliseconds."""
    _, there, client, server = lab.two()
    lab.connect(client, server, there.ip)
    server.begin("while s.recv(4096): time.sleep(0.001)", "reader")
    client.do("end = time.monotonic() + 4\nwhile time.monotonic() < end: s.sendall(bytes(16384))")
    return Truth(lab.port, quiet=True)


@scenario
def idle(lab: Lab) -> Truth:
    """Nothing happens."""
    _, there, client, server = lab.two()
    port = lab.connect(client, server, there.ip)
    client.do("time.sleep(3)")
    return Truth(port, quiet=True)


@scenario
def idle_with_keepalive(lab: Lab) -> Truth:
    """Nothing but probes from either side, which are answered."""
    _, there, client, server = lab.two()
    port = lab.connect(client, server, there.ip)
    client.do(keepalive(1, 1, 2))
    server.do(keepalive(1, 1, 2))
    client.do("time.sleep(4)")
    return Truth(port, quiet=True)


@scenario
def receive_buffer_changed(lab: Lab) -> Truth:
    """SO_RCVBUF shrinks and grows while data flows and is read."""
    _, there, client, server = lab.two()
    lab.connect(client, server, there.ip, size=0)
    server.begin(DRAIN, "reader")
    client.begin(SEND_FOR.format(seconds=4, size=20_000, pause=0.005), "sender")
    server.do("for size in (2304, 200000, 4096, 1 << 20) * 2: s.setsockopt(1, socket.SO_RCVBUF, size); time.sleep(0.5)")
    return Truth(lab.port, quiet=True)


@scenario
def half_closed_by_the_client(lab: Lab) -> Truth:
    """The client has said all it had to; the answer takes its time and is read."""
    _, there, client, server = lab.two()
    lab.connect(client, server, there.ip)
    client.do("s.sendall(b'question'); s.shutdown(socket.SHUT_WR)")
    server.do("while s.recv(65536): pass")
    client.begin(DRAIN, "reader")
    server.do(SEND_FOR.format(seconds=3, size=5000, pause=0.1))
    return Truth(lab.port, quiet=True)


@scenario
def half_closed_by_the_server(lab: Lab) -> Truth:
    """The other way round, seen from the end that sends on."""
    _, there, client, server = lab.two()
    port = lab.connect(client, server, there.ip)
    server.do("s.shutdown(socket.SHUT_WR)")
    server.begin(DRAIN, "reader")
    client.do(SEND_FOR.format(seconds=3, size=5000, pause=0.1))
    return Truth(port, quiet=True)


@scenario
def half_closed_and_idle(lab: Lab) -> Truth:
    """One end closed its side, the other keeps its own open and says nothing: CLOSE_WAIT is a leak perhaps, not a stall."""
    _, there, client, server = lab.two()
    lab.connect(client, server, there.ip)
    client.do("s.shutdown(socket.SHUT_WR); time.sleep(3)")
    return Truth(lab.port, quiet=True)


@scenario
def ping_pong(lab: Lab) -> Truth:
    """Question and answer, thousands of times."""
    _, there, client, server = lab.two()
    port = lab.connect(client, server, there.ip)
    server.begin("while data := s.recv(100): s.sendall(data)", "echo")
    client.do("end = time.monotonic() + 3\nwhile time.monotonic() < end: s.sendall(bytes(100)); s.recv(100); time.sleep(0.001)")
    return Truth(port, quiet=True)


@scenario
def an_answer_that_takes_its_time(lab: Lab) -> Truth:
    """The question is read at once and answered after two seconds."""
    _, there, client, server = lab.two()
    port = lab.connect(client, server, there.ip)
    server.begin("s.recv(100); time.sleep(2); s.sendall(b'answer')", "worker")
    client.do("s.sendall(b'question'); s.recv(100)")
    return Truth(port, quiet=True)


@scenario
def many_short_connections(lab: Lab) -> Truth:
    """One after the other: a request, an answer, an end."""
    _, there, client, server = lab.two()
    _serve(server, there, lab.port)
    client.do(f"""
end = time.monotonic() + 3
while time.monotonic() < end:
    with socket.create_connection(({there.ip!r}, {lab.port})) as s:
        s.sendall(b"question"); s.recv(100); s.recv(1)
    time.sleep(0.005)
""")
    return Truth(lab.port, quiet=True)


def _serve(server: Actor, host: Host, port: int) -> None:
    server.do(f"l = socket.create_server(({host.ip!r}, {port}), backlog=100)")
    server.begin("while True:\n    with l.accept()[0] as c: c.recv(100); c.sendall(b'answer')", "server")


def _shape(host: Host, *rule: str) -> None:
    """Puts a queueing discipline on the host's link."""
    host.run("tc", "qdisc", "add", "dev", _device(host), "root", *rule)


def _device(host: Host) -> str:
    return host.run("ip", "-o", "-4", "address", "show", "to", host.ip).split()[1]
